//! Stored states of older schemas: the form of each, and one step from it to the next.

use crate::ids::ItemKey;
use crate::person::bytes::StoredState;
use crate::person::history::{History, HistoryEntry, Progress};
use crate::person::outbox::Outbox;
use crate::person::quality::Quality;
use alloc::collections::VecDeque;
use serde::{Deserialize, Serialize};

/// Schema 1: a count said how many of the newest events were unsent, and none could wait for a row.
#[derive(Serialize, Deserialize)]
pub(super) struct State1 {
    history: History1,
    outbox: Outbox,
    quality: Quality,
}

#[derive(Serialize, Deserialize)]
struct History1 {
    entries: VecDeque<Entry1>,
    unsent: u32,
    session_hash: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry1 {
    key: ItemKey,
    kind: u8,
    time_ms: u64,
    starts_session: bool,
    event_hash: u64,
}

/// Leads from schema 1 to schema 2: each event says for itself how far it has come.
pub(super) fn from_1(state: State1) -> StoredState {
    let History1 { entries, unsent, session_hash } = state.history;
    let sent = entries.len().saturating_sub(unsent as usize);
    let entries = entries.into_iter().enumerate().map(|(index, entry)| HistoryEntry {
        key: entry.key,
        kind: entry.kind,
        time_ms: entry.time_ms,
        starts_session: entry.starts_session,
        event_hash: entry.event_hash,
        progress: if index < sent { Progress::Done } else { Progress::Unsent },
    });
    StoredState {
        history: History { entries: entries.collect(), session_hash },
        outbox: state.outbox,
        quality: state.quality,
    }
}
