//! One thread's guest instance. It holds nothing that the store does not hold.

use crate::abi::{ModelInfo, Status};
use crate::error::EdgeError;
use crate::host::in_service::Slot;
use crate::host::sandbox::{Export, Guest, GuestError};
use crate::host::strikes::{Kind, Strikes};
use crate::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;

/// One thread's instance, and the users whose states made it trap.
pub struct Worker {
    guest: Option<Guest>,
    slot: Arc<Slot>,
    metrics: Arc<Metrics>,
    strikes: Strikes,
}

impl Worker {
    /// Returns a worker with an instance of what is in service.
    ///
    /// # Errors
    /// [`GuestError`] if the core cannot be instantiated.
    pub(super) fn new(slot: &Arc<Slot>, metrics: &Arc<Metrics>) -> Result<Self, GuestError> {
        let guest = Some(slot.take()?);
        Ok(Self { guest, slot: Arc::clone(slot), metrics: Arc::clone(metrics), strikes: Strikes::default() })
    }

    /// Notes how long a call waited for its turn.
    pub(super) fn waited(&self, time: Duration) {
        self.metrics.queued(time);
    }

    /// Does a step of a user; message and answer are bytes.
    ///
    /// # Errors
    /// [`EdgeError::Quarantined`] for a user whose state made the guest trap twice, or what the guest said.
    pub(super) fn step(&mut self, user: &str, kind: Kind, step: &[u8]) -> Result<Vec<u8>, EdgeError> {
        if self.strikes.quarantined(user) {
            return Err(EdgeError::Quarantined);
        }
        let result = self.guest().and_then(|guest| guest.bytes(Export::Step, step));
        match &result {
            Err(GuestError::Deadline { .. } | GuestError::Fuel { .. } | GuestError::Trapped { .. }) => {
                self.strike(|strikes| strikes.trapped(user, kind));
                if self.strikes.quarantined(user) {
                    tracing::error!("a user's state made the guest trap again: quarantined");
                }
            }
            Ok(_) => self.strikes.answered(user, kind),
            Err(GuestError::Refused { .. } | GuestError::Module { .. }) => {}
        }
        self.watch(result)
    }

    /// Calls an export that is not about a user.
    ///
    /// # Errors
    /// What the guest said.
    pub(super) fn bytes(&mut self, export: Export, input: &[u8]) -> Result<Vec<u8>, EdgeError> {
        let result = self.guest().and_then(|guest| guest.bytes(export, input));
        self.watch(result)
    }

    /// Starts anew with a user.
    pub(super) fn forgive(&mut self, user: &str) {
        self.strike(|strikes| strikes.forgive(user));
    }

    /// Applies a patch; returns whether the model is `wanted` after it.
    pub(super) fn patch(&mut self, wanted: &ModelInfo, patch: &[u8]) -> bool {
        let result = self.guest().and_then(|guest| guest.call::<ModelInfo>(Export::Patch, patch));
        self.watch(result).is_ok_and(|info| info == *wanted)
    }

    /// Takes another instance in the place of its own. Where it runs another core, every user gets a new chance.
    pub(super) fn replace(&mut self, guest: Guest, another_core: bool) {
        self.guest = Some(guest);
        if another_core {
            self.strike(|strikes| *strikes = Strikes::default());
        }
    }

    /// Returns the instance, after a trap another one.
    fn guest(&mut self) -> Result<&mut Guest, GuestError> {
        if self.guest.is_none() {
            self.guest = Some(self.slot.take()?);
        }
        Ok(self.guest.as_mut().expect("just made"))
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

    /// Gives up the instance after a trap.
    fn watch<T>(&mut self, result: Result<T, GuestError>) -> Result<T, EdgeError> {
        if let Err(error) = &result
            && error.is_fatal()
        {
            tracing::error!(%error, "guest instance given up");
            self.metrics.guest_replaced();
            self.guest = None;
        }
        result.map_err(|error| match error {
            GuestError::Refused { status: Status::NoModel, .. } => EdgeError::NoModel,
            GuestError::Refused { status: Status::UnknownItem, message, .. } => {
                EdgeError::UnknownItem { message }
            }
            other => EdgeError::Guest(other),
        })
    }
}
