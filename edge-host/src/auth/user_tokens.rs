//! Users' tokens: JSON Web Tokens (RFC 7519) that the site signs with ed25519 (`EdDSA`, RFC 8037), so that a page or
//! an app can call the edge for its own user and for nobody else.
//!
//! | claim | what it says |
//! |---|---|
//! | `sub` | the user |
//! | `aud` | the site |
//! | `exp` | until when it holds, in seconds since 1970-01-01 UTC; must be there |
//! | `nbf` | from when on, where it is there |
//! | `scope` | `read`, `write` or both, with a space between (default: both) |
//!
//! The file of keys has a public key on each line, 64 hex digits, after its name where the header's `kid` names one:
//!
//! ```text
//! # this year's, and last year's until its tokens have run out
//! 2026 d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
//! 2025 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c
//! ```

use super::{Principal, Scope};
use ed25519_dalek::{Signature, VerifyingKey};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, decode, decode_header, signature};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How far clocks may be apart, in seconds (choice).
const LEEWAY_S: u64 = 5;
/// Longest token, in bytes (choice: a name of 128 bytes and its signature take 500).
const TOKEN_BYTES_MAX: usize = 4096;

/// The keys that users' tokens are signed with.
#[derive(Clone, Debug)]
pub struct UserKeys(Vec<(Option<String>, DecodingKey)>);

/// Why a file of keys cannot be used.
#[derive(Debug)]
pub enum UserKeysError {
    /// The file cannot be read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line is no key.
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        number: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The file has no key.
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for UserKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Line { path, number, message } => write!(f, "{}:{number}: {message}", path.display()),
            Self::Empty { path } => write!(f, "{} has no key", path.display()),
        }
    }
}

impl std::error::Error for UserKeysError {}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds, which may have a fraction.
    #[serde(default)]
    exp: f64,
    #[serde(default)]
    scope: Option<String>,
}

impl UserKeys {
    /// Reads a file of public keys.
    ///
    /// # Errors
    /// [`UserKeysError`] names the file and the line.
    pub fn from_file(path: &Path) -> Result<Self, UserKeysError> {
        // Another edge of the process may have done it already.
        let _ = PROVIDER.install_default();
        let text = std::fs::read_to_string(path)
            .map_err(|error| UserKeysError::Io { path: path.to_owned(), error })?;
        let lines = text.lines().map(str::trim).enumerate();
        let keys = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(at, line)| {
                let number = at + 1;
                key(line).map_err(|message| UserKeysError::Line { path: path.to_owned(), number, message })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(UserKeysError::Empty { path: path.to_owned() });
        }
        Ok(Self(keys))
    }

    /// Returns the user that a token is for, if it holds; else what is wrong with it.
    pub(super) fn principal(&self, token: &str, site: &str) -> Result<Principal, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("it is longer than 4096 bytes");
        }
        let header = decode_header(token).map_err(|_| "it is no JSON Web Token")?;
        if header.alg != Algorithm::EdDSA {
            return Err("its algorithm is not EdDSA");
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["sub", "aud", "exp"]);
        validation.set_audience(&[site]);
        // A token that names its key is checked with that one alone.
        let named = |name: &Option<String>| header.kid.is_none() || *name == header.kid;
        let mut why = "no key of that name is known";
        for (_, key) in self.0.iter().filter(|(name, _)| named(name)) {
            match decode::<Claims>(token, key, &validation) {
                Ok(token) => return principal(token.claims),
                Err(error) => why = reason(error.kind()),
            }
            if why != "its signature is wrong" {
                break;
            }
        }
        Err(why)
    }
}

fn principal(Claims { sub, exp, scope }: Claims) -> Result<Principal, &'static str> {
    let scopes = match scope.as_deref() {
        None => vec![Scope::Read, Scope::Write],
        // What a user may never have is passed over, like what is not known.
        Some(names) => names
            .split_ascii_whitespace()
            .filter_map(Scope::of_name)
            .filter(|scope| matches!(scope, Scope::Read | Scope::Write))
            .collect(),
    };
    let until =
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs((exp as u64).saturating_add(LEEWAY_S)));
    // One that holds for longer than clocks count holds for a century, which outlives every stream.
    let until = until.unwrap_or_else(|| SystemTime::now() + Duration::from_secs(100 * 365 * 24 * 60 * 60));
    Ok(Principal::User { user: sub, scopes, until })
}

fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::ExpiredSignature => "it has run out",
        ErrorKind::ImmatureSignature => "it does not hold yet",
        ErrorKind::InvalidAudience => "it is for another site",
        ErrorKind::MissingRequiredClaim(_) => "a claim of sub, aud, exp is missing",
        _ => "it cannot be read",
    }
}

/// Reads one line of a file of keys.
fn key(line: &str) -> Result<(Option<String>, DecodingKey), String> {
    let (name, digits) = match line.split_once(char::is_whitespace) {
        Some((name, digits)) => (Some(name.to_owned()), digits.trim()),
        None => (None, line),
    };
    let bytes: Option<Vec<u8>> = (digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| (0..32).filter_map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()).collect());
    let bytes = bytes
        .ok_or_else(|| format!("a public key has 64 hex digits, this has {} characters", digits.len()))?;
    verifying_key(&bytes).ok_or("the digits are no ed25519 key")?;
    Ok((name, DecodingKey::from_ed_der(&bytes)))
}

fn verifying_key(bytes: &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()
}

/// The one algorithm that users' tokens have, by the crate that checks manifests, too.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _: &EncodingKey| -> Result<Box<dyn JwtSigner>, Error> {
        Err(ErrorKind::InvalidAlgorithm.into())
    },
    verifier_factory: |algorithm, key| -> Result<Box<dyn JwtVerifier>, Error> {
        if *algorithm != Algorithm::EdDSA {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let key = verifying_key(key.try_get_as_bytes()?).ok_or(ErrorKind::InvalidKeyFormat)?;
        Ok(Box::new(Ed25519(key)))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Ed25519(VerifyingKey);

impl signature::Verifier<Vec<u8>> for Ed25519 {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let signed = Signature::from_slice(signed).map_err(|_| signature::Error::new())?;
        self.0.verify_strict(message, &signed).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Ed25519 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}
