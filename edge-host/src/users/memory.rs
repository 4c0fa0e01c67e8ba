//! Users in the host's memory: for trials, and for sites that need not remember. Those who were away longest make
//! room for new ones, and a restart forgets everyone.

use super::{Due, Record, StoreError, UserStore, Version, Versioned, encode};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

/// Bytes of a user beside the record: its entries in the maps (an estimate).
const ENTRY_BYTES: u64 = 256;

/// A user store in memory, of bounded size.
///
/// It keeps the contract of [`UserStore`] but for durability: what it was told is gone after a restart, and once
/// `bytes_max` is reached the users who were read or written longest ago are forgotten, unsent deltas included.
pub struct MemoryUsers {
    bytes_max: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    users: HashMap<String, Entry>,
    by_use: BTreeMap<u64, String>,
    due: BTreeSet<Due>,
    uses: u64,
    bytes: u64,
    forgotten: u64,
}

struct Entry {
    versioned: Versioned,
    used: u64,
    bytes: u64,
}

impl MemoryUsers {
    /// Returns a store of at most about `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, held: Mutex::default() }
    }

    /// Returns how many users were forgotten to make room.
    pub fn forgotten(&self) -> u64 {
        self.held.lock().expect("no holder panics").forgotten
    }
}

impl Held {
    fn touch(&mut self, user: &str) -> Option<&Versioned> {
        let entry = self.users.get_mut(user)?;
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(entry.used, user.to_owned());
        Some(&entry.versioned)
    }

    fn remove(&mut self, user: &str) -> bool {
        let Some(entry) = self.users.remove(user) else { return false };
        self.by_use.remove(&entry.used);
        self.bytes -= entry.bytes;
        if let Some(due) = due(user, &entry.versioned.record) {
            self.due.remove(&due);
        }
        true
    }

    fn insert(&mut self, user: &str, versioned: Versioned) {
        self.remove(user);
        self.uses += 1;
        let bytes = ENTRY_BYTES + 2 * user.len() as u64 + encode(&versioned.record).len() as u64;
        self.bytes += bytes;
        self.by_use.insert(self.uses, user.to_owned());
        self.due.extend(due(user, &versioned.record));
        self.users.insert(user.to_owned(), Entry { versioned, used: self.uses, bytes });
    }
}

fn due(user: &str, record: &Record) -> Option<Due> {
    record.outbox.due_ms().map(|at_ms| Due { at_ms, user: user.to_owned() })
}

#[async_trait]
impl UserStore for MemoryUsers {
    async fn get(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self.held.lock().expect("no holder panics").touch(user).cloned())
    }

    async fn put_if(
        &self,
        user: &str,
        expected: Option<Version>,
        next: &Versioned,
    ) -> Result<bool, StoreError> {
        let mut held = self.held.lock().expect("no holder panics");
        if held.users.get(user).map(|entry| entry.versioned.version) != expected {
            return Ok(false);
        }
        held.insert(user, next.clone());
        while held.bytes > self.bytes_max
            && held.users.len() > 1
            && let Some(oldest) = held.by_use.values().next().cloned()
        {
            held.remove(&oldest);
            held.forgotten += 1;
        }
        Ok(true)
    }

    async fn erase(&self, user: &str) -> Result<bool, StoreError> {
        Ok(self.held.lock().expect("no holder panics").remove(user))
    }

    async fn pending(&self, now_ms: u64, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        use std::ops::Bound;
        let held = self.held.lock().expect("no holder panics");
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let due = held.due.range((from, Bound::Unbounded));
        Ok(due.take_while(|due| due.at_ms <= now_ms).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_contract_holds() {
        super::super::contract::holds(async || ((), MemoryUsers::new(u64::MAX))).await;
    }

    #[tokio::test]
    async fn who_was_away_longest_makes_room() {
        let record = |bytes| Record { state: vec![0; bytes], ..Record::default() };
        let versioned = |bytes| Versioned { version: Version::draw(), record: record(bytes) };
        let store = MemoryUsers::new(5_000);
        for user in ["ada", "bob", "cleo"] {
            assert!(store.put_if(user, None, &versioned(1000)).await.unwrap());
        }
        store.get("ada").await.unwrap().unwrap();
        assert!(store.put_if("dan", None, &versioned(1000)).await.unwrap());
        assert_eq!(store.get("bob").await.unwrap(), None, "used longest ago");
        for user in ["ada", "cleo", "dan"] {
            assert!(store.get(user).await.unwrap().is_some(), "{user}");
        }
        assert_eq!(store.forgotten(), 1);
    }
}
