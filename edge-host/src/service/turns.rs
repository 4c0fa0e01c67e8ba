//! Whose turn it is: the steps of one user run one after another on this host, so that they do not undo one another's
//! work. Between hosts the store's compare-and-set decides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::OwnedMutexGuard;

/// A lock for each user who has a step under way.
#[derive(Default)]
pub(crate) struct Turns {
    users: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A user's turn, which ends when this is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    user: &'a str,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for a user's turn.
    pub(crate) async fn of<'a>(&'a self, user: &'a str) -> Turn<'a> {
        let lock = {
            let mut users = self.users.lock().expect("no holder panics");
            Arc::clone(users.entry(user.to_owned()).or_default())
        };
        Turn { turns: self, user, held: Some(lock.lock_owned().await) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut users = self.turns.users.lock().expect("no holder panics");
        self.held = None;
        // The map holds one count of the lock; whoever waits for it holds another.
        if users.get(self.user).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            users.remove(self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn steps_of_a_user_do_not_overlap_and_nothing_is_left_of_them() {
        let turns = Arc::new(Turns::default());
        let inside = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let (turns, inside) = (Arc::clone(&turns), Arc::clone(&inside));
                tokio::spawn(async move {
                    let _turn = turns.of(if number % 10 == 0 { "bob" } else { "ada" }).await;
                    if number % 10 != 0 {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(turns.users.lock().unwrap().is_empty());
    }
}
