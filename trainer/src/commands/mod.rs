//! The commands of `nearfield-trainer`.

pub mod evaluate;
mod gate;
pub mod train;
