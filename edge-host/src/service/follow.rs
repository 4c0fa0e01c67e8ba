//! Who follows whose list: a stream is told when its user has learnt something, or a model has come.

use crate::error::EdgeError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::watch;

/// Most streams that are open at the same time (choice: about 2 KiB each).
pub const FOLLOWERS_MAX: usize = 10_000;

/// The users who are followed.
#[derive(Default)]
pub struct Followers {
    users: Arc<Mutex<HashMap<String, watch::Sender<News>>>>,
}

/// When the events arrived that a stream is told of; nothing where it is told of a model.
pub type News = Option<Instant>;

/// One that follows a user; it stops when this is dropped.
pub struct Follower {
    users: Arc<Mutex<HashMap<String, watch::Sender<News>>>>,
    user: String,
    told: watch::Receiver<News>,
}

impl Followers {
    /// Follows a user.
    ///
    /// # Errors
    /// [`EdgeError::Followers`] where too many streams are open.
    pub fn follow(&self, user: &str) -> Result<Follower, EdgeError> {
        let mut users = self.users.lock().expect("no holder panics");
        let open: usize = users.values().map(watch::Sender::receiver_count).sum();
        if open >= FOLLOWERS_MAX {
            return Err(EdgeError::Followers { limit: FOLLOWERS_MAX });
        }
        let told = users.entry(user.to_owned()).or_insert_with(|| watch::channel(None).0).subscribe();
        Ok(Follower { users: Arc::clone(&self.users), user: user.to_owned(), told })
    }

    /// Tells those who follow a user of events that have arrived at a time.
    pub fn tell(&self, user: &str, since: Instant) {
        if let Some(followed) = self.users.lock().expect("no holder panics").get(user) {
            followed.send_replace(Some(since));
        }
    }

    /// Tells everyone of a new model.
    pub fn tell_all(&self) {
        let users = self.users.lock().expect("no holder panics");
        users.values().for_each(|followed| _ = followed.send_replace(None));
    }
}

impl Follower {
    /// Waits until there is something new; of several things at once it is the last one. Nothing once the edge has
    /// stopped.
    pub async fn changed(&mut self) -> Option<News> {
        self.told.changed().await.ok()?;
        Some(*self.told.borrow_and_update())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut users = self.users.lock().expect("no holder panics");
        // This one still counts.
        if users.get(&self.user).is_some_and(|followed| followed.receiver_count() <= 1) {
            users.remove(&self.user);
        }
    }
}
