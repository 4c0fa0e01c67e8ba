//! The Confluent wire format: a zero byte, the schema's id in four bytes, big end first, then what was written with
//! it. Protobuf has the path of the message within its file in between, as zigzag varints: how many, then each; a
//! single zero stands for the first message.

use crate::refusal::{Reason, Refusal};

/// Id of a schema in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

/// Bytes before what the schema describes.
const HEAD_BYTES: usize = 5;
/// Most messages on the path to one within others (choice: files nest a few deep).
const PATH_MAX: i64 = 16;

/// Splits a record into the id of its schema and what was written with it.
///
/// # Errors
/// [`Reason::Frame`].
pub fn split(value: &[u8]) -> Result<(SchemaId, &[u8]), Refusal> {
    let Some((head, rest)) = value.split_first_chunk::<HEAD_BYTES>() else {
        let message = format!("{} bytes, the head of a framed record has {HEAD_BYTES}", value.len());
        return Err(Refusal::new(Reason::Frame, message));
    };
    let [magic, id @ ..] = *head;
    if magic != 0 {
        return Err(Refusal::new(Reason::Frame, format!("the first byte is {magic}, a framed record has 0")));
    }
    Ok((SchemaId(u32::from_be_bytes(id)), rest))
}

/// Returns the head of a record.
pub fn head(id: SchemaId) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [0, a, b, c, d]
}

/// Splits the rest of a Protobuf record into the path of its message and the message.
///
/// # Errors
/// [`Reason::Frame`].
pub fn split_path(bytes: &[u8]) -> Result<(Vec<usize>, &[u8]), Refusal> {
    let wrong = || Refusal::new(Reason::Frame, "the path of the message is damaged");
    let mut rest = bytes;
    let count = zigzag(&mut rest).ok_or_else(wrong)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    if !(1..=PATH_MAX).contains(&count) {
        return Err(wrong());
    }
    let path = (0..count).map(|_| zigzag(&mut rest).and_then(|index| usize::try_from(index).ok()));
    let path: Option<Vec<usize>> = path.collect();
    Ok((path.ok_or_else(wrong)?, rest))
}

/// Reads a zigzag varint of ten bytes at most.
fn zigzag(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
