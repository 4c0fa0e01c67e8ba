//! Memcached as a cache in front of another backend. It is never the only copy: what it has may vanish at any time,
//! and what it cannot take is read from the backend.

use super::{Due, StoreError, UserStore, Version, Versioned, read_value, value};
use async_memcached::{AsciiProtocol, Client, Error, Status};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Connections (choice: a call holds one for some ten microseconds).
const CONNECTIONS: usize = 8;
/// Longest wait for the cache (choice: a backend on the same network answers within this).
const WAIT: Duration = Duration::from_millis(20);
/// Stands for an erased user, so that a reader who met the record before cannot put it back.
const ERASED: &[u8] = b"erased";

/// A cache in front of a user store.
///
/// Beyond the contract of [`UserStore`]: [`UserStore::get`] may answer a record that another host has replaced, for
/// as long as `keep` says, where the cache could not be told of the write. A step on such a record is refused by the
/// backend's compare-and-set and done again on the newest one, so no event is lost by it.
pub struct CachedUsers {
    behind: Arc<dyn UserStore>,
    cache: Cache,
    site: String,
    keep: Duration,
    hits: AtomicU64,
}

/// What the cache is asked.
enum Ask<'a> {
    Version,
    Get {
        key: &'a str,
    },
    Set {
        key: &'a str,
        value: &'a [u8],
        seconds: i64,
    },
    /// As set, only where nothing is there.
    Add {
        key: &'a str,
        value: &'a [u8],
        seconds: i64,
    },
    Delete {
        key: &'a str,
    },
}

/// Some connections to one Memcached, each made when it is needed.
struct Cache {
    address: String,
    connections: [Mutex<Option<Client>>; CONNECTIONS],
    next: AtomicUsize,
}

impl CachedUsers {
    /// Puts the Memcached at `address` (`host:port`) before a store. It keeps a record for `keep`, in whole seconds.
    ///
    /// # Errors
    /// [`StoreError`] if the cache does not answer: what is configured must be there at the start.
    pub async fn open(
        behind: Arc<dyn UserStore>,
        address: &str,
        site: &str,
        keep: Duration,
    ) -> Result<Self, StoreError> {
        let cache = Cache {
            address: address.trim_start_matches("memcached://").to_owned(),
            connections: Default::default(),
            next: AtomicUsize::new(0),
        };
        let users = Self { behind, cache, site: site.to_owned(), keep, hits: AtomicU64::new(0) };
        let asked = users.cache.ask(Duration::from_secs(1), &Ask::Version).await;
        asked.map_err(|message| StoreError::new("reach its cache", format_args!("{address}: {message}")))?;
        Ok(users)
    }

    /// Returns how many records were answered by the cache.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Returns a user's key: Memcached takes 250 bytes without spaces, a name may be anything.
    fn key(&self, user: &str) -> String {
        let mut name = blake3::Hasher::new();
        name.update(&(self.site.len() as u64).to_le_bytes())
            .update(self.site.as_bytes())
            .update(user.as_bytes());
        format!("nf:{}", name.finalize().to_hex())
    }

    /// Tells the cache what the backend has now; where it cannot be told, forgets the user there.
    async fn tell(&self, user: &str, value: &[u8]) {
        let ask = Ask::Set { key: &self.key(user), value, seconds: self.seconds() };
        if self.cache.ask(WAIT, &ask).await.is_err() {
            self.forget(user).await;
        }
    }

    async fn forget(&self, user: &str) {
        if let Err(message) = self.cache.ask(WAIT, &Ask::Delete { key: &self.key(user) }).await {
            tracing::debug!(message, "the cache could not be told of a write");
        }
    }

    fn seconds(&self) -> i64 {
        self.keep.as_secs().max(1) as i64
    }
}

#[async_trait]
impl UserStore for CachedUsers {
    async fn get(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        let key = self.key(user);
        let cached = self.cache.ask(WAIT, &Ask::Get { key: &key }).await;
        if let Ok(Some(value)) = &cached
            && value != ERASED
            && let Ok(versioned) = read_value(value)
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(versioned));
        }
        let held = self.behind.get(user).await?;
        if let (Some(held), Ok(None)) = (&held, cached) {
            // Only where nothing is there: a write that came between must not be replaced by what was before it.
            let add = Ask::Add { key: &key, value: &value(held), seconds: self.seconds() };
            let _ = self.cache.ask(WAIT, &add).await;
        }
        Ok(held)
    }

    async fn get_newest(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        self.behind.get_newest(user).await
    }

    async fn put_if(
        &self,
        user: &str,
        expected: Option<Version>,
        next: &Versioned,
    ) -> Result<bool, StoreError> {
        match self.behind.put_if(user, expected, next).await {
            Ok(true) => {
                self.tell(user, &value(next)).await;
                Ok(true)
            }
            other => {
                // What the cache has is outdated, or nobody knows.
                self.forget(user).await;
                other
            }
        }
    }

    async fn erase(&self, user: &str) -> Result<bool, StoreError> {
        let erased = self.behind.erase(user).await;
        self.tell(user, ERASED).await;
        erased
    }

    async fn pending(&self, now_ms: u64, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.behind.pending(now_ms, after, limit).await
    }
}

impl Cache {
    /// Asks on a connection; where that turns out to be lost, once more on a new one.
    async fn ask(&self, wait: Duration, ask: &Ask<'_>) -> Result<Option<Vec<u8>>, String> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let answered = tokio::time::timeout(wait, async {
            let mut connection = self.connections[at].lock().await;
            if let Some(client) = connection.as_mut().filter(|client| !client.is_closed()) {
                match ask.on(client).await {
                    Err(Error::Io(_) | Error::ConnectionClosed | Error::ParseError(_)) => {}
                    answer => return answer,
                }
            }
            *connection = None;
            let client = connection.insert(Client::new(format!("tcp://{}", self.address)).await?);
            ask.on(client).await
        });
        match answered.await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} ms", wait.as_millis())),
        }
    }
}

impl Ask<'_> {
    async fn on(&self, client: &mut Client) -> Result<Option<Vec<u8>>, Error> {
        match *self {
            Self::Version => client.version().await.map(|_| None),
            Self::Get { key } => Ok(client.get(key).await?.and_then(|value| value.data)),
            Self::Set { key, value, seconds } => {
                client.set(key, value, Some(seconds), None).await.map(|()| None)
            }
            Self::Add { key, value, seconds } => {
                client.add(key, value, Some(seconds), None).await.map(|()| None)
            }
            Self::Delete { key } => match client.delete(key).await {
                Ok(()) | Err(Error::Protocol(Status::NotFound)) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Redis;
    use crate::users::Record;
    use crate::users::memory::MemoryUsers;
    use crate::users::redis::RedisUsers;
    use nearfield_services::Server;

    const KEEP: Duration = Duration::from_secs(60);

    fn versioned(state: u8) -> Versioned {
        Versioned { version: Version::draw(), record: Record { state: vec![state], ..Record::default() } }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_contract_holds_before_redis() {
        super::super::contract::holds(async || {
            let (redis, memcached) = (Server::redis().unwrap(), Server::memcached().unwrap());
            let behind = Redis::open(&format!("redis://{}", redis.endpoint())).await.unwrap();
            let behind = Arc::new(RedisUsers::open(behind, "camp", None).await.unwrap());
            let users = CachedUsers::open(behind, &memcached.endpoint(), "camp", KEEP).await.unwrap();
            ((redis, memcached), users)
        })
        .await;
    }

    #[tokio::test]
    async fn a_record_is_answered_by_the_cache_and_one_of_another_host_by_the_backend() {
        let server = Server::memcached().unwrap();
        let behind = Arc::new(MemoryUsers::new(u64::MAX));
        let open = async || {
            let behind = Arc::clone(&behind) as Arc<dyn UserStore>;
            CachedUsers::open(behind, &server.endpoint(), "camp", KEEP).await.unwrap()
        };
        let (north, south) = (open().await, open().await);
        let (first, second) = (versioned(1), versioned(2));
        assert!(north.put_if("ada", None, &first).await.unwrap());
        assert_eq!(south.get("ada").await.unwrap(), Some(first.clone()));
        assert_eq!(south.hits(), 1);
        // A host whose write the cache never heard of.
        assert!(behind.put_if("ada", Some(first.version), &second).await.unwrap());
        assert_eq!(south.get("ada").await.unwrap(), Some(first.clone()), "a cache may be behind");
        assert!(!south.put_if("ada", Some(first.version), &versioned(3)).await.unwrap());
        assert_eq!(south.get_newest("ada").await.unwrap(), Some(second.clone()));
        assert_eq!(south.get("ada").await.unwrap(), Some(second), "it was told to forget");
    }

    #[tokio::test]
    async fn a_reader_does_not_bring_an_erased_user_back() {
        let server = Server::memcached().unwrap();
        let behind = Arc::new(MemoryUsers::new(u64::MAX));
        let users = CachedUsers::open(behind, &server.endpoint(), "camp", KEEP).await.unwrap();
        let held = versioned(1);
        assert!(users.put_if("ada", None, &held).await.unwrap());
        assert!(users.erase("ada").await.unwrap());
        // What a reader does that had asked the backend just before.
        let (key, value) = (users.key("ada"), value(&held));
        users.cache.ask(WAIT, &Ask::Add { key: &key, value: &value, seconds: 60 }).await.unwrap_err();
        assert_eq!(users.get("ada").await.unwrap(), None);
    }

    #[tokio::test]
    async fn without_its_cache_a_store_goes_on() {
        let mut server = Server::memcached().unwrap();
        let behind = Arc::new(MemoryUsers::new(u64::MAX)) as Arc<dyn UserStore>;
        let users = CachedUsers::open(Arc::clone(&behind), &server.endpoint(), "camp", KEEP).await.unwrap();
        let (first, second) = (versioned(1), versioned(2));
        assert!(users.put_if("ada", None, &first).await.unwrap());
        server.kill();
        assert_eq!(users.get("ada").await.unwrap(), Some(first.clone()));
        assert!(users.put_if("ada", Some(first.version), &second).await.unwrap());
        let error = CachedUsers::open(behind, &server.endpoint(), "camp", KEEP).await.err().unwrap();
        assert!(error.to_string().starts_with("user store could not reach its cache"), "{error}");
        server.up().unwrap();
        assert_eq!(users.get("ada").await.unwrap(), Some(second.clone()));
        assert_eq!(users.get("ada").await.unwrap(), Some(second));
        assert!(users.hits() > 0, "it is used again");
    }
}
