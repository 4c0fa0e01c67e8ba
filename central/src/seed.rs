//! Fills a data directory from folders that others filled, such as mounted volumes and secrets, before its first
//! start. What is there stays.

use crate::durable;
use crate::keys::{self, KeyError};
use crate::log::redb::STORE_FILE;
use crate::merge::replay::trained_files;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Puts what a trainer wrote, `model.pack` and `statistics.bin` in `from`, into the data directory, unless it has
/// files of those names or a store that has gone on from them. Returns whether anything was copied.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn model(from: &Path, data: &Path) -> io::Result<bool> {
    if data.join(STORE_FILE).exists() {
        return Ok(false);
    }
    let mut copied = false;
    for path in trained_files(data) {
        if !path.exists() {
            let name = path.file_name().unwrap_or_default();
            copy(&from.join(name), &path)?;
            copied = true;
        }
    }
    Ok(copied)
}

/// Puts the keys `online.key`, `device.key` and `admin-token` in `from` into the data directory, readable by their
/// owner only, and makes those that it already has so. Returns whether any was new.
///
/// # Errors
/// [`KeyError::Differs`] where the directory has another key: clients know its public half, or hold tokens of it.
pub fn keys(from: Option<&Path>, data: &Path) -> Result<bool, KeyError> {
    let mut copied = false;
    for path in keys::secret_files(data) {
        // A volume that is mounted for a group makes its files readable by it.
        if path.exists() {
            durable::make_secret(&path)?;
        }
        let Some(from) = from else { continue };
        let given = durable::read(&from.join(path.file_name().unwrap_or_default()))?;
        if !path.exists() {
            durable::write_secret(&path, &given)?;
            copied = true;
        } else if durable::read(&path)?.trim_ascii() != given.trim_ascii() {
            return Err(KeyError::Differs { path });
        }
    }
    Ok(copied)
}

/// Copies a file that may be larger than memory, whole or not at all.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let partial = to.with_extension("partial");
    let named =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    durable::make_folder(to.parent().unwrap_or(Path::new(".")))?;
    fs::copy(from, &partial).map_err(|error| named(from, error))?;
    File::open(&partial)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&partial, to))
        .map_err(|error| named(to, error))?;
    durable::sync_folder(to.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    #[test]
    fn a_model_is_copied_once() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let missing = model(from.path(), to.path()).unwrap_err();
        assert!(missing.to_string().contains("model.pack"), "{missing}");
        for name in ["model.pack", "statistics.bin"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        assert!(model(from.path(), to.path()).unwrap());
        fs::write(from.path().join("model.pack"), "another").unwrap();
        assert!(!model(from.path(), to.path()).unwrap());
        assert_eq!(fs::read(to.path().join("model.pack")).unwrap(), b"model.pack");
        // A store has gone on from files that were removed since.
        for name in ["model.pack", "statistics.bin"] {
            fs::remove_file(to.path().join(name)).unwrap();
        }
        fs::write(to.path().join(STORE_FILE), "").unwrap();
        assert!(!model(from.path(), to.path()).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_copied_once_and_are_secret() {
        use std::os::unix::fs::PermissionsExt;
        let (made, from, to) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let public = Keys::open(made.path()).unwrap().public_hex();
        for path in keys::secret_files(made.path()) {
            fs::copy(&path, from.path().join(path.file_name().unwrap())).unwrap();
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert!(keys(Some(from.path()), to.path()).unwrap());
        // As a volume's group leaves it.
        let secret = to.path().join("keys/online.key");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o660)).unwrap();
        assert!(!keys(Some(from.path()), to.path()).unwrap());
        assert_eq!(mode(&secret), 0o600);
        assert_eq!(Keys::open(to.path()).unwrap().public_hex(), public);

        fs::write(from.path().join("device.key"), "1".repeat(64)).unwrap();
        let refused = keys(Some(from.path()), to.path()).unwrap_err();
        assert!(
            matches!(&refused, KeyError::Differs { path } if path.ends_with("keys/device.key")),
            "{refused}"
        );
        assert!(!keys(None, to.path()).unwrap(), "without a secret only modes are mended");
    }
}
