//! One thread's guest instance and the users open in it.

use crate::abi::{
    EncodeSync, Inspection, Learn, Learnt, List, ModelInfo, Recommend, Settled, TakeDelta, Taken,
};
use crate::error::EdgeError;
use crate::host::model_slot::{InstalledModel, ModelSlot};
use crate::host::sandbox::{Guest, GuestError, Sandbox};
use crate::metrics::Metrics;
use crate::users::{Record, Ticket, UserStore};
use nearfield_engine::{DeltaId, Event};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A delta that is ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// What `nf_user_take_delta` said.
    pub taken: Taken,
    /// The user's device token, if there is one.
    pub token: Option<Vec<u8>>,
    /// The write that must be on disk before the delta is sent.
    pub ticket: Option<Ticket>,
}

/// A user that is open in the guest.
struct Open {
    handle: u32,
    used: u64,
    token: Option<Vec<u8>>,
    pending: bool,
    /// Whether the store holds anything of the user.
    known: bool,
}

/// One thread's instance and the users open in it, the least recently used leaving first.
pub struct Worker {
    sandbox: Sandbox,
    guest: Option<Guest>,
    slot: ModelSlot,
    store: Arc<dyn UserStore>,
    metrics: Arc<Metrics>,
    open: HashMap<String, Open>,
    by_use: BTreeMap<u64, String>,
    uses: u64,
    open_max: usize,
}

impl Worker {
    /// Returns a worker with a fresh instance, which keeps up to `open_max` users open.
    ///
    /// # Errors
    /// [`GuestError`] if the module cannot be instantiated.
    pub(super) fn new(
        sandbox: &Sandbox,
        slot: &ModelSlot,
        store: &Arc<dyn UserStore>,
        metrics: &Arc<Metrics>,
        open_max: usize,
    ) -> Result<Self, GuestError> {
        Ok(Self {
            sandbox: sandbox.clone(),
            guest: Some(sandbox.instantiate()?),
            slot: Arc::clone(slot),
            store: Arc::clone(store),
            metrics: Arc::clone(metrics),
            open: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            open_max,
        })
    }

    /// Learns events and queues the new state for the store. The events count once the ticket is
    /// durable.
    ///
    /// # Errors
    /// Whatever went wrong; the user is as before.
    pub fn learn(
        &mut self,
        user: &str,
        events: Vec<Event>,
        now_ms: u64,
    ) -> Result<(Learnt, Ticket), EdgeError> {
        let handle = self.open(user)?;
        let learnt = self.call::<Learnt>("nf_user_learn", Some(handle), &Learn { now_ms, events });
        let saved = learnt.and_then(|learnt| {
            let applied = learnt.applied > 0;
            Ok((learnt, self.save(user, |open| open.pending |= applied)?))
        });
        if saved.is_err() {
            // The handle may have learnt a part: what is stored is the truth.
            self.close(user);
        }
        saved
    }

    /// Ranks the catalogue. A user of whom nothing is kept gets the newcomer's list and leaves no
    /// record.
    ///
    /// # Errors
    /// [`EdgeError::NoModel`] before the first model; what the store or the guest said.
    pub fn recommend(&mut self, user: &str, request: Recommend) -> Result<List, EdgeError> {
        let handle = self.open(user)?;
        self.call("nf_user_recommend", Some(handle), &request)
    }

    /// Returns what is kept of a user.
    ///
    /// # Errors
    /// [`EdgeError::UnknownUser`] if nothing is.
    pub fn inspect(&mut self, user: &str) -> Result<Inspection, EdgeError> {
        let handle = self.open_known(user)?.ok_or(EdgeError::UnknownUser)?;
        self.call("nf_user_inspect", Some(handle), &())
    }

    /// Forgets a user, unsent deltas and token included.
    ///
    /// # Errors
    /// [`EdgeError::Store`] if it cannot be known whether there is one.
    pub fn forget(&mut self, user: &str) -> Result<Option<Ticket>, EdgeError> {
        self.close(user);
        let known = self.store.get(user)?.is_some();
        Ok(known.then(|| self.store.put(user, None)))
    }

    /// Moves what is due into the user's outbox, if nothing waits there; `None` if the user is gone.
    ///
    /// # Errors
    /// What the store or the guest said.
    pub fn prepare_delta(
        &mut self,
        user: &str,
        id: DeltaId,
        now_ms: u64,
    ) -> Result<Option<Prepared>, EdgeError> {
        let Some(handle) = self.open_known(user)? else { return Ok(None) };
        let taken: Taken = self.call("nf_user_take_delta", Some(handle), &TakeDelta { id, now_ms })?;
        let pending = taken.outbox > 0 || taken.unsent > 0;
        let changed = taken.taken || self.open.get(user).is_some_and(|open| open.pending != pending);
        let ticket = changed.then(|| self.save(user, |open| open.pending = pending)).transpose()?;
        let token = self.open.get(user).and_then(|open| open.token.clone());
        Ok(Some(Prepared { taken, token, ticket }))
    }

    /// Keeps a device token with the user; `None` if the user is gone.
    ///
    /// # Errors
    /// What the store or the guest said.
    pub fn keep_token(&mut self, user: &str, token: Vec<u8>) -> Result<Option<Ticket>, EdgeError> {
        let Some(_) = self.open_known(user)? else { return Ok(None) };
        self.save(user, |open| open.token = Some(token)).map(Some)
    }

    /// Returns the outbox as a sync body, empty for an empty outbox; `None` if the user is gone.
    ///
    /// # Errors
    /// What the store or the guest said.
    pub fn encode_sync(&mut self, user: &str, message: &EncodeSync) -> Result<Option<Vec<u8>>, EdgeError> {
        let Some(handle) = self.open_known(user)? else { return Ok(None) };
        let input = postcard::to_allocvec(message).expect("a message holds only what postcard can write");
        self.bytes("nf_user_encode_sync", Some(handle), &input).map(Some)
    }

    /// Takes central's reply: settled deltas leave the outbox. `None` if the user is gone.
    ///
    /// # Errors
    /// What the store or the guest said.
    pub fn settle(&mut self, user: &str, reply: &[u8]) -> Result<Option<(Settled, Ticket)>, EdgeError> {
        let Some(handle) = self.open_known(user)? else { return Ok(None) };
        let answer = self.bytes("nf_user_settle", Some(handle), reply)?;
        let settled: Settled = postcard::from_bytes(&answer).map_err(|error| {
            let message = format!("its answer does not decode: {error}");
            EdgeError::Guest(GuestError::Trapped { export: "nf_user_settle", message })
        })?;
        let pending = settled.outbox > 0 || settled.unsent > 0;
        let ticket = self.save(user, |open| open.pending = pending)?;
        Ok(Some((settled, ticket)))
    }

    /// Closes a user without saving, so that the next call reads the store.
    pub fn close(&mut self, user: &str) {
        let Some(open) = self.open.remove(user) else { return };
        self.by_use.remove(&open.used);
        if self.guest.is_some() {
            // A handle that the guest does not know is closed already.
            let _ = self.bytes("nf_user_close", Some(open.handle), &[]);
        }
        self.metrics.users_open(-1.0);
    }

    pub(super) fn install(
        &mut self,
        model: &InstalledModel,
        patch: Option<&Vec<u8>>,
    ) -> Result<(), EdgeError> {
        let result = self.guest().and_then(|guest| {
            let current = guest.bytes("nf_model_version", None, &[]).ok();
            if current == postcard::to_allocvec(&model.info).ok() {
                return Ok(());
            }
            if let Some(patch) = patch {
                match guest.model::<ModelInfo>("nf_model_apply", patch) {
                    Ok(info) if info == model.info => return Ok(()),
                    Ok(_) | Err(GuestError::Refused { .. }) => {}
                    Err(fatal) => return Err(fatal),
                }
            }
            guest.model::<ModelInfo>("nf_model_load", &model.pack).map(|_| ())
        });
        self.watch(result)
    }

    /// Opens a user, known or new, and returns the handle.
    fn open(&mut self, user: &str) -> Result<u32, EdgeError> {
        if let Some(handle) = self.touch(user) {
            return Ok(handle);
        }
        let record = self.store.get(user)?;
        self.open_record(user, record)
    }

    /// Opens a user of whom something is kept.
    fn open_known(&mut self, user: &str) -> Result<Option<u32>, EdgeError> {
        if self.open.get(user).is_some_and(|open| open.known) {
            return Ok(self.touch(user));
        }
        match self.store.get(user)? {
            None => Ok(None),
            Some(record) => {
                self.close(user);
                self.open_record(user, Some(record)).map(Some)
            }
        }
    }

    fn touch(&mut self, user: &str) -> Option<u32> {
        let open = self.open.get_mut(user)?;
        self.by_use.remove(&open.used);
        self.uses += 1;
        open.used = self.uses;
        self.by_use.insert(open.used, user.to_owned());
        Some(open.handle)
    }

    fn open_record(&mut self, user: &str, record: Option<Record>) -> Result<u32, EdgeError> {
        while self.open.len() >= self.open_max {
            let Some(oldest) = self.by_use.values().next().cloned() else { break };
            self.close(&oldest);
        }
        let known = record.is_some();
        let record = record.unwrap_or_default();
        let result = self.guest().and_then(|guest| guest.bytes("nf_user_open", None, &record.state));
        let answer = self.watch(result)?;
        let handle: u32 = postcard::from_bytes(&answer).map_err(|error| {
            let message = format!("its answer does not decode: {error}");
            EdgeError::Guest(GuestError::Trapped { export: "nf_user_open", message })
        })?;
        self.uses += 1;
        self.by_use.insert(self.uses, user.to_owned());
        let open = Open { handle, used: self.uses, token: record.token, pending: record.pending, known };
        self.open.insert(user.to_owned(), open);
        self.metrics.users_open(1.0);
        Ok(handle)
    }

    /// Changes the open user's token or pending mark, and queues the record.
    fn save(&mut self, user: &str, change: impl FnOnce(&mut Open)) -> Result<Ticket, EdgeError> {
        let handle = self.open.get(user).expect("only an open user is saved").handle;
        let state = self.bytes("nf_user_save", Some(handle), &[])?;
        let open = self.open.get_mut(user).expect("a call that answered leaves users open");
        change(open);
        open.known = true;
        let record = Record { state, token: open.token.clone(), pending: open.pending };
        Ok(self.store.put(user, Some(record)))
    }

    fn call<T: serde::de::DeserializeOwned>(
        &mut self,
        export: &'static str,
        handle: Option<u32>,
        message: &impl serde::Serialize,
    ) -> Result<T, EdgeError> {
        let result = self.guest().and_then(|guest| guest.call(export, handle, message));
        self.watch(result)
    }

    pub(super) fn bytes(
        &mut self,
        export: &'static str,
        handle: Option<u32>,
        input: &[u8],
    ) -> Result<Vec<u8>, EdgeError> {
        let result = self.guest().and_then(|guest| guest.bytes(export, handle, input));
        self.watch(result)
    }

    /// Returns the instance, after a trap a new one with the model in service.
    fn guest(&mut self) -> Result<&mut Guest, GuestError> {
        if self.guest.is_none() {
            let mut guest = self.sandbox.instantiate()?;
            let model = self.slot.lock().expect("no holder panics").clone();
            if let Some(model) = model {
                guest.model::<ModelInfo>("nf_model_load", &model.pack)?;
            }
            self.guest = Some(guest);
        }
        Ok(self.guest.as_mut().expect("just made"))
    }

    /// Gives up the instance after a trap: its users are read from the store again.
    fn watch<T>(&mut self, result: Result<T, GuestError>) -> Result<T, EdgeError> {
        if let Err(error) = &result
            && error.is_fatal()
        {
            tracing::error!(%error, "guest instance given up");
            self.metrics.guest_replaced();
            self.metrics.users_open(-(self.open.len() as f64));
            self.guest = None;
            self.open.clear();
            self.by_use.clear();
        }
        result.map_err(EdgeError::from)
    }
}
