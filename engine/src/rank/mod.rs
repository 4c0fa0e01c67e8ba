//! From a person and a model to a list: features, query, scan, top k.

pub mod features;
pub(crate) mod kernel;
pub mod query;
pub mod top_k;
