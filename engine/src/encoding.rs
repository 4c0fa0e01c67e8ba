//! The canonical encoding: postcard, in exactly the bytes that the engine itself would write.
//!
//! Postcard has several encodings of some values (a number of variable length may carry zeros that add
//! nothing), and its readers ignore bytes after the end. Files and bodies are named and told apart by
//! their bytes, so every reader here accepts one encoding of a value only.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Cut off, with bytes after the end, or not a value of the type.
    Malformed,
    /// A value, but not in its canonical encoding.
    NotCanonical,
}

/// Reads the whole of `bytes` as one value in its canonical encoding.
pub(crate) fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let (value, rest): (T, _) = postcard::take_from_bytes(bytes).map_err(|_| Fault::Malformed)?;
    if !rest.is_empty() {
        return Err(Fault::Malformed);
    }
    if encodes_to(&value, bytes) { Ok(value) } else { Err(Fault::NotCanonical) }
}

/// Returns whether a value's encoding is `bytes`, without a copy of either.
fn encodes_to<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    postcard::serialize_with_flavor(value, Comparison { expected: bytes }).is_ok_and(|same| same)
}

/// Compares what is written with what is expected.
struct Comparison<'a> {
    expected: &'a [u8],
}

impl Flavor for Comparison<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.expected = self.expected.strip_prefix(bytes).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.expected.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, read};

    type Value = (u32, Vec<u8>, String);

    #[test]
    fn one_encoding_of_a_value_is_read() {
        let value = (5u32, vec![1u8, 2], "a".to_owned());
        let bytes = postcard::to_allocvec(&value).unwrap();
        assert_eq!(read::<Value>(&bytes), Ok(value));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(read::<Value>(&longer), Err(Fault::Malformed), "a byte after the end");
        let padded = [&[0x85, 0x00], &bytes[1..]].concat();
        assert_eq!(postcard::from_bytes::<Value>(&padded).unwrap().0, 5);
        assert_eq!(read::<Value>(&padded), Err(Fault::NotCanonical), "5 in two bytes");
        assert_eq!(read::<Value>(&bytes[..bytes.len() - 1]), Err(Fault::Malformed), "cut off");
    }
}
