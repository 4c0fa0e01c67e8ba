//! The state as bytes, for the device's own storage: all else is derived from it and the model.

use crate::encoding::{self, Fault};
use crate::error::StateError;
use crate::event::Kind;
use crate::limits::{HISTORY_MAX, OUTBOX_MAX};
use crate::person::UserState;
use crate::person::history::History;
use crate::person::migrate;
use crate::person::outbox::Outbox;
use crate::person::quality::Quality;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 4] = *b"NFUS";

/// Schema of the stored form. It rises whenever [`StoredState`] changes, and a step in `migrate.rs` then
/// leads from the schema before to the new one.
const SCHEMA: u16 = 2;

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredState {
    pub(super) history: History,
    pub(super) outbox: Outbox,
    pub(super) quality: Quality,
}

impl UserState {
    /// Returns the state as bytes, for the device's own storage.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(SCHEMA.to_le_bytes());
        postcard::to_extend(&self.stored, bytes).expect("a state has no type that postcard refuses")
    }

    /// Restores a state. Its lists are those of the state before, on the same model.
    ///
    /// # Errors
    /// [`StateError`] for bytes of another kind, of a newer schema, or damaged ones.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(StateError::Foreign)?;
        let (schema, body) =
            body.split_first_chunk::<2>().ok_or(StateError::Damaged { what: "no schema" })?;
        let stored = match u16::from_le_bytes(*schema) {
            SCHEMA => encoding::read(body),
            1 => encoding::read(body).map(migrate::from_1),
            found if found > SCHEMA => return Err(StateError::NewerSchema { found, known: SCHEMA }),
            _ => return Err(StateError::Damaged { what: "there is no such schema" }),
        }
        .map_err(|fault| match fault {
            Fault::Malformed => StateError::Damaged { what: "cut off, or with bytes after its end" },
            Fault::NotCanonical => StateError::Damaged { what: "not the canonical encoding" },
        })?;
        let entries = &stored.history.entries;
        let sound = entries.len() <= HISTORY_MAX
            && stored.outbox.deltas.len() <= OUTBOX_MAX
            && entries.iter().all(|entry| Kind::from_index(entry.kind).is_some_and(Kind::is_history));
        if !sound {
            return Err(StateError::Damaged { what: "a count is out of range" });
        }
        Ok(Self { stored, ..Self::default() })
    }
}
