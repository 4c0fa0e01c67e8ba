//! What every worker runs: the core and the model in service, and an instance of them to spare.

use crate::abi::ModelInfo;
use crate::host::sandbox::{Export, Guest, GuestError, Sandbox, message};
use crate::service::fallback::Catalogue;
use std::sync::{Arc, Mutex};

/// A model that every worker serves.
#[derive(Clone, Debug)]
pub struct InstalledModel {
    /// Lineage, version, rows.
    pub info: ModelInfo,
    /// Its pack.
    pub pack: Arc<Vec<u8>>,
    /// Its items and popular lists, for when the guest cannot rank.
    pub catalogue: Arc<Catalogue>,
}

/// The core and the model in service.
#[derive(Clone)]
pub struct InService {
    /// The compiled core.
    pub sandbox: Sandbox,
    /// The model, once there is one.
    pub model: Option<InstalledModel>,
    /// Most bytes that an instance keeps derived from states.
    pub warm_bytes_max: u64,
}

impl InService {
    /// Makes an instance that serves.
    ///
    /// # Errors
    /// [`GuestError`] if the core cannot be instantiated or refuses the model.
    pub fn instantiate(&self) -> Result<Guest, GuestError> {
        let mut guest = self.sandbox.instantiate()?;
        guest.bytes(Export::Warm, &message(&self.warm_bytes_max))?;
        if let Some(model) = &self.model {
            let info: ModelInfo = guest.load(&model.pack)?;
            if info != model.info {
                let message = format!("it read version {} as {}", model.info.version, info.version);
                return Err(GuestError::Module { message });
            }
        }
        Ok(guest)
    }
}

/// What is in service, shared by all workers. An instance to spare is made in the background, so that a worker whose
/// guest has trapped goes on at once.
pub struct Slot {
    held: Mutex<Held>,
}

struct Held {
    in_service: InService,
    /// Rises with every change of what is in service.
    generation: u64,
    spare: Option<Guest>,
    making: bool,
}

impl Slot {
    /// Returns a slot with a core, and no model yet.
    pub fn new(in_service: InService) -> Arc<Self> {
        let held = Held { in_service, generation: 0, spare: None, making: false };
        Arc::new(Self { held: Mutex::new(held) })
    }

    /// Returns what is in service.
    pub fn in_service(&self) -> InService {
        self.held.lock().expect("no holder panics").in_service.clone()
    }

    /// Puts core and model into service, from the next instance on.
    pub fn replace(self: &Arc<Self>, in_service: InService) {
        let mut held = self.held.lock().expect("no holder panics");
        held.in_service = in_service;
        held.generation += 1;
        let outdated = held.spare.take();
        drop(held);
        drop(outdated);
        self.make_spare();
    }

    /// Returns an instance of what is in service: the one to spare, or a new one.
    ///
    /// # Errors
    /// As [`InService::instantiate`].
    pub fn take(self: &Arc<Self>) -> Result<Guest, GuestError> {
        let spare = self.held.lock().expect("no holder panics").spare.take();
        self.make_spare();
        match spare {
            Some(guest) => Ok(guest),
            None => self.in_service().instantiate(),
        }
    }

    /// Makes an instance to spare, on a thread of its own, where there is none.
    fn make_spare(self: &Arc<Self>) {
        let mut held = self.held.lock().expect("no holder panics");
        if held.making || held.spare.is_some() || held.in_service.model.is_none() {
            return;
        }
        held.making = true;
        drop(held);
        let slot = Arc::clone(self);
        let made = std::thread::Builder::new().name("nearfield-spare".to_owned()).spawn(move || {
            loop {
                let (in_service, generation) = {
                    let held = slot.held.lock().expect("no holder panics");
                    (held.in_service.clone(), held.generation)
                };
                let guest = in_service.instantiate();
                let mut held = slot.held.lock().expect("no holder panics");
                if held.generation == generation {
                    held.spare =
                        guest.inspect_err(|error| tracing::warn!(%error, "no instance to spare")).ok();
                    held.making = false;
                    return;
                }
            }
        });
        if let Err(error) = made {
            tracing::warn!(%error, "no thread for an instance to spare");
            self.held.lock().expect("no holder panics").making = false;
        }
    }
}
