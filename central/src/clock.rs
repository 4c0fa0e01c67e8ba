//! The service's clock, which tests replace.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time in milliseconds since 1970-01-01 UTC.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Returns the system's time in milliseconds since 1970-01-01 UTC.
pub fn system_ms() -> u64 {
    // A clock before 1970 is a machine without time; 0 makes every token and manifest expire at once.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64)
}
