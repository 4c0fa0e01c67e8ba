//! The commands of `nearfield-central`.

pub mod catalogue;
pub mod keys;
pub mod seed;
pub mod serve;
