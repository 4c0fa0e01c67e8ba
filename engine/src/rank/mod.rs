//! From a person and a model to a list.
//!
//! ```text
//! history → features → query → visits, scan (kernel, blocks that cannot win are skipped) → top k
//! ```

pub(crate) mod diversity;
pub(crate) mod features;
pub(crate) mod query;
pub mod request;
pub(crate) mod row_set;
pub(crate) mod scan;
mod similar;
pub mod top_k;
pub(crate) mod visits;

pub use scan::{Read, factor_scores};
