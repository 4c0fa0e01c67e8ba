//! Work on many rows by all processors.

/// Items that a thread takes at once (choice: rows cost very different times, and a part costs little).
#[cfg(not(target_arch = "wasm32"))]
const PART: usize = 64;

/// Does `work` on parts of the items, on as many threads as there are processors; few items take the
/// caller's own.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn by_parts<T: Send>(items: &mut [T], work: impl Fn(&mut [T]) + Sync) {
    use std::sync::{Mutex, PoisonError};
    use std::thread;

    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(items.len().div_ceil(PART));
    let parts = Mutex::new(items.chunks_mut(PART));
    let take_turns = || {
        // The lock is free again before the work begins.
        while let Some(part) = { parts.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            work(part);
        }
    };
    if threads < 2 {
        return take_turns();
    }
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(take_turns);
        }
    });
}

/// Does `work` on all items in the caller's thread: there is no other.
#[cfg(target_arch = "wasm32")]
pub(super) fn by_parts<T>(items: &mut [T], work: impl Fn(&mut [T])) {
    work(items);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_worked_on_once_however_many_there_are() {
        for count in [0, 1, PART, 10 * PART + 1] {
            let mut items: Vec<usize> = (0..count).collect();
            by_parts(&mut items, |part| part.iter_mut().for_each(|item| *item += 1000));
            assert!(items.into_iter().eq((0..count).map(|item| item + 1000)), "{count} items");
        }
    }
}
