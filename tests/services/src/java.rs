//! What the servers in Java share.

use crate::StartError;
use std::path::{Path, PathBuf};

/// A small heap and a quick start: servers of tests live for minutes.
pub(crate) const JVM: [&str; 3] = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Returns where `cargo xtask services up` puts the jars of a server.
pub fn jars_folder(server: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/services/jars").join(server)
}

/// Returns where the jars of a server are.
pub(crate) fn jars(server: &'static str) -> Result<PathBuf, StartError> {
    // A server's own folder is another one than the tests'.
    jars_folder(server).canonicalize().map_err(|_| StartError::NoJars { server })
}

/// The variable that lets tests leave out what needs a server in Java, where there is no Java.
pub const STREAMS_OFF: &str = "NEARFIELD_STREAMS_OFF";

/// Returns whether tests leave out what needs a server in Java, and says so.
pub fn streams_are_off() -> bool {
    let off = std::env::var_os(STREAMS_OFF).is_some();
    if off {
        eprintln!("skipped: {STREAMS_OFF} is set");
    }
    off
}
