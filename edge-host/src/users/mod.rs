//! The users, behind one trait: user id → versioned record. The contract in its words and the tests in
//! `contract.rs` hold for every backend.

#[cfg(test)]
mod contract;
pub mod memcached;
pub mod memory;
pub mod redb;
pub mod redis;

use crate::abi::Shown;
use async_trait::async_trait;
use nearfield_engine::features::Features;
use nearfield_engine::{Lineage, ModelVersion, Row};
use serde::{Deserialize, Serialize};

/// The version of a record: 128 random bits, so that no two writes ever have the same, also where a user was erased
/// and came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version(pub [u8; 16]);

impl Version {
    /// Draws a version that no write has.
    ///
    /// # Panics
    /// Where the system gives no random bits: without them versions could repeat, and an event be lost.
    pub fn draw() -> Self {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("the system gives random bits");
        Self(bits)
    }
}

/// What is kept of a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The engine's state, with its own schema version inside.
    pub state: Vec<u8>,
    /// The list that was made last.
    pub last: Option<LastList>,
    /// Central's device token for this user, once there is one.
    pub token: Option<Vec<u8>>,
    /// What central has yet to receive.
    pub outbox: Outbox,
    /// How far the streams are taken in that the user's events come from, the one that moved last at the end.
    pub positions: Vec<Position>,
    /// What the features of the user's events follow from, where a stream's are asked for.
    pub profile: Option<Profiled>,
}

/// What is kept for features: what the next ones follow from, and those of the last step, so that they can be told
/// again if the host ended before the topic of features had them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profiled {
    /// The engine's profile, with its own schema version inside.
    pub profile: Vec<u8>,
    /// Hash of the topic that the events of the last step came from, as in [`Position`].
    pub topic: u64,
    /// The partition.
    pub partition: i32,
    /// Offset and features of each.
    pub last: Vec<(i64, Features)>,
}

/// Most positions that are kept of a user (choice: with the user as key, a user's events of one topic come from one
/// partition).
const POSITIONS_MAX: usize = 8;

/// How far the user's events of one partition are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Hash of the cluster's id and the topic's name.
    pub topic: u64,
    /// The partition.
    pub partition: i32,
    /// The offset after the last event that was taken in.
    pub next: i64,
}

impl Record {
    /// Returns the first offset of a partition that is not taken in yet, as far as this record knows.
    pub fn next_offset(&self, topic: u64, partition: i32) -> i64 {
        let of_partition = |held: &&Position| held.topic == topic && held.partition == partition;
        self.positions.iter().find(of_partition).map_or(0, |held| held.next)
    }

    /// Returns the features of an event of the last step.
    pub fn last_features(&self, topic: u64, partition: i32, offset: i64) -> Option<&Features> {
        let held = self.profile.as_ref().filter(|held| (held.topic, held.partition) == (topic, partition))?;
        held.last.iter().find(|(last, _)| *last == offset).map(|(_, features)| features)
    }

    /// Moves a position on.
    pub fn move_to(&mut self, position: Position) {
        let Position { topic, partition, .. } = position;
        self.positions.retain(|held| (held.topic, held.partition) != (topic, partition));
        if self.positions.len() == POSITIONS_MAX {
            self.positions.remove(0);
        }
        self.positions.push(position);
    }
}

/// The head of a list that was made for a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastList {
    /// Lineage of the model that made it.
    pub lineage: Lineage,
    /// Version of the model that made it.
    pub version: ModelVersion,
    /// Its first rows, best first.
    pub rows: Vec<Row>,
    /// Whether a choice has been counted by its rank in it.
    pub counted: bool,
}

impl LastList {
    /// Returns it as shown, while no choice has been counted by it.
    pub fn shown(&self) -> Option<Shown> {
        let rows = || self.rows.clone();
        (!self.counted).then(|| Shown { lineage: self.lineage, version: self.version, rows: rows() })
    }
}

/// How far what a user taught has come on its way to central.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outbox {
    /// Central has all of it.
    #[default]
    Empty,
    /// Events wait to become a delta, or a delta to be sent.
    Due {
        /// When, in milliseconds since 1970-01-01 UTC.
        at_ms: u64,
    },
    /// A delta has been sent, and the answer is not known.
    Sent {
        /// When it is sent again, in milliseconds since 1970-01-01 UTC.
        again_ms: u64,
    },
}

impl Outbox {
    /// Returns when there is something to do, in milliseconds since 1970-01-01 UTC.
    pub fn due_ms(self) -> Option<u64> {
        match self {
            Self::Empty => None,
            Self::Due { at_ms } => Some(at_ms),
            Self::Sent { again_ms } => Some(again_ms),
        }
    }
}

/// A record and the version of the write that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versioned {
    /// The version.
    pub version: Version,
    /// The record.
    pub record: Record,
}

/// A user whose outbox is due, and the place to go on from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The user.
    pub user: String,
}

/// Why a store did not answer.
#[derive(Clone, Debug)]
pub struct StoreError {
    what: &'static str,
    message: String,
}

impl StoreError {
    /// Returns the error of a step, such as `commit`, with what the backend said.
    pub fn new(what: &'static str, error: impl ToString) -> Self {
        Self { what, message: error.to_string() }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user store could not {}: {}", self.what, self.message)
    }
}

impl std::error::Error for StoreError {}

/// A store of users.
///
/// # Contract
/// - **Compare and set.** [`UserStore::put_if`] writes only where the user's version is the expected one, in one
///   indivisible act, also between hosts. Of several writes that expect the same version one succeeds.
/// - **Durable when answered.** A write that was answered with `true` is where a crash of the host cannot take it,
///   so events answered with 200 survive. (The backend in memory promises less, and says so.)
/// - **Reads see writes.** [`UserStore::get`] sees every write that was answered before it was called. A cache may
///   answer an older record for a bounded time; [`UserStore::get_newest`] never does.
/// - **All or nothing.** A write that fails, or whose future is dropped, took place wholly or not at all. The caller
///   reads again to know.
/// - **In order of need.** [`UserStore::pending`] gives those who are due first, and what it costs depends on how
///   many are due, not on how many users there are.
///
/// # Errors
/// [`StoreError`] where the backend cannot be reached or read, or a record is damaged. Nothing falls back to memory.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Returns what is kept of a user.
    async fn get(&self, user: &str) -> Result<Option<Versioned>, StoreError>;

    /// Returns what is kept of a user, past every cache: for one whose write met another version.
    async fn get_newest(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        self.get(user).await
    }

    /// Writes a record where the user's version is `expected` (`None`: nothing is kept); returns whether it was.
    async fn put_if(
        &self,
        user: &str,
        expected: Option<Version>,
        next: &Versioned,
    ) -> Result<bool, StoreError>;

    /// Forgets a user, unsent deltas and token included; returns whether anything was kept.
    async fn erase(&self, user: &str) -> Result<bool, StoreError>;

    /// Returns users whose outbox is due at `now_ms`, up to `limit` of them, in the order of [`Due`], those after
    /// `after` where it is given.
    async fn pending(&self, now_ms: u64, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError>;
}

/// Bytes before the record in [`value`].
const HEAD_BYTES: usize = 24;
/// The time of an outbox that is empty.
const NEVER: [u8; 8] = [0xff; 8];

/// Writes a record as bytes.
fn encode(record: &Record) -> Vec<u8> {
    postcard::to_allocvec(record).expect("a record holds only bytes and numbers")
}

/// Reads a record's bytes.
fn decode(bytes: &[u8]) -> Result<Record, StoreError> {
    // Records of earlier versions end before the profile, or before the positions.
    let before_profiles = |_: postcard::Error| {
        let (state, last, token, outbox, positions) = decode_whole(bytes)?;
        Ok(Record { state, last, token, outbox, positions, profile: None })
    };
    let before_streams = |_: postcard::Error| {
        let (state, last, token, outbox) = decode_whole(bytes)?;
        Ok(Record { state, last, token, outbox, positions: Vec::new(), profile: None })
    };
    let read = decode_whole(bytes).or_else(before_profiles).or_else(before_streams);
    read.map_err(|error: postcard::Error| StoreError::new("decode a record", error))
}

/// Reads bytes that hold a value and nothing else.
fn decode_whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> postcard::Result<T> {
    let (value, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(postcard::Error::SerdeDeCustom) }
}

/// Returns a record as the backends keep it: version (16 bytes), time of the outbox (8 bytes, big-endian, all ones for
/// none), the record as postcard.
fn value(Versioned { version, record }: &Versioned) -> Vec<u8> {
    let due = record.outbox.due_ms().map_or(NEVER, u64::to_be_bytes);
    [&version.0[..], &due, &encode(record)].concat()
}

/// Reads what [`value`] made.
fn read_value(value: &[u8]) -> Result<Versioned, StoreError> {
    let damaged = || StoreError::new("read", "a record is shorter than its head");
    let (version, rest) = value.split_first_chunk::<16>().ok_or_else(damaged)?;
    let record = decode(rest.get(HEAD_BYTES - 16..).ok_or_else(damaged)?)?;
    Ok(Versioned { version: Version(*version), record })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let outbox = Outbox::Due { at_ms: 7 };
        let positions = vec![Position { topic: 1, partition: 2, next: 3 }];
        let last = vec![(5, Features { hour: Some(7), ..Features::default() })];
        let profile = Some(Profiled { profile: vec![3], topic: 1, partition: 2, last });
        Record { state: vec![1, 2], token: Some(vec![9]), outbox, positions, profile, ..Record::default() }
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        let Record { state, last, token, outbox, positions, .. } = record();
        let before = postcard::to_allocvec(&(&state, &last, &token, outbox, positions)).unwrap();
        assert_eq!(decode(&before).unwrap(), Record { profile: None, ..record() });
        let before = postcard::to_allocvec(&(&state, &last, &token, outbox)).unwrap();
        assert_eq!(decode(&before).unwrap(), Record { positions: Vec::new(), profile: None, ..record() });
        assert_eq!(decode(&encode(&record())).unwrap(), record());
        assert!(decode(&before[..before.len() - 1]).is_err());
        let now = encode(&record());
        assert!(decode(&now[..now.len() - 1]).is_err(), "what is cut off is no earlier version");
    }

    #[test]
    fn a_position_moves_and_the_one_that_rested_longest_goes() {
        let mut record = record();
        record.move_to(Position { topic: 1, partition: 2, next: 10 });
        assert_eq!((record.next_offset(1, 2), record.next_offset(1, 3), record.positions.len()), (10, 0, 1));
        for partition in 10..10 + POSITIONS_MAX as i32 - 1 {
            record.move_to(Position { topic: 5, partition, next: 1 });
        }
        record.move_to(Position { topic: 1, partition: 2, next: 11 });
        record.move_to(Position { topic: 6, partition: 0, next: 1 });
        assert_eq!(record.positions.len(), POSITIONS_MAX);
        assert_eq!((record.next_offset(1, 2), record.next_offset(5, 10)), (11, 0));
    }
}
