//! The model files served: made, signed, and named by what is in them.

pub mod files;
pub mod publisher;
pub mod versions;
