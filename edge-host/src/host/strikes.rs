//! Users whose state makes the guest trap. Each trap costs the worker an instance and what it had derived, so a user
//! whose steps keep on trapping is set apart: quarantined.

use std::collections::HashMap;

/// Traps, without an answer between them, that quarantine the user (choice: one may be a deadline missed on a busy
/// machine).
const TRAPS_MAX: u32 = 2;
/// Most users remembered (choice: about a megabyte of names). When there are more, all are forgotten, and each
/// is quarantined again after as many traps.
const USERS_MAX: usize = 10_000;

/// The traps by user. They do not outlive the process.
#[derive(Default)]
pub(super) struct Strikes {
    users: HashMap<String, u32>,
}

impl Strikes {
    /// Counts a trap.
    pub(super) fn trapped(&mut self, user: &str) {
        if self.users.len() >= USERS_MAX && !self.users.contains_key(user) {
            self.users.clear();
        }
        *self.users.entry(user.to_owned()).or_default() += 1;
    }

    /// Notes that a step answered: the traps before were not the state's.
    pub(super) fn answered(&mut self, user: &str) {
        if !self.users.is_empty() {
            self.users.remove(user);
        }
    }

    /// Returns whether a user is quarantined.
    pub(super) fn quarantined(&self, user: &str) -> bool {
        !self.users.is_empty() && self.users.get(user).is_some_and(|traps| *traps >= TRAPS_MAX)
    }

    /// Starts anew with a user.
    pub(super) fn forgive(&mut self, user: &str) {
        self.users.remove(user);
    }

    /// Returns how many users are quarantined.
    pub(super) fn count(&self) -> usize {
        self.users.values().filter(|traps| **traps >= TRAPS_MAX).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_traps_quarantine_and_an_answer_between_them_does_not() {
        let mut strikes = Strikes::default();
        strikes.trapped("ada");
        strikes.answered("ada");
        strikes.trapped("ada");
        assert!(!strikes.quarantined("ada"), "it answered meanwhile");
        strikes.trapped("ada");
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
            strikes.trapped(&user.to_string());
            assert!(strikes.users.len() <= USERS_MAX);
        }
    }
}
