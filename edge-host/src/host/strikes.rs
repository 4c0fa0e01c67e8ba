//! Users whose state makes the guest trap. Each trap costs the worker an instance and what it had derived, so a user
//! whose steps keep on trapping is set apart: quarantined.

use std::collections::HashMap;

/// Traps of one kind of step, without an answer to such a step between them, that quarantine the user (choice: one
/// may be a deadline missed on a busy machine).
const TRAPS_MAX: u32 = 2;
/// Most users remembered (choice: about a megabyte of names). When there are more, all are forgotten, and each
/// is quarantined again after as many traps.
const USERS_MAX: usize = 10_000;

/// What a step is for. A state may make one kind trap, and answer another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To learn events.
    Learn,
    /// To make a list.
    List,
    /// To inspect, or to do something for central.
    Other,
}

/// The traps of a user's steps of one kind.
struct Strike {
    kind: Kind,
    traps: u32,
}

impl Strike {
    fn is_out(&self) -> bool {
        self.traps >= TRAPS_MAX
    }
}

/// The traps by user. They do not outlive the process.
#[derive(Default)]
pub(super) struct Strikes {
    users: HashMap<String, Strike>,
}

impl Strikes {
    /// Counts a trap.
    pub(super) fn trapped(&mut self, user: &str, kind: Kind) {
        if self.users.len() >= USERS_MAX && !self.users.contains_key(user) {
            self.users.clear();
        }
        let strike = self.users.entry(user.to_owned()).or_insert(Strike { kind, traps: 0 });
        if strike.kind != kind {
            *strike = Strike { kind, traps: 0 };
        }
        strike.traps += 1;
    }

    /// Notes that a step answered: the traps of its kind before were not the state's.
    pub(super) fn answered(&mut self, user: &str, kind: Kind) {
        if !self.users.is_empty() && self.users.get(user).is_some_and(|strike| strike.kind == kind) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_traps_quarantine_and_an_answer_between_them_does_not() {
        let mut strikes = Strikes::default();
        strikes.trapped("ada", Kind::Learn);
        strikes.answered("ada", Kind::List);
        assert!(!strikes.quarantined("ada"));
        strikes.answered("ada", Kind::Learn);
        strikes.trapped("ada", Kind::Learn);
        assert!(!strikes.quarantined("ada"), "it answered meanwhile");
        strikes.answered("ada", Kind::List);
        strikes.trapped("ada", Kind::Learn);
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
            strikes.trapped(&user.to_string(), Kind::Learn);
            assert!(strikes.users.len() <= USERS_MAX);
        }
    }
}
