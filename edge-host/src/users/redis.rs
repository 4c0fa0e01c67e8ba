//! Users in Redis, which several hosts may share. A record is read, compared and written by one script, so that of
//! two hosts that stepped the same user one writes and the other steps again.
//!
//! ```text
//! nf:{site:shard}:user:<user>     version (16 bytes), time of the outbox (8 bytes, big-endian, all ones for none),
//!                                 the record as postcard
//! nf:{site:shard}:due             sorted set, all scores 0: time of the outbox, user; in the order of its bytes
//! ```
//!
//! The shard, of 64 by a hash of the user, puts a user's keys into one slot of a cluster.
//!
//! What was acknowledged survives a crash of the server's process, since it writes its append-only file before it
//! answers. A crash of the machine may take the last second with `appendfsync everysec`, nothing with `always`.

use super::{Due, StoreError, UserStore, Version, Versioned, read_value, value};
use crate::redis::{Redis, RedisStartError};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use nearfield_engine::ItemKey;
use redis::{RedisError, Script};
use std::time::Duration;

/// Parts that the users are divided into (choice: as many nodes of a cluster can share them).
const SHARDS: u64 = 64;

/// Writes where the version is the expected one (`*`: any; empty: none), or removes where there is no value.
const PUT_IF: &str = r"
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
local version = string.sub(head, 1, 16)
if ARGV[1] ~= '*' and version ~= ARGV[1] then return 0 end
if ARGV[3] == '' and head == '' then return 0 end
local due = string.sub(head, 17, 24)
local never = string.rep('\255', 8)
if due ~= '' and due ~= never then redis.call('ZREM', KEYS[2], due .. ARGV[2]) end
if ARGV[3] == '' then
    redis.call('DEL', KEYS[1])
    return 1
end
local next = string.sub(ARGV[3], 17, 24)
if next ~= never then redis.call('ZADD', KEYS[2], 0, next .. ARGV[2]) end
if ARGV[4] ~= '' and next == never then
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
else
    redis.call('SET', KEYS[1], ARGV[3])
end
return 1
";

/// A user store in Redis.
pub struct RedisUsers {
    redis: Redis,
    site: String,
    keep: Option<Duration>,
    put_if: Script,
}

impl RedisUsers {
    /// Opens the store of a site. With `keep`, a user who was not written for so long is forgotten, once central has
    /// all that the user taught.
    ///
    /// # Errors
    /// [`RedisStartError`] if it does not answer, or would lose what it acknowledges.
    pub async fn open(redis: Redis, site: &str, keep: Option<Duration>) -> Result<Self, RedisStartError> {
        redis.demand_durability().await?;
        Ok(Self { redis, site: site.to_owned(), keep, put_if: Script::new(PUT_IF) })
    }

    fn shard(&self, shard: u64) -> String {
        format!("nf:{{{}:{shard}}}", self.site)
    }

    /// Returns the keys of a user's record and of the index that it is in.
    fn keys(&self, user: &str) -> [String; 2] {
        let shard = self.shard(ItemKey::of(user).0 % SHARDS);
        [format!("{shard}:user:{user}"), format!("{shard}:due")]
    }

    async fn write(&self, user: &str, expected: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        let [record, due] = self.keys(user);
        let keep = self.keep.map_or_else(String::new, |keep| keep.as_millis().to_string());
        let mut call = self.put_if.prepare_invoke();
        call.key(record).key(due).arg(expected).arg(user).arg(value).arg(keep);
        call.invoke_async(&mut self.redis.clone()).await.map_err(|error| said("write", &error))
    }

    /// Returns users of one shard whose outbox is due, in the order of [`Due`].
    async fn due(
        &self,
        shard: u64,
        now_ms: u64,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        let from = match after {
            Some(after) => [b"(", &after.at_ms.to_be_bytes()[..], after.user.as_bytes()].concat(),
            None => b"-".to_vec(),
        };
        let to = [b"(", &now_ms.saturating_add(1).to_be_bytes()[..]].concat();
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(format!("{}:due", self.shard(shard))).arg(from).arg(to).arg("LIMIT").arg(0).arg(limit);
        let listed: Vec<Vec<u8>> = command
            .query_async(&mut self.redis.clone())
            .await
            .map_err(|error| said("list who is due", &error))?;
        let read = |member: Vec<u8>| {
            let (at, user) = member.split_first_chunk::<8>()?;
            Some(Due { at_ms: u64::from_be_bytes(*at), user: std::str::from_utf8(user).ok()?.to_owned() })
        };
        Ok(listed.into_iter().filter_map(read).collect())
    }
}

#[async_trait]
impl UserStore for RedisUsers {
    async fn get(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        let [record, _] = self.keys(user);
        let value: Option<Vec<u8>> = redis::cmd("GET")
            .arg(record)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(|error| said("read", &error))?;
        value.as_deref().map(read_value).transpose()
    }

    async fn put_if(
        &self,
        user: &str,
        expected: Option<Version>,
        next: &Versioned,
    ) -> Result<bool, StoreError> {
        let expected = expected.map_or_else(Vec::new, |version| version.0.to_vec());
        self.write(user, &expected, &value(next)).await
    }

    async fn erase(&self, user: &str) -> Result<bool, StoreError> {
        self.write(user, b"*", b"").await
    }

    async fn pending(&self, now_ms: u64, after: Option<&Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        let shards = (0..SHARDS).map(|shard| self.due(shard, now_ms, after, limit));
        let mut due: Vec<Due> = try_join_all(shards).await?.into_iter().flatten().collect();
        due.sort_unstable();
        due.truncate(limit);
        Ok(due)
    }
}

fn said(what: &'static str, error: &RedisError) -> StoreError {
    StoreError::new(what, format_args!("redis: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::{Outbox, Record};
    use nearfield_services::Server;

    async fn users(server: &Server) -> RedisUsers {
        let redis = Redis::open(&format!("redis://{}", server.endpoint())).await.unwrap();
        RedisUsers::open(redis, "camp", None).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_contract_holds_on_a_server() {
        super::super::contract::holds(async || {
            let server = Server::redis().unwrap();
            let users = users(&server).await;
            (server, users)
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_contract_holds_on_a_cluster() {
        super::super::contract::holds(async || {
            let server = Server::redis_cluster().unwrap();
            let redis = Redis::open(&format!("redis+cluster://{}", server.endpoint())).await.unwrap();
            (server, RedisUsers::open(redis, "camp", None).await.unwrap())
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_contract_holds_on_the_primary_of_a_sentinel() {
        super::super::contract::holds(async || {
            let server = Server::redis().unwrap();
            let sentinel = Server::redis_sentinel(&server).unwrap();
            let redis = Redis::open(&format!("redis+sentinel://{}/main", sentinel.endpoint())).await.unwrap();
            ((server, sentinel), RedisUsers::open(redis, "camp", None).await.unwrap())
        })
        .await;
    }

    #[tokio::test]
    async fn a_redis_that_would_forget_what_it_acknowledged_is_refused() {
        let cases: [(&[&str], &str); 2] = [
            (&["--appendonly", "no"], "redis has appendonly no"),
            (
                &["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
                "redis has maxmemory-policy allkeys-lru",
            ),
        ];
        for (settings, message) in cases {
            let server = Server::redis_with(settings).unwrap();
            let redis = Redis::open(&format!("redis://{}", server.endpoint())).await.unwrap();
            let error = RedisUsers::open(redis, "camp", None).await.err().unwrap().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[tokio::test]
    async fn what_was_acknowledged_survives_a_kill_and_calls_go_on_after_it() {
        let mut server = Server::redis().unwrap();
        let users = users(&server).await;
        let next = Versioned { version: Version::draw(), record: Record::default() };
        assert!(users.put_if("ada", None, &next).await.unwrap());
        server.kill();
        let error = users.get("ada").await.unwrap_err();
        assert!(error.to_string().starts_with("user store could not read: redis:"), "{error}");
        server.up().unwrap();
        // The connection is made anew in the background.
        let mut found = users.get("ada").await;
        for _ in 0..100 {
            if found.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            found = users.get("ada").await;
        }
        assert_eq!(found.unwrap(), Some(next));
    }

    #[tokio::test]
    async fn who_stays_away_is_forgotten_once_central_has_everything() {
        let server = Server::redis().unwrap();
        let redis = Redis::open(&format!("redis://{}", server.endpoint())).await.unwrap();
        let users = RedisUsers::open(redis, "camp", Some(Duration::from_millis(300))).await.unwrap();
        let record = |outbox| Record { outbox, ..Record::default() };
        let next = |outbox| Versioned { version: Version::draw(), record: record(outbox) };
        assert!(users.put_if("ada", None, &next(Outbox::Empty)).await.unwrap());
        let waiting = next(Outbox::Due { at_ms: 1 });
        assert!(users.put_if("bob", None, &waiting).await.unwrap());
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(users.get("ada").await.unwrap(), None);
        assert_eq!(users.get("bob").await.unwrap(), Some(waiting.clone()), "something waits for central");
        assert!(users.put_if("bob", Some(waiting.version), &next(Outbox::Empty)).await.unwrap());
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(users.get("bob").await.unwrap(), None);
    }
}
