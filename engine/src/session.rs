//! Where one visit ends and the next one begins. Whoever speaks of sessions goes by this rule.

use crate::ids::short_hash;
use crate::limits::SESSION_GAP_MS;

/// Returns a hash of a name that is never 0, and 0 for none.
pub(crate) fn hash_of(name: Option<&str>) -> u64 {
    name.map_or(0, |name| short_hash(name.as_bytes()).max(1))
}

/// Returns whether an event starts a session, by the hashes of the sessions that it and the event before it name and
/// by their times. Where neither names one a gap ends the session.
pub(crate) fn starts(last_session: u64, last_ms: u64, session: u64, time_ms: u64) -> bool {
    if session != 0 || last_session != 0 {
        return session != last_session;
    }
    time_ms.saturating_sub(last_ms) > SESSION_GAP_MS
}
