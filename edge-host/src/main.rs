//! `nearfield-edge`: the core for many users, behind HTTP.

use anyhow::{Context, Result, bail};
use axum::http::HeaderValue;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use nearfield_edge::auth::{Access, Grants, UserKeys};
use nearfield_edge::host::sandbox::Limits;
use nearfield_edge::listener::{self, Tls};
use nearfield_edge::service::fallback::BuiltIn;
use nearfield_edge::streams::letters::{self, Letter};
use nearfield_edge::streams::{Consume, Consumer, Kafka, Produce, PublishFeatures, Topic};
use nearfield_edge::telemetry::{Telemetry, Traces};
use nearfield_edge::watched::Watched;
use nearfield_edge::{Edge, Options, UsersIn, app};
use nearfield_engine::features::Baseline;
use nearfield_events::Format;
use nearfield_events::kafka::NewTopic;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where `cargo xtask wasm` puts the guest, from the workspace's root.
const GUEST_FILE: &str = "target/nearfield/nearfield_guest.wasm";

/// Hosts Nearfield's core for many users: events in, recommendations out, sync with central.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Arguments>,
}

/// The commands alone: beside one of them, what the environment says about serving is no argument.
#[derive(Parser)]
#[command(version)]
struct Tools {
    #[command(subcommand)]
    command: Command,
}

impl Program {
    fn read() -> Self {
        let first = std::env::args().nth(1);
        let is_command = first.is_some_and(|first| Self::command().find_subcommand(first).is_some());
        if is_command { Self { command: Some(Tools::parse().command), serve: None } } else { Self::parse() }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Records of streams that could not be read or were refused.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Print every metric: its name, its kind and what it means.
    Metrics,
    /// Make the topics that an edge needs, those that are not there yet.
    CreateTopics(CreateTopics),
}

#[derive(Args)]
struct CreateTopics {
    /// Kafka brokers to begin with, host:port separated by commas.
    #[arg(long, value_name = "BROKERS", env = "NEARFIELD_KAFKA")]
    kafka: String,
    /// A file of further settings of librdkafka, name=value a line.
    #[arg(long, value_name = "FILE", env = "NEARFIELD_KAFKA_SETTINGS")]
    kafka_settings: Option<PathBuf>,
    /// A topic for events; may be given several times.
    #[arg(long = "kafka-topic", value_name = "NAME", value_parser = Topic::parse, required = true)]
    kafka_topics: Vec<Topic>,
    /// A topic for the features of events [default: none].
    #[arg(long, value_name = "NAME")]
    kafka_features: Option<String>,
    /// The topic of the dead letters, which has one partition.
    #[arg(long, value_name = "NAME", default_value = "nearfield.dead-letters")]
    kafka_dead_letters: String,
    /// Partitions of the topics of events and features: as many edges share the work at most.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Brokers that keep each record.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100))]
    replicas: i32,
}

impl CreateTopics {
    async fn run(&self) -> Result<()> {
        let kafka = Kafka::of(&self.kafka, None, self.kafka_settings.as_deref())?;
        let replicas = self.replicas;
        let names = self.kafka_topics.iter().map(|topic| topic.name.as_str());
        let names = names.chain(self.kafka_features.as_deref());
        let topics = names.map(|name| NewTopic { name, partitions: self.partitions, replicas });
        let dead_letters = NewTopic { name: &self.kafka_dead_letters, partitions: 1, replicas };
        for topic in topics.chain([dead_letters]) {
            let made = if kafka.create_missing(topic).await? { "made" } else { "is there" };
            println!("{} {made}", topic.name);
        }
        Ok(())
    }
}

#[derive(Subcommand)]
enum DeadLetters {
    /// Print them, oldest first, and how many there are of each reason.
    List {
        #[command(flatten)]
        from: LettersFrom,
        /// Only those of this reason.
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
    },
    /// Send those of a reason back to the topics that they came from, each once.
    Replay {
        #[command(flatten)]
        from: LettersFrom,
        /// The reason that has been mended, such as unknown_schema.
        #[arg(long, value_name = "REASON")]
        reason: String,
    },
}

#[derive(Args)]
struct LettersFrom {
    /// Kafka brokers to begin with, host:port separated by commas.
    #[arg(long, value_name = "BROKERS", env = "NEARFIELD_KAFKA")]
    kafka: String,
    /// A file of further settings of librdkafka, name=value a line.
    #[arg(long, value_name = "FILE", env = "NEARFIELD_KAFKA_SETTINGS")]
    kafka_settings: Option<PathBuf>,
    /// The topic of the dead letters.
    #[arg(long, value_name = "NAME", default_value = "nearfield.dead-letters")]
    kafka_dead_letters: String,
}

impl DeadLetters {
    fn run(&self) -> Result<()> {
        let (Self::List { from, .. } | Self::Replay { from, .. }) = self;
        let kafka = Kafka::of(&from.kafka, None, from.kafka_settings.as_deref())?;
        match self {
            Self::List { reason: wanted, .. } => {
                let mut counts = BTreeMap::new();
                letters::list(&kafka, &from.kafka_dead_letters, |letter| {
                    let Letter { reason, message, origin: (topic, partition, offset), key, .. } = letter;
                    if wanted.as_ref().is_some_and(|wanted| *wanted != reason) {
                        return;
                    }
                    let key =
                        key.map_or_else(|| "-".to_owned(), |key| String::from_utf8_lossy(&key).into_owned());
                    println!("{topic} {partition} {offset} {key:?} {reason}: {message}");
                    *counts.entry(reason).or_insert(0u64) += 1;
                })?;
                counts.iter().for_each(|(reason, count)| eprintln!("{count:>9} {reason}"));
            }
            Self::Replay { reason, .. } => {
                let sent = letters::replay(&kafka, &from.kafka_dead_letters, reason)?;
                println!("{sent} dead letters of reason {reason} sent back");
            }
        }
        Ok(())
    }
}

#[derive(Args)]
struct Arguments {
    /// Base address of central, https:// or http://.
    #[arg(long, env = "NEARFIELD_CENTRAL", default_value = "http://127.0.0.1:7801")]
    central: String,
    /// A file of further root certificates for central, PEM.
    #[arg(long, value_name = "FILE", env = "NEARFIELD_CENTRAL_CA")]
    central_ca: Option<PathBuf>,
    /// A file of services' bearer tokens, each line a token and its scopes: write,read,admin,metrics. It is read again
    /// when it changes.
    #[arg(
        long,
        value_name = "FILE",
        env = "NEARFIELD_TOKENS",
        conflicts_with = "insecure",
        required_unless_present_any = ["insecure", "user_keys"]
    )]
    tokens: Option<PathBuf>,
    /// A file of public keys, each line 64 hex digits after a name: whoever holds a JSON Web Token that one of them
    /// signed (EdDSA) reaches the user that it names. It is read again when it changes.
    #[arg(long, value_name = "FILE", env = "NEARFIELD_USER_KEYS", conflicts_with = "insecure")]
    user_keys: Option<PathBuf>,
    /// Let everyone call everything: only where --listen is a loopback address.
    #[arg(long)]
    insecure: bool,
    /// Central's public key, 64 hex digits (central's keys/online.pub).
    #[arg(long, env = "NEARFIELD_PUBLIC_KEY", value_parser = parse_key)]
    public_key: Key,
    /// The site that models and deltas are for.
    #[arg(long, env = "NEARFIELD_SITE")]
    site: String,
    /// Address to serve on.
    #[arg(long, default_value = "127.0.0.1:7803")]
    listen: SocketAddr,
    /// An origin whose pages may call, such as https://shop.example; may be given several times.
    #[arg(long = "allow-origin", value_name = "ORIGIN", value_parser = parse_origin)]
    allow_origins: Vec<HeaderValue>,
    /// A chain of certificates, PEM, to serve over TLS with; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "NEARFIELD_TLS_CERTIFICATES")]
    tls_certificates: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificates", env = "NEARFIELD_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Most connections at the same time; further ones wait to be accepted.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Folder of the user store, where that is a file, and of the last good model.
    #[arg(long)]
    data: PathBuf,
    /// Where users are kept: redb (a file in the data folder), memory (forgotten at a restart), or a Redis that keeps
    /// an append-only file: redis://host:port/db, redis+cluster://host:port,host:port,
    /// redis+sentinel://host:port,host:port/primary/db, each with user:password@ where needed, rediss for TLS.
    #[arg(long, value_name = "WHERE", env = "NEARFIELD_USERS", default_value = "redb")]
    users: String,
    /// Most memory of `--users memory`, in MiB.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..))]
    users_memory_mib: u64,
    /// Days after which a user who was away is forgotten in Redis, once central has everything [default: never].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    users_keep_days: Option<u64>,
    /// A Memcached in front of the users, host:port.
    #[arg(long, value_name = "ADDRESS", env = "NEARFIELD_USERS_CACHE")]
    users_cache: Option<String>,
    /// How long that cache keeps a record, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    users_cache_for: u64,
    /// The guest module, put into service again when it changes [default: nearfield_guest.wasm beside the binary, else target/nearfield/].
    #[arg(long, env = "NEARFIELD_GUEST")]
    guest: Option<PathBuf>,
    /// Worker threads, each with one guest instance [default: the number of cores].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Memory for what guests keep derived from users' states, over all workers, in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    warm_mib: u64,
    /// A file of item ids, one a line, best first: the list that is served while there is no model.
    #[arg(long, value_name = "FILE", env = "NEARFIELD_BUILT_IN")]
    built_in: Option<PathBuf>,
    /// Most memory of one guest instance, in MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=4096))]
    guest_memory_mib: u64,
    /// A Redis in which edges share model files: they read there what one of them has fetched, also while central is
    /// away. An address as for --users.
    #[arg(long, value_name = "ADDRESS", env = "NEARFIELD_MODELS")]
    models: Option<String>,
    /// Time between two rounds with central, in milliseconds.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(50..))]
    sync_every_ms: u64,
    /// Longest wait for an answer where the caller names none, in milliseconds.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    deadline_ms: u64,
    /// Send callers' events to a stream, to be consumed from there: kafka, the first --kafka-topic.
    #[arg(long, value_name = "STREAMS", value_enum, requires = "kafka", requires = "kafka_topics")]
    events: Option<Streams>,
    /// Take events in from streams: kafka.
    #[arg(long, value_name = "STREAMS", value_enum, requires = "kafka", requires = "kafka_topics")]
    consume: Option<Streams>,
    /// Kafka brokers to begin with, host:port separated by commas.
    #[arg(long, value_name = "BROKERS", env = "NEARFIELD_KAFKA")]
    kafka: Option<String>,
    /// A topic with events, or NAME=json where its records are JSON without a schema; may be given several times.
    #[arg(long = "kafka-topic", value_name = "NAME", value_parser = Topic::parse)]
    kafka_topics: Vec<Topic>,
    /// What --events writes in, where the topic is not of JSON.
    #[arg(long, value_enum, default_value_t = KafkaFormat::Avro)]
    kafka_format: KafkaFormat,
    /// The consumer group, the same for all hosts on one store of users [default: nearfield-SITE].
    #[arg(long, value_name = "NAME")]
    kafka_group: Option<String>,
    /// The topic of records that cannot be read or are refused.
    #[arg(long, value_name = "NAME", default_value = "nearfield.dead-letters")]
    kafka_dead_letters: String,
    /// A topic to which the features of consumed events go, for rankers [default: features are not made].
    #[arg(long, value_name = "NAME", requires = "consume")]
    kafka_features: Option<String>,
    /// What features were in training, as `nearfield-trainer features --baseline` writes it, to be compared with.
    #[arg(long, value_name = "FILE", requires = "kafka_features")]
    features_baseline: Option<PathBuf>,
    /// Events of a window whose features are compared with those of training.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    features_window: u64,
    /// A file of further settings of librdkafka, name=value a line, such as those of SASL.
    #[arg(long, value_name = "FILE", env = "NEARFIELD_KAFKA_SETTINGS")]
    kafka_settings: Option<PathBuf>,
    /// A Confluent-compatible schema registry, https://user:password@host/path [default: the released schemas].
    #[arg(long, value_name = "ADDRESS", env = "NEARFIELD_REGISTRY")]
    registry: Option<String>,
    /// An OpenTelemetry collector that traces go to, over gRPC, such as http://127.0.0.1:4317 [default: no traces].
    #[arg(long, value_name = "ADDRESS", env = "NEARFIELD_OTLP")]
    otlp: Option<String>,
    /// Share of the traces that are sent, of those that no caller has begun, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = parse_share)]
    otlp_share: f64,
    /// Start without a model and wait for central.
    #[arg(long)]
    wait_for_model: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Streams {
    Kafka,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KafkaFormat {
    Avro,
    Protobuf,
}

#[derive(Clone, Copy)]
struct Key([u8; 32]);

fn parse_key(text: &str) -> Result<Key, String> {
    let text = text.trim();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("a public key has 64 hex digits, this has {} characters", text.chars().count()));
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|error| error.to_string())?;
    }
    Ok(Key(key))
}

fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    let origin = url.origin().ascii_serialization();
    if !matches!(url.scheme(), "http" | "https") || origin != text {
        return Err(format!("an origin is a scheme, a host and perhaps a port, such as {origin}"));
    }
    HeaderValue::from_str(text).map_err(|error| error.to_string())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "a share is a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{share} is outside of 0 to 1")) }
}

#[tokio::main]
async fn main() -> Result<()> {
    let Program { command, serve } = Program::read();
    match command {
        // The client's calls block.
        Some(Command::DeadLetters(letters)) => {
            return tokio::task::spawn_blocking(move || letters.run()).await?;
        }
        Some(Command::Metrics) => {
            print!("{}", nearfield_process::table(&nearfield_edge::METRICS));
            print!("{}", nearfield_process::table(&nearfield_process::METRICS));
            return Ok(());
        }
        Some(Command::CreateTopics(topics)) => return topics.run().await,
        None => {}
    }
    let arguments = serve.context("nothing to do: see nearfield-edge --help")?;
    let traces = arguments.otlp.as_ref().map(|collector| Traces {
        collector: collector.clone(),
        share: arguments.otlp_share,
        site: arguments.site.clone(),
    });
    let _telemetry = Telemetry::start(traces.as_ref()).context("--otlp")?;

    let access = if arguments.insecure {
        if !arguments.listen.ip().is_loopback() {
            bail!(
                "--insecure serves everyone who reaches {}: it needs a loopback address; pass --tokens FILE",
                arguments.listen
            );
        }
        Access::Open
    } else {
        let services = arguments.tokens.as_deref().map(|file| Watched::open(file, Grants::from_file));
        let users = arguments.user_keys.as_deref().map(|file| Watched::open(file, UserKeys::from_file));
        Access::Tokens {
            services: services.transpose()?.map(Arc::new),
            users: users.transpose()?.map(Arc::new),
        }
    };
    let tls = match (&arguments.tls_certificates, &arguments.tls_key) {
        (Some(certificates), Some(key)) => Some(Arc::new(Tls::open(certificates, key)?)),
        _ => None,
    };
    let guest = find_guest(arguments.guest.as_deref())?;
    let core = Watched::open(&guest, |path: &Path| std::fs::read(path))
        .with_context(|| format!("guest module {}", guest.display()))?;
    let mut options =
        Options::new(&arguments.site, &arguments.central, arguments.public_key.0, arguments.data);
    if let Some(workers) = arguments.workers {
        options.workers = workers.into();
    }
    options.users = match arguments.users.as_str() {
        "redb" => UsersIn::File,
        "memory" => UsersIn::Memory { bytes_max: arguments.users_memory_mib << 20 },
        address if address.starts_with("redis") => UsersIn::Redis {
            address: address.to_owned(),
            keep: arguments.users_keep_days.map(|days| Duration::from_secs(days * 24 * 60 * 60)),
        },
        other => bail!("--users {other:?} is none of redb, memory, redis://…"),
    };
    if arguments.users_keep_days.is_some() && !matches!(options.users, UsersIn::Redis { .. }) {
        bail!("--users-keep-days is for users in Redis");
    }
    options.users_cache = arguments.users_cache;
    options.users_cache_for = Duration::from_secs(arguments.users_cache_for);
    options.warm_bytes_max = arguments.warm_mib << 20;
    if let Some(file) = &arguments.built_in {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        options.built_in = BuiltIn::from_lines(&text);
    }
    options.limits =
        Limits { memory_bytes_max: (arguments.guest_memory_mib << 20) as usize, ..Limits::default() };
    options.sync_every = Duration::from_millis(arguments.sync_every_ms);
    options.models = arguments.models;
    options.call_deadline = Duration::from_millis(arguments.deadline_ms);
    options.wait_for_model = arguments.wait_for_model;
    options.access = access;
    options.tls.clone_from(&tls);
    options.origins = arguments.allow_origins;
    let read_ca = |file: &PathBuf| std::fs::read(file).with_context(|| file.display().to_string());
    options.central_ca = arguments.central_ca.as_ref().map(read_ca).transpose()?;

    let kafka = Kafka::of(
        arguments.kafka.as_deref().unwrap_or_default(),
        arguments.registry.as_deref(),
        arguments.kafka_settings.as_deref(),
    )?;
    let baseline = arguments.features_baseline.as_deref().map(read_baseline).transpose()?;
    let features = arguments.kafka_features.map(|topic| PublishFeatures {
        subject: format!("{topic}-value"),
        topic,
        baseline,
        window_events: arguments.features_window,
    });
    let consume = arguments.consume.map(|Streams::Kafka| Consume {
        features,
        kafka: kafka.clone(),
        group: arguments.kafka_group.unwrap_or_else(|| format!("nearfield-{}", arguments.site)),
        topics: arguments.kafka_topics.clone(),
        dead_letters: arguments.kafka_dead_letters,
    });
    options.produce =
        arguments.events.zip(arguments.kafka_topics.first()).map(|(Streams::Kafka, topic)| Produce {
            kafka,
            topic: topic.clone(),
            format: match arguments.kafka_format {
                KafkaFormat::Avro => Format::Avro,
                KafkaFormat::Protobuf => Format::Protobuf,
            },
            subject: format!("{}-value", topic.name),
        });

    let listener = tokio::net::TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let site = options.site.clone();
    let edge = Edge::start(options, &core.get()).await?;
    let model = edge.pool().model().map_or_else(
        || "no model yet".to_owned(),
        |model| format!("lineage {} version {}", model.info.lineage, model.info.version),
    );
    let consumer = match consume {
        Some(consume) => Some(Consumer::start(Arc::clone(&edge), consume).await?),
        None => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("listening {scheme}://{} site {site} {model}", listener.local_addr()?);

    let rounds = tokio::spawn(Arc::clone(&edge).sync_forever());
    let watch = tokio::spawn(Arc::clone(&edge).watch_forever(core));
    let (stop, stopping) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        stopped().await;
        stop.send_replace(true);
    });
    listener::serve(listener, app(edge), tls, arguments.connections as usize, stopping).await;
    if let Some(consumer) = consumer {
        consumer.stop().await;
    }
    rounds.abort();
    watch.abort();
    Ok(())
}

/// Reads what features were in training.
fn read_baseline(file: &Path) -> Result<Baseline> {
    let read = || -> Result<Baseline> { Ok(serde_json::from_slice(&std::fs::read(file)?)?) };
    read().with_context(|| file.display().to_string())
}

/// Returns the guest module's path.
fn find_guest(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside = std::env::current_exe()?.with_file_name("nearfield_guest.wasm");
    let candidates = [beside, PathBuf::from(GUEST_FILE)];
    for candidate in &candidates {
        if candidate.is_file() {
            return Ok(candidate.clone());
        }
    }
    bail!(
        "no guest module at {} or {}; build it with `cargo xtask wasm`, or pass --guest",
        candidates[0].display(),
        candidates[1].display()
    )
}

/// Waits for the signal that ends the process.
async fn stopped() {
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "cannot listen for an interrupt");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupted => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot listen for the signal to terminate");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}
