//! The keys of a data directory: the one that signs manifests, the one that makes device tokens,
//! and the token of the admin listener.
//!
//! ```text
//! DIR/keys/online.key   ed25519 secret, 32 bytes as hex, mode 0600
//! DIR/keys/online.pub   its public half as hex; clients are configured with it
//! DIR/keys/device.key   key of the device tokens' MAC, 32 bytes as hex, mode 0600
//! DIR/admin-token       bearer token of the admin listener, 32 bytes as hex, mode 0600
//! ```

use crate::durable;
use crate::log::redb::STORE_FILE;
use ed25519_dalek::SigningKey;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why keys could not be read or made.
#[derive(Debug)]
pub enum KeyError {
    /// The file cannot be read or written.
    Io(io::Error),
    /// The operating system gives no randomness.
    Random(String),
    /// The key is gone, and there is a store that was served with it.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The data directory has another key than the one that it is to get.
    Differs {
        /// The file.
        path: PathBuf,
    },
    /// A secret that others than its owner may read.
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not 64 hexadecimal digits.
    NotHex {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Random(error) => write!(f, "the operating system gives no random bytes: {error}"),
            Self::Missing { path } => write!(
                f,
                "{} is missing, but there is a store that was served with it: restore it from a backup; a new key \
                 would cut off every client",
                path.display()
            ),
            Self::Differs { path } => write!(
                f,
                "{} is another key than the one that was given: clients know the one that is there; to serve with \
                 another, start with an empty data directory",
                path.display()
            ),
            Self::ReadableByOthers { path, mode } => {
                write!(f, "{} has mode {mode:o}; only its owner may read it: chmod 600", path.display())
            }
            Self::NotHex { path } => write!(f, "{}: a key is 64 hexadecimal digits", path.display()),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<io::Error> for KeyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The keys of a data directory.
pub struct Keys {
    /// Signs manifests.
    pub online: SigningKey,
    /// Makes and checks device tokens.
    pub device: [u8; 32],
    /// Bearer token of the admin listener, as hex.
    pub admin_token: String,
}

impl Keys {
    /// Reads the keys below `data`. Where there is no store yet, it makes those that are not there.
    ///
    /// # Errors
    /// [`KeyError`] names the file. A file that is there but unreadable is never replaced, and a key that is
    /// missing beside a store is not made anew: clients know its public half and hold tokens made with it.
    pub fn open(data: &Path) -> Result<Self, KeyError> {
        let folder = data.join("keys");
        if data.join(STORE_FILE).exists() {
            let mut keys = ["online.key", "device.key"].into_iter().map(|name| folder.join(name));
            if let Some(path) = keys.find(|path| !path.exists()) {
                return Err(KeyError::Missing { path });
            }
        }
        let online = SigningKey::from_bytes(&read_or_make(&folder.join("online.key"))?);
        let public = hex(online.verifying_key().as_bytes());
        let public_path = folder.join("online.pub");
        if durable::read(&public_path).ok().is_none_or(|held| held.trim_ascii() != public.as_bytes()) {
            durable::write_durably(&public_path, format!("{public}\n").as_bytes())?;
        }
        Ok(Self {
            online,
            device: read_or_make(&folder.join("device.key"))?,
            admin_token: hex(&read_or_make(&data.join("admin-token"))?),
        })
    }

    /// Returns the public half of the signing key as hex.
    pub fn public_hex(&self) -> String {
        hex(self.online.verifying_key().as_bytes())
    }
}

/// Returns where the secrets of a data directory lie.
pub fn secret_files(data: &Path) -> [PathBuf; 3] {
    [data.join("keys/online.key"), data.join("keys/device.key"), data.join("admin-token")]
}

/// Returns random bytes from the operating system.
///
/// # Errors
/// [`KeyError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(bytes)
}

/// Returns bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_or_make(path: &Path) -> Result<[u8; 32], KeyError> {
    match durable::read(path).and_then(|text| Ok((text, mode(path)?))) {
        Ok((_, Some(mode))) if mode & 0o077 != 0 => {
            Err(KeyError::ReadableByOthers { path: path.to_owned(), mode })
        }
        Ok((text, _)) => from_hex(&text).ok_or_else(|| KeyError::NotHex { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random()?;
            durable::write_secret(path, format!("{}\n", hex(&key)).as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the permission bits of a file, where the system has them.
#[cfg(unix)]
fn mode(path: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    Ok(Some(std::fs::metadata(path)?.permissions().mode() & 0o777))
}

#[cfg(not(unix))]
fn mode(_path: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

fn from_hex(text: &[u8]) -> Option<[u8; 32]> {
    let digits = text.trim_ascii();
    if digits.len() != 64 {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(key)
}

fn digit(character: u8) -> Option<u8> {
    (character as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_secret() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::open(dir.path()).unwrap();
        let second = Keys::open(dir.path()).unwrap();
        assert_eq!(first.online.to_bytes(), second.online.to_bytes());
        assert_eq!((first.device, &first.admin_token), (second.device, &second.admin_token));
        assert_ne!(hex(&first.device), first.admin_token);
        let public = std::fs::read_to_string(dir.path().join("keys/online.pub")).unwrap();
        assert_eq!(public.trim(), first.public_hex());
        #[cfg(unix)]
        for secret in ["keys/online.key", "keys/device.key", "admin-token"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path().join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        for secret in ["keys/online.key", "keys/device.key", "admin-token"] {
            let dir = tempfile::tempdir().unwrap();
            Keys::open(dir.path()).unwrap();
            let path = dir.path().join(secret);
            for mode in [0o640, 0o604, 0o660] {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                let Err(error) = Keys::open(dir.path()) else {
                    panic!("{secret} was read with mode {mode:o}")
                };
                let text = error.to_string();
                assert!(
                    text.ends_with(&format!("has mode {mode:o}; only its owner may read it: chmod 600")),
                    "{text}"
                );
            }
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
            assert!(Keys::open(dir.path()).is_ok(), "{secret} may be read-only");
        }
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        let path = dir.path().join("keys/online.key");
        durable::write_secret(&path, b"short").unwrap();
        let Err(error) = Keys::open(dir.path()) else { panic!("a damaged key was taken") };
        assert!(error.to_string().ends_with("keys/online.key: a key is 64 hexadecimal digits"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }
}
