//! The states that steps left of late, with the equations that were derived from them, so that the next step of
//! the same user need not derive them again. The stored record is the truth: a state is found only under the very
//! version that the record has, and the engine promises that a state read from bytes has the bits of this one.

use crate::abi::StateName;
use nearfield_engine::UserState;
use std::collections::{BTreeMap, HashMap};

/// Bytes kept where the host has not said how many (choice: some hundred users at d = 64).
const BYTES_MAX: u64 = 16 << 20;

/// States by user, the least recently used leaving first.
pub(crate) struct Warm {
    users: HashMap<u64, Held>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    bytes: u64,
    bytes_max: u64,
}

struct Held {
    version: [u8; 16],
    state: UserState,
    used: u64,
    bytes: u64,
}

impl Default for Warm {
    fn default() -> Self {
        Self { users: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, bytes_max: BYTES_MAX }
    }
}

impl Warm {
    /// Sets how many bytes are kept at most.
    pub(crate) fn limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
        self.make_room(0);
    }

    /// Takes a state out, if it is here under this very name.
    pub(crate) fn take(&mut self, name: StateName) -> Option<UserState> {
        let held = self.users.get(&name.user).filter(|held| held.version == name.version)?;
        self.by_use.remove(&held.used);
        self.bytes -= held.bytes;
        self.users.remove(&name.user).map(|held| held.state)
    }

    /// Keeps a state under a name, in the place of what was kept of the user; `bytes` is about what it takes.
    pub(crate) fn keep(&mut self, name: StateName, state: UserState, bytes: u64) {
        if let Some(before) = self.users.remove(&name.user) {
            self.by_use.remove(&before.used);
            self.bytes -= before.bytes;
        }
        if bytes > self.bytes_max {
            return;
        }
        self.make_room(bytes);
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, name.user);
        self.users.insert(name.user, Held { version: name.version, state, used: self.uses, bytes });
    }

    fn make_room(&mut self, bytes: u64) {
        while self.bytes + bytes > self.bytes_max
            && let Some((_, user)) = self.by_use.pop_first()
        {
            self.bytes -= self.users.remove(&user).map_or(0, |held| held.bytes);
        }
    }
}
