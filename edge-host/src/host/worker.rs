//! One thread's guest instance and the users open in it.

use crate::abi::{
    EncodeSync, Inspection, Learn, Learnt, List, ModelInfo, Recommend, Settled, TakeDelta, Taken,
};
use crate::error::EdgeError;
use crate::host::model_slot::{InstalledModel, ModelSlot};
use crate::host::sandbox::{Guest, GuestError, Sandbox};
use crate::host::strikes::Strikes;
use crate::metrics::Metrics;
use crate::users::{Record, Ticket, UserStore};
use nearfield_engine::{DeltaId, Event};
use serde::{Serialize, de::DeserializeOwned};
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

/// What a list was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The user's state, or that of a newcomer where nothing is kept of the user.
    Live,
    /// A newcomer's state, since the user's could not be used.
    Newcomer,
}

impl Rung {
    /// Returns its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Newcomer => "newcomer",
        }
    }
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
    strikes: Strikes,
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
            strikes: Strikes::default(),
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
        self.open(user)?;
        let learnt = self.call::<Learnt>(user, "nf_user_learn", &message(&Learn { now_ms, events }));
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
    /// record. So does one whose state cannot be read or makes the guest fail, and the fallback is counted.
    ///
    /// # Errors
    /// [`EdgeError::NoModel`] before the first model; what the guest said if it fails for a newcomer too.
    pub fn recommend(&mut self, user: &str, request: Recommend) -> Result<(List, Rung), EdgeError> {
        let live = self.open(user).and_then(|()| self.call(user, "nf_user_recommend", &message(&request)));
        match live {
            Ok(list) => Ok((list, Rung::Live)),
            Err(EdgeError::NoModel) => Err(EdgeError::NoModel),
            Err(error) => {
                tracing::warn!(%error, "list for a newcomer instead");
                let list = self.recommend_to_newcomer(request)?;
                self.metrics.fallback(error.code());
                Ok((list, Rung::Newcomer))
            }
        }
    }

    fn recommend_to_newcomer(&mut self, request: Recommend) -> Result<List, EdgeError> {
        let result = self.guest().and_then(|guest| {
            let handle: u32 = guest.call("nf_user_open", None, &[])?;
            let list = guest.call("nf_user_recommend", Some(handle), &message(&request));
            // A handle that cannot be closed belongs to an instance that is given up.
            let closed = guest.bytes("nf_user_close", Some(handle), &[]);
            list.and_then(|list| closed.map(|_| list))
        });
        self.watch(result)
    }

    /// Returns what is kept of a user.
    ///
    /// # Errors
    /// [`EdgeError::UnknownUser`] if nothing is.
    pub fn inspect(&mut self, user: &str) -> Result<Inspection, EdgeError> {
        if !self.open_known(user)? {
            return Err(EdgeError::UnknownUser);
        }
        self.call(user, "nf_user_inspect", &[])
    }

    /// Forgets a user, unsent deltas and token included.
    ///
    /// # Errors
    /// [`EdgeError::Store`] if it cannot be known whether there is one.
    pub fn forget(&mut self, user: &str) -> Result<Option<Ticket>, EdgeError> {
        self.close(user);
        let known = self.store.get(user)?.is_some();
        self.strike(|strikes| strikes.forgive(user));
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
        if !self.open_known(user)? {
            return Ok(None);
        }
        let taken: Taken = self.call(user, "nf_user_take_delta", &message(&TakeDelta { id, now_ms }))?;
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
        if !self.open_known(user)? {
            return Ok(None);
        }
        self.save(user, |open| open.token = Some(token)).map(Some)
    }

    /// Returns the outbox as a sync body, empty for an empty outbox; `None` if the user is gone.
    ///
    /// # Errors
    /// What the store or the guest said.
    pub fn encode_sync(&mut self, user: &str, ask: &EncodeSync) -> Result<Option<Vec<u8>>, EdgeError> {
        if !self.open_known(user)? {
            return Ok(None);
        }
        self.bytes(user, "nf_user_encode_sync", &message(ask)).map(Some)
    }

    /// Takes central's reply: settled deltas leave the outbox. `None` if the user is gone.
    ///
    /// # Errors
    /// What the store or the guest said.
    pub fn settle(&mut self, user: &str, reply: &[u8]) -> Result<Option<(Settled, Ticket)>, EdgeError> {
        if !self.open_known(user)? {
            return Ok(None);
        }
        let settled: Settled = self.call(user, "nf_user_settle", reply)?;
        let pending = settled.outbox > 0 || settled.unsent > 0;
        let ticket = self.save(user, |open| open.pending = pending)?;
        Ok(Some((settled, ticket)))
    }

    /// Returns the golden digest as the guest computes it.
    ///
    /// # Errors
    /// [`EdgeError::Guest`] if the guest traps.
    pub fn golden_digest(&mut self) -> Result<String, EdgeError> {
        let result = self.guest().and_then(|guest| guest.bytes("nf_golden_digest", None, &[]));
        Ok(String::from_utf8_lossy(&self.watch(result)?).into_owned())
    }

    /// Closes a user without saving, so that the next call reads the store.
    pub fn close(&mut self, user: &str) {
        let Some(open) = self.open.remove(user) else { return };
        self.by_use.remove(&open.used);
        self.metrics.users_open(-1.0);
        if let Some(guest) = &mut self.guest {
            let closed = guest.bytes("nf_user_close", Some(open.handle), &[]);
            // A handle that the guest does not know is closed already.
            let _ = self.watch(closed);
        }
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

    /// Opens a user, known or new.
    fn open(&mut self, user: &str) -> Result<(), EdgeError> {
        self.check_quarantine(user)?;
        if self.touch(user) {
            return Ok(());
        }
        let record = self.store.get(user)?;
        self.open_record(user, record)
    }

    /// Opens a user of whom something is kept; returns whether anything is.
    fn open_known(&mut self, user: &str) -> Result<bool, EdgeError> {
        self.check_quarantine(user)?;
        if self.open.get(user).is_some_and(|open| open.known) {
            return Ok(self.touch(user));
        }
        let Some(record) = self.store.get(user)? else { return Ok(false) };
        self.close(user);
        self.open_record(user, Some(record))?;
        Ok(true)
    }

    fn check_quarantine(&self, user: &str) -> Result<(), EdgeError> {
        if self.strikes.quarantined(user) { Err(EdgeError::Quarantined) } else { Ok(()) }
    }

    /// Notes that an open user is used; returns whether it is open.
    fn touch(&mut self, user: &str) -> bool {
        let Some(open) = self.open.get_mut(user) else { return false };
        self.by_use.remove(&open.used);
        self.uses += 1;
        open.used = self.uses;
        self.by_use.insert(open.used, user.to_owned());
        true
    }

    fn open_record(&mut self, user: &str, record: Option<Record>) -> Result<(), EdgeError> {
        while self.open.len() >= self.open_max {
            let Some(oldest) = self.by_use.values().next().cloned() else { break };
            self.close(&oldest);
        }
        let known = record.is_some();
        let record = record.unwrap_or_default();
        let export = "nf_user_open";
        let result = self.guest().and_then(|guest| guest.call(export, None, &record.state));
        let handle = self.watch_user(user, export, result)?;
        self.uses += 1;
        self.by_use.insert(self.uses, user.to_owned());
        let open = Open { handle, used: self.uses, token: record.token, pending: record.pending, known };
        self.open.insert(user.to_owned(), open);
        self.metrics.users_open(1.0);
        Ok(())
    }

    /// Changes the open user's token or pending mark, and queues the record.
    fn save(&mut self, user: &str, change: impl FnOnce(&mut Open)) -> Result<Ticket, EdgeError> {
        let state = self.bytes(user, "nf_user_save", &[])?;
        let open = self.open.get_mut(user).expect("a call that answered leaves users open");
        change(open);
        open.known = true;
        let record = Record { state, token: open.token.clone(), pending: open.pending };
        Ok(self.store.put(user, Some(record)))
    }

    /// Calls an export for an open user and decodes its answer.
    fn call<T: DeserializeOwned>(
        &mut self,
        user: &str,
        export: &'static str,
        input: &[u8],
    ) -> Result<T, EdgeError> {
        let handle = Some(self.handle(user));
        let result = self.guest().and_then(|guest| guest.call(export, handle, input));
        self.watch_user(user, export, result)
    }

    /// Calls an export for an open user.
    fn bytes(&mut self, user: &str, export: &'static str, input: &[u8]) -> Result<Vec<u8>, EdgeError> {
        let handle = Some(self.handle(user));
        let result = self.guest().and_then(|guest| guest.bytes(export, handle, input));
        self.watch_user(user, export, result)
    }

    fn handle(&self, user: &str) -> u32 {
        self.open.get(user).expect("only an open user is called for").handle
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

    /// Watches a call that worked on a user's state: a trap counts against the user.
    fn watch_user<T>(
        &mut self,
        user: &str,
        export: &'static str,
        result: Result<T, GuestError>,
    ) -> Result<T, EdgeError> {
        match &result {
            Err(GuestError::Deadline { .. } | GuestError::Trapped { .. }) => {
                self.strike(|strikes| strikes.trapped(user, export));
                if self.strikes.quarantined(user) {
                    tracing::error!(export, "a user's state made the guest trap again: quarantined");
                }
            }
            Ok(_) => self.strikes.answered(user, export),
            Err(GuestError::Refused { .. } | GuestError::Module { .. }) => {}
        }
        self.watch(result)
    }

    /// Changes the strikes and tells how many users are quarantined.
    fn strike(&mut self, change: impl FnOnce(&mut Strikes)) {
        let before = self.strikes.count();
        change(&mut self.strikes);
        let change = self.strikes.count() as f64 - before as f64;
        if change != 0.0 {
            self.metrics.users_quarantined(change);
        }
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

/// Returns a message as the guest reads it.
fn message(message: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).expect("a message holds only what postcard can write")
}
