//! The settings of `serve`, each with its unit, default and effect.

use clap::Args;
use ipnet::IpNet;
use nearfield_engine::limits::MANIFEST_MS_MAX;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Settings of the server.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Data directory: store, keys, snapshots and model files. At first start it must hold
    /// model.pack and statistics.bin, as `nearfield-trainer train --out` writes them.
    #[arg(long, value_name = "DIR", env = "NEARFIELD_DATA")]
    pub data: PathBuf,

    /// Address that devices and edges reach.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7801", env = "NEARFIELD_LISTEN")]
    pub listen: SocketAddr,

    /// Address of the listener for /metrics and /readyz; without it there is none. Keep it off the
    /// internet.
    #[arg(long, value_name = "ADDRESS", env = "NEARFIELD_METRICS")]
    pub metrics: Option<SocketAddr>,

    /// Address of the admin listener; without it there is none. Keep it off the internet.
    #[arg(long, value_name = "ADDRESS", env = "NEARFIELD_ADMIN")]
    pub admin: Option<SocketAddr>,

    /// Name of the site; deltas and manifests carry it. Fixed at the first start.
    #[arg(long, default_value = "demo", env = "NEARFIELD_SITE")]
    pub site: String,

    /// Longest time that an admitted delta waits for a publish, in milliseconds (must be > 0).
    /// Smaller shows learning sooner; larger makes fewer versions.
    #[arg(long, value_name = "MS", default_value_t = 2000, env = "NEARFIELD_PUBLISH_EVERY_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub publish_every_ms: u64,

    /// Deltas after which a version is published at once (must be > 0).
    #[arg(long, value_name = "DELTAS", default_value_t = 200, env = "NEARFIELD_PUBLISH_DELTAS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub publish_deltas: u64,

    /// Distinct devices that a row's contributions wait for (must be > 0; 10 is a good choice in
    /// production). Larger hides single devices better and learns rare items later.
    #[arg(long, value_name = "DEVICES", default_value_t = 1, env = "NEARFIELD_K",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,

    /// Days that a row's contributions wait for k devices; then they are dropped (must be > 0).
    #[arg(long, value_name = "DAYS", default_value_t = 7, env = "NEARFIELD_WAIT_DAYS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub wait_days: u32,

    /// Memory that may wait for k devices, in bytes (default 256 MiB). Beyond it the rows with the
    /// fewest devices are dropped, which loses what they waited with.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, env = "NEARFIELD_WAITING_BYTES")]
    pub waiting_bytes: u64,

    /// Memory of the deltas that are in no version yet, in bytes (must be ≥ 65,536; default 64 MiB).
    /// At half of it a version is published at once; beyond it sync requests get 429 until one is out.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, env = "NEARFIELD_WINDOW_BYTES",
          value_parser = clap::value_parser!(u64).range(65_536..))]
    pub window_bytes: u64,

    /// Share of a version's rows, 0 to 1, that may move as far as the step bound lets them. A version
    /// with more of them, and more than one delta can touch, is held until POST /v1/publish asks for it
    /// on the admin listener. Smaller holds more often; 1 never holds.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, env = "NEARFIELD_HOLD_SHARE", value_parser = share)]
    pub hold_share: f64,

    /// Time for which deltas may be based on a version after the next one has come, and for which
    /// their ids are remembered, in milliseconds that the server runs (must be > 0; default 24 hours).
    /// Larger lets devices be away for longer and remembers more ids, about 30 bytes each on disk.
    #[arg(long, value_name = "MS", default_value_t = 86_400_000, env = "NEARFIELD_KEEP_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub keep_ms: u64,

    /// Versions whose whole packs stay on disk for slow downloads (must be > 0).
    #[arg(long, value_name = "VERSIONS", default_value_t = 4, env = "NEARFIELD_KEEP_PACKS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub keep_packs: u64,

    /// Most patches to the newest version (0 for none). They start 1, 2, 4, 8, … versions before it, as
    /// long as a patch is smaller than half of the pack; at a version every two seconds twenty reach
    /// back for twelve days. A device further behind takes the pack.
    #[arg(long, value_name = "PATCHES", default_value_t = 20, env = "NEARFIELD_PATCHES",
          value_parser = clap::value_parser!(u32).range(..=64))]
    pub patches: u32,

    /// Publishes between two snapshots (must be > 0). Larger writes less; smaller starts faster
    /// after a crash.
    #[arg(long, value_name = "PUBLISHES", default_value_t = 32, env = "NEARFIELD_SNAPSHOT_EVERY",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_every: u64,

    /// Time that a manifest holds, in milliseconds (10,000 to 30 days). It is signed again after
    /// half of it. Shorter means that a client notices sooner when it is being kept on an old model.
    #[arg(long, value_name = "MS", default_value_t = 3_600_000, env = "NEARFIELD_MANIFEST_MS",
          value_parser = clap::value_parser!(u64).range(10_000..=MANIFEST_MS_MAX))]
    pub manifest_ms: u64,

    /// Time that a device token holds, in milliseconds (default 30 days).
    #[arg(long, value_name = "MS", default_value_t = 30 * 86_400_000, env = "NEARFIELD_TOKEN_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub token_ms: u64,

    /// Device tokens that one address may ask for in a minute (0 for no limit). It says how soon one
    /// client can be k devices.
    #[arg(long, value_name = "TOKENS", default_value_t = 120, env = "NEARFIELD_TOKENS_PER_ADDRESS")]
    pub tokens_per_address: u32,

    /// Sync requests that one address may make in a minute (0 for no limit).
    #[arg(long, value_name = "REQUESTS", default_value_t = 6000, env = "NEARFIELD_SYNCS_PER_ADDRESS")]
    pub syncs_per_address: u32,

    /// Sync requests that may come with one device token in a minute (0 for no limit).
    #[arg(long, value_name = "REQUESTS", default_value_t = 120, env = "NEARFIELD_SYNCS_PER_TOKEN")]
    pub syncs_per_token: u32,

    /// Networks whose addresses have no limits, such as those of edge hosts: 10.1.0.0/16,10.2.0.7/32.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', env = "NEARFIELD_TRUSTED")]
    pub trusted: Vec<IpNet>,

    /// Proxies in front of the server, each of which appends the address before it to
    /// X-Forwarded-For. With 0 the header is not read.
    #[arg(long, value_name = "PROXIES", default_value_t = 0, env = "NEARFIELD_PROXIES")]
    pub proxies: usize,

    /// Time that a request may take, its body included, in milliseconds (100 to 60,000).
    #[arg(long, value_name = "MS", default_value_t = 15_000, env = "NEARFIELD_REQUEST_MS",
          value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub request_ms: u64,

    /// Connections open at the same time; further ones wait (must be > 0).
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 4096, env = "NEARFIELD_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Connections that one address may have open at the same time; further ones are closed (must be
    /// > 0). It does not count behind proxies.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 256, env = "NEARFIELD_CONNECTIONS_PER_ADDRESS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_per_address: u32,

    /// Sync requests that may wait for the disk; past that they get 429 (must be > 0).
    #[arg(long, value_name = "REQUESTS", default_value_t = 1024, env = "NEARFIELD_QUEUE",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub queue: u32,
}

impl Config {
    /// Returns the default settings for a data directory and a site.
    pub fn new(data: PathBuf, site: &str) -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            config: Config,
        }
        let words: [&std::ffi::OsStr; 5] =
            ["central".as_ref(), "--data".as_ref(), data.as_os_str(), "--site".as_ref(), site.as_ref()];
        <Defaults as clap::Parser>::try_parse_from(words)
            .expect("the defaults are within their ranges")
            .config
    }
}

/// Reads a share, 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{share} is not in 0 to 1")) }
}
