//! Files that are written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to `path` so that a crash leaves either the old file or the new one: it writes
/// to a temporary name, flushes that file, renames it, and flushes the folder.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, true, 0o644)
}

/// Writes `bytes` whole under `path`, without waiting for the disk: for files that can be made
/// again from the log.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn write_derived(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, false, 0o644)
}

/// Writes a secret durably, readable by its owner only.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, true, 0o600)
}

/// Takes a file's permissions away from everyone but its owner.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn make_secret(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path, only_owner).map_err(|error| named(path, &error))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Reads a file.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| named(path, &error))
}

/// Waits until the names in a folder are on disk: a file is not durable before its name is.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // The folder of a bare name is the current one.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| named(folder, &error))
}

/// Makes a folder and those above it that are missing, and waits until their names are on disk.
///
/// # Errors
/// The I/O error, with the path in its text.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).collect();
    fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
    missing.into_iter().filter_map(Path::parent).try_for_each(sync_folder)
}

fn write(path: &Path, bytes: &[u8], durably: bool, mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.partial"));
    let attempt = || {
        if durably {
            make_folder(folder)?;
        } else {
            fs::create_dir_all(folder)?;
        }
        // A partial file left by a crash may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durably { sync_folder(folder) } else { Ok(()) }
    };
    attempt().map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
