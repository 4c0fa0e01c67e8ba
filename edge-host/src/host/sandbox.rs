//! The guest module inside wasmtime: compile once, instantiate for each worker, call with messages.
//!
//! A guest has no imports, so all that it can do is compute, use memory and answer. Each is bounded: memory,
//! tables and answers by the numbers of [`Limits`], time by an epoch deadline that a ticker thread moves towards. A
//! call that traps leaves the instance unfit; the caller drops it and makes another.

use crate::abi::{ABI_VERSION, Failure, Status};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc};

/// Time between two ticks of the epoch, the grain of every deadline (choice: a tenth of the
/// shortest useful deadline).
const TICK: Duration = Duration::from_millis(10);

/// What one guest instance may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Linear memory of one instance, in bytes (default 1 GiB). Smaller refuses large catalogues;
    /// larger lets one instance take more of the host.
    pub memory_bytes_max: usize,
    /// Elements of its table of functions (default 65,536; the guest has some hundreds). Larger lets one
    /// instance take more of the host.
    pub table_elements_max: usize,
    /// Bytes of one answer, which the host copies (default 4 MiB: a user's state and outbox, or a list of a
    /// thousand items, stay below a tenth of it).
    pub answer_bytes_max: usize,
    /// Longest call for one user (default 2 s). Smaller frees a worker sooner from a runaway call;
    /// larger tolerates a slow machine.
    pub call_deadline: Duration,
    /// Longest load or patch of a model (default 60 s).
    pub model_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1 << 30,
            table_elements_max: 1 << 16,
            answer_bytes_max: 4 << 20,
            call_deadline: Duration::from_secs(2),
            model_deadline: Duration::from_secs(60),
        }
    }
}

/// Why a call into a guest did not answer.
#[derive(Debug)]
pub enum GuestError {
    /// The guest refused the call and is as it was before.
    Refused {
        /// Which kind of refusal.
        status: Status,
        /// The engine's short name of the reason.
        reason: String,
        /// The engine's text.
        message: String,
    },
    /// The guest was stopped at its deadline. The instance is unfit.
    Deadline {
        /// The export that ran too long.
        export: &'static str,
        /// The time that it had.
        limit: Duration,
    },
    /// The guest trapped or broke the ABI. The instance is unfit.
    Trapped {
        /// The export that was called.
        export: &'static str,
        /// What wasmtime or the check said.
        message: String,
    },
    /// The module could not be compiled, linked or instantiated.
    Module {
        /// What wasmtime or the check said.
        message: String,
    },
}

impl GuestError {
    /// Returns whether the instance must be replaced.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { message, .. } => f.write_str(message),
            Self::Deadline { export, limit } => {
                write!(f, "guest call {export} was stopped at its deadline of {} ms", limit.as_millis())
            }
            Self::Trapped { export, message } => write!(f, "guest call {export} trapped: {message}"),
            Self::Module { message } => write!(f, "guest module cannot be used: {message}"),
        }
    }
}

impl std::error::Error for GuestError {}

/// The compiled guest module, shared by all workers.
#[derive(Clone)]
pub struct Sandbox {
    engine: Arc<Engine>,
    module: Module,
    limits: Limits,
}

impl Sandbox {
    /// Compiles a guest module.
    ///
    /// # Errors
    /// [`GuestError::Module`] if the bytes are not a valid module, or the module needs imports.
    pub fn compile(wasm: &[u8], limits: Limits) -> Result<Self, GuestError> {
        let refused = |error: wasmtime::Error| GuestError::Module { message: format!("{error:#}") };
        let mut config = Config::new();
        // An epoch check costs one load and branch a loop; fuel would count every instruction.
        config.epoch_interruption(true);
        let engine = Engine::new(&config).map_err(refused)?;
        let module = Module::new(&engine, wasm).map_err(refused)?;
        if let Some(import) = module.imports().next() {
            let message = format!("it imports {}.{}, a guest has no imports", import.module(), import.name());
            return Err(GuestError::Module { message });
        }
        let engine = Arc::new(engine);
        tick(Arc::downgrade(&engine));
        Ok(Self { engine, module, limits })
    }

    /// Makes a fresh instance.
    ///
    /// # Errors
    /// [`GuestError::Module`] if an export is missing or the ABI is of another version.
    pub fn instantiate(&self) -> Result<Guest, GuestError> {
        Guest::new(self)
    }

    /// Returns what one instance may use.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

/// Moves the epoch until the engine is gone.
fn tick(engine: Weak<Engine>) {
    std::thread::Builder::new()
        .name("nearfield-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .expect("the process can start a thread");
}

/// One instance of the guest.
pub struct Guest {
    store: Store<StoreLimits>,
    instance: Instance,
    memory: Memory,
    input: TypedFunc<u32, u32>,
    output: TypedFunc<(), u64>,
    limits: Limits,
    /// Kept so that the epoch moves, and deadlines end, as long as there is an instance.
    _ticking: Arc<Engine>,
}

impl Guest {
    fn new(sandbox: &Sandbox) -> Result<Self, GuestError> {
        let refused = |error: wasmtime::Error| GuestError::Module { message: format!("{error:#}") };
        let limits = sandbox.limits;
        let bounds = StoreLimitsBuilder::new()
            .memory_size(limits.memory_bytes_max)
            .instances(1)
            .memories(1)
            .tables(1)
            .table_elements(limits.table_elements_max)
            .build();
        let mut store = Store::new(&sandbox.engine, bounds);
        store.limiter(|bounds| bounds);
        store.set_epoch_deadline(ticks(limits.call_deadline));
        let instance = Instance::new(&mut store, &sandbox.module, &[]).map_err(refused)?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| GuestError::Module { message: "it does not export its memory".to_owned() })?;
        let version: TypedFunc<(), u32> =
            instance.get_typed_func(&mut store, "nf_abi_version").map_err(refused)?;
        let found = version.call(&mut store, ()).map_err(refused)?;
        if found != ABI_VERSION {
            let message = format!("its ABI has version {found}, this host speaks {ABI_VERSION}");
            return Err(GuestError::Module { message });
        }
        let input = instance.get_typed_func(&mut store, "nf_input").map_err(refused)?;
        let output = instance.get_typed_func(&mut store, "nf_output").map_err(refused)?;
        let _ticking = Arc::clone(&sandbox.engine);
        Ok(Self { store, instance, memory, input, output, limits, _ticking })
    }

    /// Loads a model pack, or applies a patch, within the model's deadline.
    ///
    /// # Errors
    /// As [`Guest::call`].
    pub fn model<T: DeserializeOwned>(
        &mut self,
        export: &'static str,
        bytes: &[u8],
    ) -> Result<T, GuestError> {
        let answer = self.call_raw(export, None, bytes, self.limits.model_deadline)?;
        decode(export, &answer)
    }

    /// Calls an export with bytes and decodes its answer.
    ///
    /// # Errors
    /// [`GuestError::Refused`] if the guest refused; a fatal one if it trapped or ran too long.
    pub fn call<T: DeserializeOwned>(
        &mut self,
        export: &'static str,
        handle: Option<u32>,
        input: &[u8],
    ) -> Result<T, GuestError> {
        let answer = self.bytes(export, handle, input)?;
        decode(export, &answer)
    }

    /// Calls an export with bytes and returns bytes.
    ///
    /// # Errors
    /// As [`Guest::call`].
    pub fn bytes(
        &mut self,
        export: &'static str,
        handle: Option<u32>,
        input: &[u8],
    ) -> Result<Vec<u8>, GuestError> {
        self.call_raw(export, handle, input, self.limits.call_deadline)
    }

    fn call_raw(
        &mut self,
        export: &'static str,
        handle: Option<u32>,
        input: &[u8],
        limit: Duration,
    ) -> Result<Vec<u8>, GuestError> {
        self.store.set_epoch_deadline(ticks(limit));
        let trapped = |error: wasmtime::Error| match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::Interrupt) => GuestError::Deadline { export, limit },
            _ => GuestError::Trapped { export, message: format!("{error:#}") },
        };
        let broken = |message: &str| GuestError::Trapped { export, message: message.to_owned() };
        let length = u32::try_from(input.len()).map_err(|_| broken("the message is larger than 4 GiB"))?;

        let pointer = self.input.call(&mut self.store, length).map_err(trapped)?;
        self.memory
            .write(&mut self.store, pointer as usize, input)
            .map_err(|_| broken("the input buffer lies outside the guest's memory"))?;

        let status = match handle {
            None => {
                let run: TypedFunc<(), i32> =
                    self.instance.get_typed_func(&mut self.store, export).map_err(trapped)?;
                run.call(&mut self.store, ()).map_err(trapped)?
            }
            Some(handle) => {
                let run: TypedFunc<u32, i32> =
                    self.instance.get_typed_func(&mut self.store, export).map_err(trapped)?;
                run.call(&mut self.store, handle).map_err(trapped)?
            }
        };

        let packed = self.output.call(&mut self.store, ()).map_err(trapped)?;
        let (start, bytes) = ((packed >> 32) as usize, (packed & u64::from(u32::MAX)) as usize);
        let most = self.limits.answer_bytes_max;
        if bytes > most {
            return Err(broken(&format!("its answer has {bytes} bytes, the limit is {most}")));
        }
        let answer = self
            .memory
            .data(&self.store)
            .get(start..start + bytes)
            .ok_or_else(|| broken("the output buffer lies outside the guest's memory"))?
            .to_vec();

        let status = usize::try_from(status).ok().and_then(|status| Status::ALL.get(status).copied());
        match status {
            Some(Status::Ok) => Ok(answer),
            Some(status) => {
                let Failure { reason, message } = decode(export, &answer)?;
                Err(GuestError::Refused { status, reason, message })
            }
            None => Err(broken("it returned a status that the ABI does not have")),
        }
    }
}

fn decode<T: DeserializeOwned>(export: &'static str, answer: &[u8]) -> Result<T, GuestError> {
    postcard::from_bytes(answer).map_err(|error| GuestError::Trapped {
        export,
        message: format!("its answer does not decode: {error}"),
    })
}

/// Returns a deadline in ticks, never less than one.
fn ticks(limit: Duration) -> u64 {
    (limit.as_millis() / TICK.as_millis()).max(1) as u64
}
