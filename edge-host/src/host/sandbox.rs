//! The guest module inside wasmtime: compile once, instantiate for each worker, call with messages.
//!
//! A guest has no imports, so all that it can do is compute, use memory and answer. Each is bounded: memory,
//! tables and answers by the numbers of [`Limits`], time by an epoch deadline that a ticker thread moves towards, and
//! in tests by fuel, which counts instructions. A call that traps leaves the instance unfit; the caller drops it and
//! takes another.
//!
//! Instances come from a pool of memory that is reserved once, so that a new one costs microseconds. The machine
//! code of a module is kept in a folder, under the hash of all that it was made from, and is not compiled again.

use crate::abi::{ABI_VERSION, Failure, Status};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use wasmtime::{
    Config, Engine, Instance, InstanceAllocationStrategy, Memory, Module, PoolingAllocationConfig, Store,
    StoreLimits, StoreLimitsBuilder, Trap, TypedFunc,
};

/// Time between two ticks of the epoch, the grain of every deadline (choice: a tenth of the
/// shortest useful deadline).
const TICK: Duration = Duration::from_millis(10);

/// Bytes of a pack that are handed to the guest at a time (choice: the guest holds one such piece beside the model).
const PIECE_BYTES: usize = 1 << 20;

/// What one guest instance may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Linear memory of one instance, in bytes (default 1 GiB). Smaller refuses large catalogues;
    /// larger lets one instance take more of the host.
    pub memory_bytes_max: usize,
    /// Elements of its table of functions (default 16,384; the guest has some hundreds). Larger lets one
    /// instance take more of the host.
    pub table_elements_max: usize,
    /// Bytes of one answer, which the host copies (default 4 MiB: a user's state and outbox, or a list of a
    /// thousand items, stay below a tenth of it).
    pub answer_bytes_max: usize,
    /// Longest call for one user (default 500 ms). Smaller frees a worker sooner from a runaway call;
    /// larger tolerates a slow machine.
    pub call_deadline: Duration,
    /// Longest load or patch of a model (default 60 s).
    pub model_deadline: Duration,
    /// Instructions of one call, about (default: not counted, since counting costs time). For tests, where it stops
    /// a call at the same place every time.
    pub fuel_max: Option<u64>,
    /// Instances alive at the same time (default 4; an edge raises it to what its workers need).
    pub instances_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1 << 30,
            table_elements_max: 1 << 14,
            answer_bytes_max: 4 << 20,
            call_deadline: Duration::from_millis(500),
            model_deadline: Duration::from_secs(60),
            fuel_max: None,
            instances_max: 4,
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
    /// The guest was stopped when its fuel was used up. The instance is unfit.
    Fuel {
        /// The export that ran too long.
        export: &'static str,
        /// The fuel that it had.
        limit: u64,
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
            Self::Fuel { export, limit } => {
                write!(f, "guest call {export} was stopped when its fuel of {limit} was used up")
            }
            Self::Trapped { export, message } => write!(f, "guest call {export} trapped: {message}"),
            Self::Module { message } => write!(f, "guest module cannot be used: {message}"),
        }
    }
}

impl std::error::Error for GuestError {}

/// What a guest exports, but for the version of the ABI and the input buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// A step of a user.
    Step,
    /// The items that are like another one.
    Similar,
    /// The beginning of a pack.
    PackBegin,
    /// The next bytes of a pack.
    PackPush,
    /// The end of a pack.
    PackFinish,
    /// A patch.
    Patch,
    /// How much stays derived.
    Warm,
    /// The golden digest.
    GoldenDigest,
}

impl Export {
    const ALL: [Self; 8] = [
        Self::Step,
        Self::Similar,
        Self::PackBegin,
        Self::PackPush,
        Self::PackFinish,
        Self::Patch,
        Self::Warm,
        Self::GoldenDigest,
    ];

    /// Returns its name in the module.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "nf_step",
            Self::Similar => "nf_similar",
            Self::PackBegin => "nf_pack_begin",
            Self::PackPush => "nf_pack_push",
            Self::PackFinish => "nf_pack_finish",
            Self::Patch => "nf_patch",
            Self::Warm => "nf_warm",
            Self::GoldenDigest => "nf_golden_digest",
        }
    }

    fn is_about_the_model(self) -> bool {
        matches!(self, Self::PackBegin | Self::PackPush | Self::PackFinish | Self::Patch | Self::GoldenDigest)
    }
}

/// The compiled guest module, shared by all workers.
#[derive(Clone)]
pub struct Sandbox {
    engine: Arc<Engine>,
    module: Module,
    limits: Limits,
    hash: blake3::Hash,
}

impl Sandbox {
    /// Compiles a guest module, or takes its machine code from `artefacts`, a folder that nobody else can write.
    ///
    /// # Errors
    /// [`GuestError::Module`] if the bytes are not a valid module, or the module needs imports.
    pub fn compile(wasm: &[u8], limits: Limits, artefacts: Option<&Path>) -> Result<Self, GuestError> {
        let refused = |error: wasmtime::Error| GuestError::Module { message: format!("{error:#}") };
        let engine = Engine::new(&config(limits)).map_err(refused)?;
        let hash = blake3::hash(wasm);
        let module = match artefacts {
            Some(folder) => kept_module(&engine, wasm, hash, limits, folder),
            None => Module::new(&engine, wasm),
        };
        let module = module.map_err(refused)?;
        if let Some(import) = module.imports().next() {
            let message = format!("it imports {}.{}, a guest has no imports", import.module(), import.name());
            return Err(GuestError::Module { message });
        }
        let engine = Arc::new(engine);
        tick(Arc::downgrade(&engine));
        Ok(Self { engine, module, limits, hash })
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

    /// Returns the hash of the module's bytes.
    pub fn hash(&self) -> blake3::Hash {
        self.hash
    }
}

fn config(limits: Limits) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(limits.instances_max)
        .total_memories(limits.instances_max)
        .total_tables(limits.instances_max)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .max_memory_size(limits.memory_bytes_max)
        .table_elements(limits.table_elements_max);
    let mut config = Config::new();
    // An epoch check costs one load and branch a loop; fuel would count every instruction.
    config.epoch_interruption(true);
    config.consume_fuel(limits.fuel_max.is_some());
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Returns the module from its machine code in the folder, made and kept there where it is missing or was made by
/// another version, for other settings or for another processor.
fn kept_module(
    engine: &Engine,
    wasm: &[u8],
    hash: blake3::Hash,
    limits: Limits,
    folder: &Path,
) -> wasmtime::Result<Module> {
    let mut name = blake3::Hasher::new();
    name.update(hash.as_bytes());
    name.update(env!("CARGO_PKG_VERSION").as_bytes());
    name.update(format!("{limits:?} {}", std::env::consts::ARCH).as_bytes());
    let path = folder.join(format!("{}.cwasm", &name.finalize().to_hex()[..32]));
    if let Some(module) = std::fs::read(&path).ok().and_then(|kept| read_artefact(engine, &kept)) {
        return Ok(module);
    }
    let module = Module::new(engine, wasm)?;
    let artefact = module.serialize()?;
    if let Err(error) = keep_artefact(&path, &artefact) {
        tracing::warn!(%error, path = %path.display(), "the compiled core could not be kept; the next start compiles it again");
    }
    Ok(module)
}

/// Reads an artefact: a hash, and the machine code that it is of. Wasmtime itself refuses code of another version,
/// for other settings or for another processor.
#[expect(unsafe_code, reason = "machine code that is read back cannot be checked in full")]
fn read_artefact(engine: &Engine, kept: &[u8]) -> Option<Module> {
    let (hash, code) = kept.split_first_chunk::<32>()?;
    if blake3::hash(code) != *hash {
        return None;
    }
    // SAFETY: the code was written by `keep_artefact` of this program: the hash shows that it is whole, and the
    // folder and the file are their owner's alone.
    unsafe { Module::deserialize(engine, code) }.ok()
}

fn keep_artefact(path: &Path, code: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let next = path.with_added_extension("next");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&next)?;
    file.write_all(blake3::hash(code).as_bytes())?;
    file.write_all(code)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
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
    memory: Memory,
    input: TypedFunc<u32, u32>,
    exports: [TypedFunc<u32, u64>; Export::ALL.len()],
    /// Where the input buffer lies, and how much it holds.
    buffer: (usize, usize),
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
        if let Some(fuel) = limits.fuel_max {
            store.set_fuel(fuel).map_err(refused)?;
        }
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
        let mut exports = Vec::with_capacity(Export::ALL.len());
        for export in Export::ALL {
            exports.push(instance.get_typed_func(&mut store, export.name()).map_err(refused)?);
        }
        let Ok(exports) = exports.try_into() else { unreachable!("there is one function for each export") };
        let _ticking = Arc::clone(&sandbox.engine);
        Ok(Self { store, memory, input, exports, buffer: (0, 0), limits, _ticking })
    }

    /// Loads a model pack, which replaces the model held.
    ///
    /// # Errors
    /// As [`Guest::bytes`].
    pub fn load<T: DeserializeOwned>(&mut self, pack: &[u8]) -> Result<T, GuestError> {
        self.bytes(Export::PackBegin, &message(&(pack.len() as u64)))?;
        for piece in pack.chunks(PIECE_BYTES) {
            self.bytes(Export::PackPush, piece)?;
        }
        self.call(Export::PackFinish, &[])
    }

    /// Calls an export with bytes and decodes its answer.
    ///
    /// # Errors
    /// As [`Guest::bytes`].
    pub fn call<T: DeserializeOwned>(&mut self, export: Export, input: &[u8]) -> Result<T, GuestError> {
        let answer = self.bytes(export, input)?;
        decode(export, &answer)
    }

    /// Calls an export with bytes and returns bytes.
    ///
    /// # Errors
    /// [`GuestError::Refused`] if the guest refused; a fatal one if it trapped or ran too long.
    pub fn bytes(&mut self, export: Export, input: &[u8]) -> Result<Vec<u8>, GuestError> {
        let limit =
            if export.is_about_the_model() { self.limits.model_deadline } else { self.limits.call_deadline };
        self.store.set_epoch_deadline(ticks(limit));
        let fuel = self.limits.fuel_max;
        let export_name = export.name();
        let trapped = |error: wasmtime::Error| match (error.downcast_ref::<Trap>(), fuel) {
            (Some(Trap::Interrupt), _) => GuestError::Deadline { export: export_name, limit },
            (Some(Trap::OutOfFuel), Some(limit)) => GuestError::Fuel { export: export_name, limit },
            _ => GuestError::Trapped { export: export_name, message: format!("{error:#}") },
        };
        let broken = |message: &str| GuestError::Trapped { export: export_name, message: message.to_owned() };
        if let Some(fuel) = fuel {
            self.store.set_fuel(fuel).map_err(trapped)?;
        }
        let length = u32::try_from(input.len()).map_err(|_| broken("the message is larger than 4 GiB"))?;

        if input.len() > self.buffer.1 {
            // Room for the next larger message, too, so that most calls need not ask.
            let room = length.checked_next_power_of_two().unwrap_or(length).max(4096);
            let pointer = self.input.call(&mut self.store, room).map_err(trapped)?;
            self.buffer = (pointer as usize, room as usize);
        }
        self.memory
            .write(&mut self.store, self.buffer.0, input)
            .map_err(|_| broken("the input buffer lies outside the guest's memory"))?;
        let packed = self.exports[export as usize].call(&mut self.store, length).map_err(trapped)?;
        let (start, bytes) = ((packed >> 32) as usize, (packed & u64::from(u32::MAX)) as usize);
        let most = self.limits.answer_bytes_max;
        if bytes > most {
            return Err(broken(&format!("its answer has {bytes} bytes, the limit is {most}")));
        }
        let answer = self
            .memory
            .data(&self.store)
            .get(start..start + bytes)
            .ok_or_else(|| broken("its answer lies outside the guest's memory"))?;
        let (status, answer) = answer.split_first().ok_or_else(|| broken("its answer is empty"))?;
        match Status::ALL.get(usize::from(*status)) {
            Some(Status::Ok) => Ok(answer.to_vec()),
            Some(status) => {
                let Failure { reason, message } = decode(export, answer)?;
                Err(GuestError::Refused { status: *status, reason, message })
            }
            None => Err(broken("it answered with a status that the ABI does not have")),
        }
    }
}

/// Returns a message as the guest reads it.
pub fn message(message: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).expect("a message holds only what postcard can write")
}

/// Reads an answer of the guest.
pub(crate) fn decode<T: DeserializeOwned>(export: Export, answer: &[u8]) -> Result<T, GuestError> {
    postcard::from_bytes(answer).map_err(|error| GuestError::Trapped {
        export: export.name(),
        message: format!("its answer does not decode: {error}"),
    })
}

/// Returns a deadline in ticks, never less than one.
fn ticks(limit: Duration) -> u64 {
    (limit.as_millis() / TICK.as_millis()).max(1) as u64
}
