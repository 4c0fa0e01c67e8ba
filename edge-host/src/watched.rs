//! Files that are read again when they change, so that a token or a certificate is replaced without a restart.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::SystemTime;

/// What a file was when it was read: its time and its length.
type Stamp = Option<(SystemTime, u64)>;

/// What a file says, as of its last change. A change that cannot be read is told, and what was there before stays.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    held: RwLock<Arc<T>>,
    stamps: Mutex<Vec<Stamp>>,
}

impl<T> Watched<T> {
    /// Reads a file with `read`.
    ///
    /// # Errors
    /// What `read` says.
    pub fn open<E: Display>(
        path: &Path,
        read: impl Fn(&Path) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let own = path.to_owned();
        Self::of(vec![path.to_owned()], move || read(&own))
    }

    /// Reads something from several files.
    ///
    /// # Errors
    /// What `read` says.
    pub fn of<E: Display>(
        paths: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // The stamps first: a change while reading is noticed at the next look.
        let stamps = Mutex::new(paths.iter().map(|path| stamp(path)).collect());
        let held = RwLock::new(Arc::new(read()?));
        let read = Box::new(move || read().map_err(|error| error.to_string()));
        Ok(Self { paths, read, held, stamps })
    }

    /// Returns what the file said when it was last read.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.held.read().expect("no holder panics"))
    }

    /// Reads the file again if it has changed; returns whether there is something new.
    pub fn refresh(&self) -> bool {
        let now: Vec<Stamp> = self.paths.iter().map(|path| stamp(path)).collect();
        let mut stamps = self.stamps.lock().expect("no holder panics");
        if *stamps == now {
            return false;
        }
        *stamps = now;
        drop(stamps);
        let paths =
            || self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        match (self.read)() {
            Ok(next) => {
                *self.held.write().expect("no holder panics") = Arc::new(next);
                tracing::info!(paths = paths(), "read again");
                true
            }
            Err(error) => {
                tracing::error!(
                    error,
                    paths = paths(),
                    "changed, but cannot be used; what was there before stays"
                );
                false
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}
