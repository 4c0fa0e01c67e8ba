//! The commands of `nearfield-trainer`.

pub mod evaluate;
pub mod train;
