//! From a request to the log: device tokens, the queue, the one thread that writes.

pub mod queue;
pub mod token;
pub mod writer;
