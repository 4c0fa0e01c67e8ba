//! The limits that several parts share, each with its unit, its reason and who relies on it.

/// Longest item id, in bytes of UTF-8. A pack stores the length in one byte; event check, catalogue,
/// pack and patch rely on it.
pub const ITEM_ID_BYTES_MAX: usize = 128;

/// Longest event id or session id, in bytes. Only a hash of either is kept, so the limit just bounds
/// what a caller may send.
pub const EVENT_ID_BYTES_MAX: usize = 128;

/// How far ahead of the receiver's clock an event may lie, in milliseconds: one day, so that a wrong
/// time zone passes and a wrong century does not.
pub const EVENT_FUTURE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Most rows of a catalogue: a stored neighbour keeps its row in 24 bits. Catalogue, pack and patch
/// rely on it.
pub const ROWS_MAX: usize = nearfield_kernels::ROWS_MAX;

/// Largest d, the number of factors: 512 products of 15 and 7 bits fit an `i32`, which the integer
/// dot product relies on.
pub const DIM_MAX: usize = nearfield_kernels::DIM_MAX;

/// Rows that ranking reads or skips together: those that are alike had better lie within one block.
pub const BLOCK_ROWS: usize = nearfield_kernels::BLOCK;

/// Events of history that are always kept for a person. The trainer folds in as many.
pub const HISTORY_MIN: usize = 512;

/// Events that leave a history together, the oldest ones (a choice: a quarter of the history). The sums over a
/// history are started anew as often, so that none has to be subtracted.
pub const HISTORY_STEP: usize = 128;

/// Most events of history kept for a person. A stored state with more is refused.
pub const HISTORY_MAX: usize = HISTORY_MIN + HISTORY_STEP - 1;

/// Most choices that the rank bins of one delta may count. The device keeps to it and admission refuses more.
pub const CHOICES_MAX: u32 = 512;

/// A gap that ends a session where events name none, in milliseconds: 30 minutes, as in GA4. Device,
/// trainer and baselines must agree on it, or their transitions would differ.
pub const SESSION_GAP_MS: u64 = 30 * 60 * 1000;

/// New events after which a delta goes out. Device and evaluation rely on it.
pub const DELTA_EVENTS: usize = 20;

/// Idle time after which a delta goes out, in milliseconds.
pub const DELTA_IDLE_MS: u64 = 60_000;

/// Deltas that wait in the outbox at most (a choice: 16 KiB at 256 bytes each). Past that the oldest is
/// given up, so that the state of a device that stays offline does not grow.
pub const OUTBOX_MAX: usize = 64;

/// Most versions that one delta's metrics may report on (a choice: a device sees few versions between
/// two deltas). The device keeps to it and admission refuses more.
pub const METRICS_MAX: usize = 4;

/// Most items of one list: a screen shows far fewer, and the top k is an insertion list.
pub const COUNT_MAX: u32 = 1000;

/// Largest sync body, in bytes; checked before anything is parsed. It is the most that browsers let a beacon carry.
pub const SYNC_BYTES_MAX: usize = 64 * 1024;

/// Largest batch of one sync body, in deltas: four full outboxes.
pub const DELTAS_MAX: usize = 256;

/// How far ahead of a client's clock a manifest may have been issued, in milliseconds: one day, as for events.
pub const MANIFEST_AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Longest time that a manifest may hold, in milliseconds: 30 days. One that was stolen with its key serves no
/// longer than that; central keeps to it and clients refuse more.
pub const MANIFEST_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// Longest site name, in bytes.
pub const SITE_BYTES_MAX: usize = 64;

/// Longest device token, in bytes; central's tokens have 41.
pub const TOKEN_BYTES_MAX: usize = 64;
