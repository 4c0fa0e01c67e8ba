//! The model in service, shared by all workers.

use crate::abi::ModelInfo;
use std::sync::{Arc, Mutex};

/// A model that every worker serves.
#[derive(Clone, Debug)]
pub struct InstalledModel {
    /// Lineage, version, rows.
    pub info: ModelInfo,
    /// Its pack.
    pub pack: Arc<Vec<u8>>,
}

/// The model last installed, shared by workers, which need it when they replace an instance.
pub type ModelSlot = Arc<Mutex<Option<InstalledModel>>>;
