//! The demo shop: a plausible shop with shoppers, drawn from one seed, and the server of its page.
//!
//! The path from top to bottom: [`products`] composes collections and products, [`shoppers`] lets people
//! browse them for two weeks, [`events`] writes and reads the event log, [`sessions`] cuts its second part
//! into the visits that the page replays, [`catalogue`] writes what the page draws, and [`serve`] serves it.
//!
//! The shop is no benchmark: it is made so that what a person does says something about what they do next
//! (a taste, an intent, a collection), and so that the shop changes while they browse (trends, arrivals).
//! Nothing here reads a clock or the system's randomness: the same seed gives the same bytes.

pub mod catalogue;
pub mod events;
pub mod products;
pub mod random;
pub mod serve;
pub mod sessions;
pub mod shoppers;
