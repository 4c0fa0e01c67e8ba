//! A person's past events, by stable item key: it outlives rows, versions and lineages.

use crate::event::{Event, Kind};
use crate::ids::ItemKey;
use crate::limits::{HISTORY_MAX, HISTORY_STEP};
use crate::session::{self, hash_of};
use alloc::collections::VecDeque;
use serde::{Deserialize, Serialize};

/// One event of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The item.
    pub key: ItemKey,
    /// What happened, as an index of [`Kind::ALL`].
    pub(super) kind: u8,
    /// When, in milliseconds since 1970-01-01 UTC. Never leaves the device.
    pub time_ms: u64,
    /// Whether a session starts here.
    pub starts_session: bool,
    /// Hash of the event id, 0 for none.
    pub(super) event_hash: u64,
    /// How far the event has come on its way to central.
    pub(super) progress: Progress,
}

/// How far an event has come on its way to central.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Progress {
    /// No delta has been made since it happened.
    Unsent,
    /// A delta was made without it, because the model had no row for its item. It waits for a version that
    /// has one, at most until it leaves the history.
    Waiting,
    /// A delta holds it, or none ever will.
    Done,
}

impl HistoryEntry {
    /// Returns what happened.
    pub fn kind(&self) -> Kind {
        Kind::from_index(self.kind).unwrap_or(Kind::View)
    }
}

/// The last events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct History {
    pub(super) entries: VecDeque<HistoryEntry>,
    /// Hash of the session that the newest event names, 0 for none.
    pub(super) session_hash: u64,
}

impl History {
    /// Returns the entry that an event would make, or `None` where its id is in the history already.
    pub(super) fn entry(&self, event: &Event) -> Option<HistoryEntry> {
        let event_hash = hash_of(event.event_id.as_deref());
        if event_hash != 0 && self.entries.iter().any(|entry| entry.event_hash == event_hash) {
            return None;
        }
        let session_hash = hash_of(event.session_id.as_deref());
        let starts_session = self
            .entries
            .back()
            .is_none_or(|last| session::starts(self.session_hash, last.time_ms, session_hash, event.time_ms));
        let key = ItemKey::of(&event.item_id);
        Some(HistoryEntry {
            key,
            kind: event.kind as u8,
            time_ms: event.time_ms,
            starts_session,
            event_hash,
            progress: Progress::Unsent,
        })
    }

    /// Appends the entry of an event, as unsent.
    pub(super) fn push(&mut self, entry: HistoryEntry, event: &Event) {
        self.session_hash = hash_of(event.session_id.as_deref());
        self.keep(entry);
    }

    /// Appends an event that the trained model has learned already, so that no delta will carry it.
    pub(super) fn remember(&mut self, event: &Event) {
        let starts_session =
            self.entries.back().is_none_or(|last| session::starts(0, last.time_ms, 0, event.time_ms));
        let key = ItemKey::of(&event.item_id);
        let kind = event.kind as u8;
        let progress = Progress::Done;
        let entry =
            HistoryEntry { key, kind, time_ms: event.time_ms, starts_session, event_hash: 0, progress };
        self.keep(entry);
    }

    /// Keeps the newest event from every delta.
    pub(super) fn withhold_newest(&mut self) {
        if let Some(newest) = self.entries.back_mut() {
            newest.progress = Progress::Done;
        }
    }

    /// Appends an entry. Where they would be too many, the oldest ones leave together.
    fn keep(&mut self, entry: HistoryEntry) {
        self.entries.push_back(entry);
        if self.entries.len() > HISTORY_MAX {
            (0..HISTORY_STEP).for_each(|_| _ = self.entries.pop_front());
        }
    }
}
