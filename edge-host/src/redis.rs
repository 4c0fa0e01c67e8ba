//! A Redis: one server, a primary that sentinels name, or a cluster. Users lie in it, and model files.

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, Cmd, ConnectionAddr, FromRedisValue, Pipeline, RedisError, RedisFuture, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Longest wait for a connection and for an answer (choice: a list that waits longer comes from memory instead).
const WAIT: Duration = Duration::from_secs(1);
/// Port of a server, and of a sentinel, where the address names none.
const PORTS: (u16, u16) = (6379, 26_379);

/// Time after a call that found it away during which further ones are told so at once (choice: each list would wait
/// for the connection otherwise).
const AWAY_FOR: Duration = Duration::from_millis(250);

/// A Redis that may be away for a while: each call says so, and connects anew.
#[derive(Clone)]
pub struct Redis {
    at: At,
    /// Until when it counts as away.
    away_until: Arc<std::sync::Mutex<Option<Instant>>>,
}

#[derive(Clone)]
enum At {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
    Sentinels(Arc<Mutex<Sentinels>>),
}

/// The primary is asked for again whenever the connection to it is lost.
struct Sentinels {
    client: SentinelClient,
    primary: Option<MultiplexedConnection>,
}

/// Why a Redis cannot be used.
#[derive(Debug)]
pub enum RedisStartError {
    /// The address is none.
    Address {
        /// What was given, without a password.
        address: String,
        /// What is wrong with it.
        message: String,
    },
    /// It does not answer.
    Away {
        /// What the client said.
        error: RedisError,
    },
    /// It would lose what it acknowledged.
    Forgets {
        /// Its setting.
        setting: String,
        /// What the setting must be.
        wanted: &'static str,
    },
}

impl std::fmt::Display for RedisStartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { address, message } => write!(
                f,
                "redis address {address:?} cannot be used: {message}; it is redis://host:port/db, \
                 redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/primary/db, and rediss for TLS"
            ),
            Self::Away { error } => write!(f, "redis does not answer: {error}"),
            Self::Forgets { setting, wanted } => write!(
                f,
                "redis has {setting}, and an event that was acknowledged could be lost; it must have {wanted}"
            ),
        }
    }
}

impl std::error::Error for RedisStartError {}

impl Redis {
    /// Connects to the Redis of an address: `redis://[user:password@]host:port/db`,
    /// `redis+cluster://[user:password@]host:port,host:port`, or
    /// `redis+sentinel://[user:password@]host:port,host:port/primary/db`; `rediss` in the place of `redis` for TLS.
    ///
    /// # Errors
    /// [`RedisStartError`] if the address is none, or nobody answers there.
    pub async fn open(address: &str) -> Result<Self, RedisStartError> {
        let refused =
            |message: String| RedisStartError::Address { address: without_password(address), message };
        let away = |error| RedisStartError::Away { error };
        let (scheme, rest) =
            address.split_once("://").ok_or_else(|| refused("it has no scheme".to_owned()))?;
        let (plain, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !["redis", "rediss"].contains(&plain) {
            return Err(refused(format!("its scheme is {scheme:?}")));
        }
        // Another part of the process may have chosen the cryptography already; one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let at = match kind {
            "" => {
                let client = Client::open(address).map_err(|error| refused(error.to_string()))?;
                let config = ConnectionManagerConfig::new()
                    .set_number_of_retries(0)
                    .set_connection_timeout(Some(WAIT))
                    .set_response_timeout(Some(WAIT));
                At::Server(ConnectionManager::new_with_config(client, config).await.map_err(away)?)
            }
            "cluster" => {
                let (login, hosts) =
                    rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
                let at = if login.is_empty() { String::new() } else { format!("{login}@") };
                let hosts = hosts.trim_end_matches('/').split(',');
                let nodes: Vec<String> = hosts.map(|host| format!("{plain}://{at}{host}")).collect();
                let client =
                    ClusterClient::builder(nodes).connection_timeout(WAIT).response_timeout(WAIT).build();
                let client = client.map_err(|error| refused(error.to_string()))?;
                At::Cluster(client.get_async_connection().await.map_err(away)?)
            }
            "sentinel" => {
                let client = sentinels(rest, plain == "rediss").map_err(refused)?;
                let mut sentinels = Sentinels { client, primary: None };
                sentinels.primary().await.map_err(away)?;
                At::Sentinels(Arc::new(Mutex::new(sentinels)))
            }
            other => return Err(refused(format!("its scheme ends in {other:?}"))),
        };
        Ok(Self { at, away_until: Arc::default() })
    }

    /// Demands that what it acknowledges survives a crash of its process: an append-only file, and no eviction.
    ///
    /// # Errors
    /// [`RedisStartError::Forgets`] names the setting.
    pub async fn demand_durability(&self) -> Result<(), RedisStartError> {
        let away = |error| RedisStartError::Away { error };
        let mut server = self.clone();
        let info: String = match &self.at {
            At::Cluster(cluster) => {
                // One node stands for all: they are configured alike.
                let route = redis::cluster_routing::RoutingInfo::SingleNode(
                    redis::cluster_routing::SingleNodeRoutingInfo::Random,
                );
                let value = cluster.clone().route_command(redis::cmd("INFO"), route).await.map_err(away)?;
                FromRedisValue::from_redis_value(value).map_err(|error| away(error.into()))?
            }
            _ => redis::cmd("INFO").query_async(&mut server).await.map_err(away)?,
        };
        let setting = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        if setting("aof_enabled").map(str::trim) != Some("1") {
            let setting = "appendonly no".to_owned();
            return Err(RedisStartError::Forgets { setting, wanted: "appendonly yes" });
        }
        let bounded = setting("maxmemory").is_some_and(|bytes| bytes.trim() != "0");
        let policy = setting("maxmemory_policy").map_or("", str::trim);
        if bounded && policy.starts_with("allkeys") {
            let setting = format!("maxmemory-policy {policy}");
            return Err(RedisStartError::Forgets { setting, wanted: "maxmemory-policy noeviction" });
        }
        Ok(())
    }
}

impl Sentinels {
    async fn primary(&mut self) -> Result<MultiplexedConnection, RedisError> {
        if self.primary.is_none() {
            let connected = tokio::time::timeout(WAIT, self.client.get_async_connection()).await;
            let timeout = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
            let mut connection = connected.map_err(|_| timeout())??;
            connection.set_response_timeout(WAIT);
            self.primary = Some(connection);
        }
        Ok(self.primary.clone().expect("just made"))
    }
}

impl At {
    async fn command(&mut self, cmd: &Cmd) -> Result<Value, RedisError> {
        match self {
            Self::Server(server) => server.req_packed_command(cmd).await,
            Self::Cluster(cluster) => cluster.req_packed_command(cmd).await,
            Self::Sentinels(sentinels) => {
                let mut primary = sentinels.lock().await.primary().await?;
                let answer = primary.req_packed_command(cmd).await;
                forget_lost(sentinels, &answer).await;
                answer
            }
        }
    }

    async fn commands(
        &mut self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> Result<Vec<Value>, RedisError> {
        match self {
            Self::Server(server) => server.req_packed_commands(pipeline, offset, count).await,
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count).await,
            Self::Sentinels(sentinels) => {
                let mut primary = sentinels.lock().await.primary().await?;
                let answer = primary.req_packed_commands(pipeline, offset, count).await;
                forget_lost(sentinels, &answer).await;
                answer
            }
        }
    }
}

/// Forgets the primary after an error of its connection, and after an answer of one that is no primary any more.
async fn forget_lost<T>(sentinels: &Mutex<Sentinels>, answer: &Result<T, RedisError>) {
    if let Err(error) = answer
        && (error.is_unrecoverable_error() || error.is_timeout() || error.code() == Some("READONLY"))
    {
        sentinels.lock().await.primary = None;
    }
}

impl Redis {
    /// Answers at once while it counts as away.
    fn check(&self) -> Result<(), RedisError> {
        let away_until = *self.away_until.lock().expect("no holder panics");
        match away_until.is_some_and(|until| Instant::now() < until) {
            true => {
                Err(std::io::Error::new(std::io::ErrorKind::NotConnected, "it was away a moment ago").into())
            }
            false => Ok(()),
        }
    }

    fn watch<T>(&self, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        let away = answer.as_ref().is_err_and(|error| error.is_io_error() || error.is_unrecoverable_error());
        *self.away_until.lock().expect("no holder panics") = away.then(|| Instant::now() + AWAY_FOR);
        answer
    }
}

impl ConnectionLike for Redis {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            self.check()?;
            let answer = self.at.command(cmd).await;
            self.watch(answer)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            self.check()?;
            let answer = self.at.commands(pipeline, offset, count).await;
            self.watch(answer)
        })
    }

    fn get_db(&self) -> i64 {
        match &self.at {
            At::Server(server) => server.get_db(),
            At::Cluster(_) | At::Sentinels(_) => 0,
        }
    }
}

/// Reads `[user:password@]host:port,host:port/primary/db`. The login is the one of the primary.
fn sentinels(rest: &str, tls: bool) -> Result<SentinelClient, String> {
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let mut parts = rest.split('/');
    let hosts = parts.next().unwrap_or_default();
    let primary = parts.next().filter(|name| !name.is_empty()).ok_or("it does not name the primary")?;
    let db = match parts.next().filter(|db| !db.is_empty()) {
        Some(db) => db.parse().map_err(|_| format!("its database {db:?} is no number"))?,
        None => 0,
    };
    let address = |host: &str| {
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| format!("its port {port:?} is none"))?),
            None => (host, PORTS.1),
        };
        if host.is_empty() {
            return Err("a sentinel has no host".to_owned());
        }
        Ok(match tls {
            true => ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host.to_owned(), port),
        })
    };
    let hosts: Vec<ConnectionAddr> = hosts.split(',').map(address).collect::<Result<_, String>>()?;
    let said = |error: RedisError| error.to_string();
    let mut builder = SentinelClientBuilder::new(hosts, primary, SentinelServerType::Master)
        .map_err(said)?
        .set_client_to_redis_db(db);
    if tls {
        builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
    }
    if let Some((user, password)) = login.map(|login| login.split_once(':').unwrap_or(("", login))) {
        if !user.is_empty() {
            builder = builder.set_client_to_redis_username(user);
        }
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build().map_err(said)
}

/// Returns an address as it may be printed.
fn without_password(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…{}", &address[..scheme], &address[at..]),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_without_its_password() {
        let cases = [
            ("127.0.0.1:6379", "it has no scheme"),
            ("http://ada:secret@127.0.0.1", "its scheme is \"http\""),
            ("redis+raft://ada:secret@127.0.0.1", "its scheme ends in \"raft\""),
            ("redis+sentinel://ada:secret@127.0.0.1:1", "it does not name the primary"),
            ("redis+sentinel://127.0.0.1:port/main", "its port \"port\" is none"),
            ("redis+sentinel://127.0.0.1/main/x", "its database \"x\" is no number"),
        ];
        for (address, message) in cases {
            let error = Redis::open(address).await.err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_redis_that_is_away_is_an_error_at_once() {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        for address in [
            format!("redis://127.0.0.1:{port}"),
            format!("redis+cluster://127.0.0.1:{port}"),
            format!("redis+sentinel://127.0.0.1:{port}/main"),
        ] {
            let error = Redis::open(&address).await.err().unwrap();
            assert!(matches!(error, RedisStartError::Away { .. }), "{error}");
        }
    }
}
