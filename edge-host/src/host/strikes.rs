//! Users whose state makes the guest trap. Each trap costs the worker an instance and its open users a read
//! of the store, so a user whose calls keep on trapping is set apart: quarantined.

use std::collections::HashMap;

/// Traps of one call, without an answer to it between them, that quarantine the user (choice: one may be a
/// deadline missed on a busy machine).
const TRAPS_MAX: u32 = 2;
/// Most users remembered (choice: about a megabyte of names). When there are more, all are forgotten, and each
/// is quarantined again after as many traps.
const USERS_MAX: usize = 10_000;

/// The traps of a user's call.
struct Strike {
    export: &'static str,
    traps: u32,
}

/// The traps by user. They do not outlive the process.
#[derive(Default)]
pub(super) struct Strikes {
    users: HashMap<String, Strike>,
}

impl Strikes {
    /// Counts a trap.
    pub(super) fn trapped(&mut self, user: &str, export: &'static str) {
        if self.users.len() >= USERS_MAX && !self.users.contains_key(user) {
            self.users.clear();
        }
        let strike = self.users.entry(user.to_owned()).or_insert(Strike { export, traps: 0 });
        if strike.export != export {
            *strike = Strike { export, traps: 0 };
        }
        strike.traps += 1;
    }

    /// Notes that a call answered: its traps before were not the state's.
    pub(super) fn answered(&mut self, user: &str, export: &'static str) {
        if !self.users.is_empty() && self.users.get(user).is_some_and(|strike| strike.export == export) {
            self.users.remove(user);
        }
    }

    /// Returns whether a user is quarantined.
    pub(super) fn quarantined(&self, user: &str) -> bool {
        !self.users.is_empty() && self.users.get(user).is_some_and(Strike::is_out)
    }

    /// Starts anew with a user.
    pub(super) fn forgive(&mut self, user: &str) {
        self.users.remove(user);
    }

    /// Returns how many users are quarantined.
    pub(super) fn count(&self) -> usize {
        self.users.values().filter(|strike| strike.is_out()).count()
    }
}

impl Strike {
    fn is_out(&self) -> bool {
        self.traps >= TRAPS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_traps_of_a_call_quarantine_and_an_answer_between_them_does_not() {
        let mut strikes = Strikes::default();
        strikes.trapped("ada", "learn");
        strikes.answered("ada", "open");
        assert!(!strikes.quarantined("ada"));
        strikes.answered("ada", "learn");
        strikes.trapped("ada", "learn");
        assert!(!strikes.quarantined("ada"), "it answered meanwhile");
        strikes.trapped("ada", "learn");
        assert!(strikes.quarantined("ada"));
        assert!(!strikes.quarantined("bob"));
        assert_eq!(strikes.count(), 1);
        strikes.forgive("ada");
        assert!(!strikes.quarantined("ada"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut strikes = Strikes::default();
        for user in 0..3 * USERS_MAX {
            strikes.trapped(&user.to_string(), "learn");
            assert!(strikes.users.len() <= USERS_MAX);
        }
    }
}
