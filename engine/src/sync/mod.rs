//! What leaves a device, and its bytes.

pub mod delta;
pub mod wire;
