//! The commands of `nearfield-trainer`.

pub mod evaluate;
pub mod features;
mod gate;
pub mod import;
pub mod replay;
pub mod train;
