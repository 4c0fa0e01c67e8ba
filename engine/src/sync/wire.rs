//! The sync bodies: a fixed envelope that every client and server can read, and postcard inside.
//!
//! ```text
//! request  "NFSY"  format u16 LE  postcard { site, token, deltas, extensions }
//! reply    "NFSR"  format u16 LE  postcard { results, lineage, version, extensions }
//! ```
//!
//! The token stands in the body because beacons carry no headers. `extensions` is room for later:
//! a reader that does not know what is in it ignores it. `docs/wire-format.md` is normative.

use crate::encoding::{self, Fault};
use crate::error::{DecodeError, Refusal, WireError};
use crate::ids::{DeltaId, Lineage, ModelVersion};
use crate::limits::{DELTAS_MAX, SITE_BYTES_MAX, SYNC_BYTES_MAX, TOKEN_BYTES_MAX};
use crate::sync::delta::Delta;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The format that this engine writes and reads.
pub const FORMAT: u16 = 2;

const REQUEST_MAGIC: [u8; 4] = *b"NFSY";
const REPLY_MAGIC: [u8; 4] = *b"NFSR";

/// What a device sends: one delta or a small batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// The site that the device belongs to, 1 to 64 bytes.
    pub site: String,
    /// The device's token, opaque here, at most 64 bytes.
    pub token: Vec<u8>,
    /// Deltas, oldest first, at most 256.
    pub deltas: Vec<Delta>,
    /// Room for later formats; empty today.
    pub extensions: Vec<u8>,
}

/// What became of one delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Durable: it will be merged exactly once.
    Acknowledged,
    /// Known already; it is merged exactly once.
    Duplicate,
    /// Refused, finally.
    Refused(Refusal),
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncReply {
    /// One outcome for each delta sent.
    pub results: Vec<(DeltaId, Outcome)>,
    /// The current lineage.
    pub lineage: Lineage,
    /// The latest version.
    pub version: ModelVersion,
    /// Room for later formats; empty today.
    pub extensions: Vec<u8>,
}

/// Returns a request's bytes.
///
/// # Errors
/// [`WireError`] where a field or the whole is over its limit.
pub fn encode_request(request: &SyncRequest) -> Result<Vec<u8>, WireError> {
    let over = over_limit(request.site.len(), request.token.len(), request.deltas.len());
    if let Some((field, found, limit)) = over {
        return Err(WireError::Field { field, found, limit });
    }
    let bytes = encode(REQUEST_MAGIC, request);
    if bytes.len() > SYNC_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: bytes.len(), limit: SYNC_BYTES_MAX });
    }
    Ok(bytes)
}

/// Reads a request: size first, then magic and format, the limits of its fields before any of them is
/// copied, and the one canonical encoding only.
///
/// # Errors
/// [`DecodeError`] names what is wrong.
pub fn decode_request(bytes: &[u8]) -> Result<SyncRequest, DecodeError> {
    let body = strip_envelope(REQUEST_MAGIC, bytes)?;
    let head: ((&str, &[u8], u64), _) = encoding::read_first(body).map_err(refused)?;
    let (site, token, deltas) = head.0;
    let deltas = usize::try_from(deltas).unwrap_or(usize::MAX);
    match over_limit(site.len(), token.len(), deltas) {
        Some((field, found, limit)) => Err(DecodeError::Field { field, found, limit }),
        None => read(body),
    }
}

/// Returns the first field of a request that is over its limit: name, length, limit.
fn over_limit(site: usize, token: usize, deltas: usize) -> Option<(&'static str, usize, usize)> {
    let limits =
        [("site", site, SITE_BYTES_MAX), ("token", token, TOKEN_BYTES_MAX), ("deltas", deltas, DELTAS_MAX)];
    limits.into_iter().find(|(_, found, limit)| found > limit)
}

/// Returns a reply's bytes.
pub fn encode_reply(reply: &SyncReply) -> Vec<u8> {
    encode(REPLY_MAGIC, reply)
}

/// Reads a reply.
///
/// # Errors
/// [`DecodeError`] names what is wrong.
pub fn decode_reply(bytes: &[u8]) -> Result<SyncReply, DecodeError> {
    read(strip_envelope(REPLY_MAGIC, bytes)?)
}

/// Returns the bytes of one delta, as the log keeps them.
pub fn encode_delta(delta: &Delta) -> Vec<u8> {
    postcard::to_allocvec(delta).expect("a delta has no type that postcard refuses")
}

/// Reads one delta of the log.
///
/// # Errors
/// [`DecodeError::Malformed`] for anything else.
pub fn decode_delta(bytes: &[u8]) -> Result<Delta, DecodeError> {
    encoding::read(bytes).map_err(|_| DecodeError::Malformed)
}

fn encode<T: Serialize>(magic: [u8; 4], value: &T) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    postcard::to_extend(value, bytes).expect("a sync body has no type that postcard refuses")
}

fn strip_envelope(magic: [u8; 4], bytes: &[u8]) -> Result<&[u8], DecodeError> {
    if bytes.len() > SYNC_BYTES_MAX {
        return Err(DecodeError::TooLarge { bytes: bytes.len(), limit: SYNC_BYTES_MAX });
    }
    let body = bytes.strip_prefix(&magic).ok_or(DecodeError::Foreign)?;
    let (format, body) = body.split_first_chunk::<2>().ok_or(DecodeError::Malformed)?;
    let found = u16::from_le_bytes(*format);
    if found != FORMAT {
        return Err(DecodeError::UnknownFormat { found, known: FORMAT });
    }
    Ok(body)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    encoding::read(body).map_err(refused)
}

fn refused(fault: Fault) -> DecodeError {
    match fault {
        Fault::Malformed => DecodeError::Malformed,
        // Another encoding of the same delta would pass for another delta.
        Fault::NotCanonical => DecodeError::NotCanonical,
    }
}
