//! Device tokens: opaque, without identity; they prove only that this server issued them and until when
//! they hold.
//!
//! ```text
//! token   number of the key u8 | 16 random bytes | expiry u64 LE, ms | MAC 16 bytes
//! MAC     the first 16 bytes of BLAKE3 keyed with the device key, over the site and the rest
//! tag     the first 8 bytes of BLAKE3 keyed with the window key, over the token
//! row tag the first 4 bytes of BLAKE3 keyed with the key of a waiting row, over the token
//! ```
//!
//! Only tags stand beside a delta. The window key is replaced at every publish, and a row's key is destroyed
//! when the row has been published; so a device counts once a row, through crashes and across windows, and
//! nothing ties together the rows that it touched in different windows.

use std::fmt;

/// Length of a token, in bytes.
pub const TOKEN_BYTES: usize = 1 + 16 + 8 + MAC_BYTES;

const MAC_BYTES: usize = 16;

/// Number of the only key that there is today; room for rotation.
const KEY_NUMBER: u8 = 1;

/// Why a token was not taken. Nothing that came with it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not of a token's length, or of an unknown key.
    Malformed {
        /// Bytes found.
        bytes: usize,
    },
    /// The MAC does not match: from another server or site, or invented.
    Forged,
    /// Its time of validity is over.
    Expired {
        /// Its end, in milliseconds since 1970.
        until_ms: u64,
    },
}

impl TokenError {
    /// Returns a short stable name, for metrics and for callers' code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed { .. } => "token_malformed",
            Self::Forged => "token_forged",
            Self::Expired { .. } => "token_expired",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { bytes } => {
                write!(f, "device token has {bytes} bytes or an unknown key, a token has {TOKEN_BYTES}")
            }
            Self::Forged => write!(f, "device token was not made by this server for this site"),
            Self::Expired { until_ms } => write!(f, "device token expired at {until_ms}"),
        }
    }
}

impl std::error::Error for TokenError {}

/// Returns a token made of 16 random bytes, valid until `until_ms`.
pub fn issue(key: &[u8; 32], site: &str, random: [u8; 16], until_ms: u64) -> [u8; TOKEN_BYTES] {
    let mut token = [0; TOKEN_BYTES];
    token[0] = KEY_NUMBER;
    token[1..17].copy_from_slice(&random);
    token[17..25].copy_from_slice(&until_ms.to_le_bytes());
    let mac = mac(key, site, &token[..25]);
    token[25..].copy_from_slice(&mac);
    token
}

/// Checks a token.
///
/// # Errors
/// [`TokenError`] says what is wrong.
pub fn verify(key: &[u8; 32], site: &str, token: &[u8], now_ms: u64) -> Result<(), TokenError> {
    if token.len() != TOKEN_BYTES || token[0] != KEY_NUMBER {
        return Err(TokenError::Malformed { bytes: token.len() });
    }
    let (body, found) = token.split_at(25);
    // Every byte is compared, whatever the first difference: the time taken must not reveal how much matched.
    let difference = mac(key, site, body).iter().zip(found).fold(0, |all, (a, b)| all | (a ^ b));
    if difference != 0 {
        return Err(TokenError::Forged);
    }
    let mut until = [0; 8];
    until.copy_from_slice(&body[17..]);
    let until_ms = u64::from_le_bytes(until);
    if now_ms > until_ms {
        return Err(TokenError::Expired { until_ms });
    }
    Ok(())
}

/// Returns the number that stands for the token's device within one window.
pub fn tag(window_key: &[u8; 32], token: &[u8]) -> u64 {
    u64::from_le_bytes(keyed(window_key, token))
}

/// Returns the number that stands for the token's device at one row, until the row is published.
pub fn row_tag(row_key: &[u8; 32], token: &[u8]) -> u32 {
    u32::from_le_bytes(keyed(row_key, token))
}

fn keyed<const N: usize>(key: &[u8; 32], token: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&blake3::keyed_hash(key, token).as_bytes()[..N]);
    first
}

fn mac(key: &[u8; 32], site: &str, body: &[u8]) -> [u8; MAC_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    // The body has a fixed length, so no site and body can be mistaken for another pair.
    hasher.update(b"nearfield device token").update(body).update(site.as_bytes());
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&hasher.finalize().as_bytes()[..MAC_BYTES]);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn every_changed_byte_is_refused() {
        let token = issue(&KEY, "demo", [3; 16], 1000);
        assert_eq!(verify(&KEY, "demo", &token, 1000), Ok(()));
        for index in 0..TOKEN_BYTES {
            let mut changed = token;
            changed[index] ^= 1;
            assert!(verify(&KEY, "demo", &changed, 0).is_err(), "byte {index}");
        }
        assert_eq!(
            verify(&KEY, "demo", &token[1..], 0),
            Err(TokenError::Malformed { bytes: TOKEN_BYTES - 1 })
        );
        assert_eq!(verify(&KEY, "other", &token, 0), Err(TokenError::Forged));
        assert_eq!(verify(&[8; 32], "demo", &token, 0), Err(TokenError::Forged));
        assert_eq!(verify(&KEY, "demo", &token, 1001), Err(TokenError::Expired { until_ms: 1000 }));
    }

    #[test]
    fn a_tag_changes_with_the_window() {
        let token = issue(&KEY, "demo", [3; 16], 1000);
        assert_eq!(tag(&[1; 32], &token), tag(&[1; 32], &token));
        assert_ne!(tag(&[1; 32], &token), tag(&[2; 32], &token));
    }
}
