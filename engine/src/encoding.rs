//! The canonical encoding: postcard, in exactly the bytes that postcard itself would write.
//!
//! Postcard has several encodings of some values (a number of variable length may carry zeros that add
//! nothing), and its readers ignore bytes after the end. Files and bodies are named and told apart by
//! their bytes, so the reader here accepts one encoding of a value only. It is a fraction of the size of
//! postcard's in a page's module, too. The form is that of <https://postcard.jamesmunns.com/wire-format>.
//!
//! A map may have its keys in any order: none crosses a boundary.

use core::fmt;
use core::str;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Visitor};

/// Why bytes were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Cut off, with bytes after the end, or not a value of the type.
    Malformed,
    /// A value, but not in its canonical encoding.
    NotCanonical,
}

/// Reads the whole of `bytes` as one value in its canonical encoding.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let (value, rest) = read_first(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(Fault::Malformed) }
}

/// Reads one value in its canonical encoding, and returns it with what follows it.
pub(crate) fn read_first<'a, T: de::Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), Fault> {
    let mut reader = Reader { rest: bytes };
    let value = T::deserialize(&mut reader)?;
    Ok((value, reader.rest))
}

/// What is still to be read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Fault::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Fault::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    /// Reads a number of variable length that has at most so many bits: seven a byte, the lowest first.
    #[inline(never)]
    fn number(&mut self, bits: u32) -> Result<u64, Fault> {
        let mut number = 0;
        for shift in (0..bits).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // Bits beyond those that the number has.
            if shift + 7 > bits && part >> (bits - shift) != 0 {
                return Err(Fault::Malformed);
            }
            number |= part << shift;
            if byte < 0x80 {
                // A last byte that adds nothing.
                return if byte == 0 && shift > 0 { Err(Fault::NotCanonical) } else { Ok(number) };
            }
        }
        Err(Fault::Malformed)
    }

    /// Reads a signed number, whose sign is in the lowest bit.
    fn signed(&mut self, bits: u32) -> Result<i64, Fault> {
        let number = self.number(bits)?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Reads a length. It may be larger than all that is left, so it sets nothing aside.
    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.number(u64::BITS)?).map_err(|_| Fault::Malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        str::from_utf8(self.bytes()?).map_err(|_| Fault::Malformed)
    }

    fn flag(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::Malformed),
        }
    }
}

macro_rules! visits {
    ($($method:ident $visit:ident |$reader:ident| $read:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let $reader = self;
            visitor.$visit($read)
        })*
    };
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Fault;

    visits! {
        deserialize_bool visit_bool |reader| reader.flag()?;
        deserialize_u8 visit_u8 |reader| reader.byte()?;
        deserialize_u16 visit_u16 |reader| reader.number(16)? as u16;
        deserialize_u32 visit_u32 |reader| reader.number(32)? as u32;
        deserialize_u64 visit_u64 |reader| reader.number(64)?;
        deserialize_i8 visit_i8 |reader| reader.byte()? as i8;
        deserialize_i16 visit_i16 |reader| reader.signed(16)? as i16;
        deserialize_i32 visit_i32 |reader| reader.signed(32)? as i32;
        deserialize_i64 visit_i64 |reader| reader.signed(64)?;
        deserialize_f32 visit_f32 |reader| f32::from_le_bytes(reader.array()?);
        deserialize_f64 visit_f64 |reader| f64::from_le_bytes(reader.array()?);
        deserialize_str visit_borrowed_str |reader| reader.text()?;
        deserialize_string visit_borrowed_str |reader| reader.text()?;
        deserialize_bytes visit_borrowed_bytes |reader| reader.bytes()?;
        deserialize_byte_buf visit_borrowed_bytes |reader| reader.bytes()?;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.flag()? { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let left = self.length()?;
        visitor.visit_seq(Elements { reader: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Elements { reader: self, left: length })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let left = self.length()?;
        visitor.visit_map(Elements { reader: self, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self)
    }

    /// The bytes do not say what they hold.
    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::Malformed)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::Malformed)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::Malformed)
    }

    fn deserialize_char<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::Malformed)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Elements of a sequence, and keys and values of a map.
struct Elements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: usize,
}

impl<'de> Elements<'_, 'de> {
    /// Room to set aside: never more than bytes that are there.
    fn room(&self) -> Option<usize> {
        Some(self.left.min(self.reader.rest.len()))
    }

    fn next<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.room()
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.next(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.room()
    }
}

impl<'de> de::EnumAccess<'de> for &mut Reader<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let variant = self.number(32)? as u32;
        let value = seed.deserialize(de::IntoDeserializer::<Fault>::into_deserializer(variant))?;
        Ok((value, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Reader<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_tuple(self, length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self::Malformed
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are not the canonical encoding of such a value")
    }
}

impl core::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        small: (bool, u8, i8),
        unsigned: (u16, u32, u64),
        signed: (i16, i32, i64),
        floats: [f32; 2],
        double: f64,
        text: String,
        bytes: Vec<u8>,
        choice: Option<Choice>,
        choices: Vec<Choice>,
        unit: (),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Nothing,
        One(u64),
        Two(i32, String),
        Named { a: u8, b: Wrapped },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(u16);

    fn choice() -> impl Strategy<Value = Choice> {
        prop_oneof![
            Just(Choice::Nothing),
            any::<u64>().prop_map(Choice::One),
            (any::<i32>(), ".{0,8}").prop_map(|(a, b)| Choice::Two(a, b)),
            (any::<u8>(), any::<u16>()).prop_map(|(a, b)| Choice::Named { a, b: Wrapped(b) }),
        ]
    }

    fn everything() -> impl Strategy<Value = Everything> {
        let numbers = (any::<(bool, u8, i8)>(), any::<(u16, u32, u64)>(), any::<(i16, i32, i64)>());
        let floats = (any::<[f32; 2]>(), any::<f64>());
        let rest = (".{0,12}", any::<Vec<u8>>(), proptest::option::of(choice()));
        let choices = proptest::collection::vec(choice(), 0..5);
        (numbers, floats, rest, choices).prop_map(
            |((small, unsigned, signed), (floats, double), (text, bytes, choice), choices)| Everything {
                small,
                unsigned,
                signed,
                floats,
                double,
                text,
                bytes,
                choice,
                choices,
                unit: (),
            },
        )
    }

    proptest! {
        #[test]
        fn what_postcard_writes_is_read_and_what_it_reads_otherwise_is_not(
            value in everything(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let bytes = postcard::to_allocvec(&value).unwrap();
            prop_assert_eq!(read::<Everything>(&bytes).map(|read| postcard::to_allocvec(&read).unwrap()), Ok(bytes.clone()));
            let mut changed = bytes.clone();
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            // Postcard accepts more: what is read here is what it reads, and writes again as it was.
            let written = |value: &Everything| postcard::to_allocvec(value).unwrap();
            let expected = postcard::take_from_bytes::<Everything>(&changed).ok();
            let expected = expected.filter(|(value, rest)| rest.is_empty() && written(value) == changed);
            let found = read::<Everything>(&changed).ok();
            prop_assert_eq!(found.as_ref().map(written), expected.map(|(value, _)| written(&value)));
        }
    }

    #[test]
    fn maps_are_read() {
        let map = BTreeMap::from([(3u32, String::from("a")), (70_000, String::new())]);
        assert_eq!(read::<BTreeMap<u32, String>>(&postcard::to_allocvec(&map).unwrap()), Ok(map));
    }

    type Value = (u32, Vec<u8>, String);

    #[test]
    fn one_encoding_of_a_value_is_read() {
        let value = (5u32, alloc::vec![1u8, 2], String::from("a"));
        let bytes = postcard::to_allocvec(&value).unwrap();
        assert_eq!(read::<Value>(&bytes), Ok(value));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(read::<Value>(&longer), Err(Fault::Malformed), "a byte after the end");
        let padded = [&[0x85, 0x00], &bytes[1..]].concat();
        assert_eq!(postcard::from_bytes::<Value>(&padded).unwrap().0, 5);
        assert_eq!(read::<Value>(&padded), Err(Fault::NotCanonical), "5 in two bytes");
        assert_eq!(read::<Value>(&bytes[..bytes.len() - 1]), Err(Fault::Malformed), "cut off");
        assert_eq!(read::<u16>(&[0xff, 0xff, 0x07]), Err(Fault::Malformed), "17 bits");
        assert_eq!(read::<u64>(&[0xff; 11]), Err(Fault::Malformed), "no end");
    }
}
