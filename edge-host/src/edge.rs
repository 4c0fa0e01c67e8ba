//! A running edge: users, workers, and what the rounds with central need.

use crate::abi::{Inspection, Learnt, List, ListRequest, ModelInfo, Send, Similar, StateName, Step, Stepped};
use crate::error::EdgeError;
use crate::host::in_service::InstalledModel;
use crate::host::pool::Pool;
use crate::host::sandbox::{GuestError, Sandbox};
use crate::metrics::Metrics;
use crate::options::{Options, UsersIn};
use crate::redis::{Redis, RedisStartError};
use crate::service::context::in_time;
use crate::service::fallback::{Catalogue, Recommendations, Rung};
use crate::service::follow::Followers;
use crate::service::turns::Turns;
use crate::streams::{Producer, StreamError, Streamed};
use crate::sync::central::Central;
use crate::sync::error::SyncError;
use crate::users::memcached::CachedUsers;
use crate::users::memory::MemoryUsers;
use crate::users::redb::RedbUsers;
use crate::users::redis::RedisUsers;
use crate::users::{LastList, Outbox, Position, Record, StoreError, UserStore, Version, Versioned};
use crate::watched::Watched;
use backon::{BackoffBuilder, ExponentialBuilder};
use lru::LruCache;
use nearfield_engine::features::Features;
use nearfield_engine::limits::DELTA_IDLE_MS;
use nearfield_engine::model::manifest::issued_ms;
use nearfield_engine::{Context, Event, ItemKey, Model, PackError};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::{Instrument, debug_span};

/// Name of the folder of compiled cores within the data folder.
pub const CORE_FOLDER: &str = "core";
/// Rows of a list that are kept (choice: the ranks that a choice is counted by).
const LAST_ROWS: usize = 20;
/// Times that a step is done again because another host wrote the same user meanwhile (choice: each time at least
/// one host got on).
const CONFLICTS_MAX: u32 = 64;
/// Time between two looks at files that are read again when they change (choice).
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Shortest and longest wait between two looks whether an event has been consumed (choice: as long as consuming
/// takes, and short beside a caller's patience).
const REACH_MIN: Duration = Duration::from_millis(1);
const REACH_MAX: Duration = Duration::from_millis(20);
/// Time after which a delta without an answer is sent again, in milliseconds (choice: longer than a request to
/// central may take).
const SENT_WAIT_MS: u64 = 30_000;

/// Name of the last good model within the data folder.
pub const MODEL_FILE: &str = "model.pack";
/// Name of the manifest that was accepted last within the data folder.
pub const MANIFEST_FILE: &str = "model.manifest";
/// Name of the user store within the data folder.
pub const USERS_FILE: &str = "users.redb";

/// Why an edge did not start.
#[derive(Debug)]
pub enum StartError {
    /// The data folder cannot be made.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The user store cannot be opened.
    Store(StoreError),
    /// The configured stream cannot be used.
    Stream(StreamError),
    /// The configured Redis cannot be used.
    Redis(RedisStartError),
    /// The guest module cannot be used.
    Guest(GuestError),
    /// The address of central is not a base address, or its client cannot be made.
    Central(SyncError),
    /// The stored model is there and unusable, and central gave no other.
    StoredModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PackError,
        /// Why central gave none.
        central: SyncError,
    },
    /// No model is stored, and central gave none.
    NoModel {
        /// The file that would hold one.
        path: PathBuf,
        /// Why central gave none.
        central: SyncError,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, error } => {
                write!(f, "data folder {} cannot be made: {error}", path.display())
            }
            Self::Store(error) => error.fmt(f),
            Self::Stream(error) => error.fmt(f),
            Self::Redis(error) => error.fmt(f),
            Self::Guest(error) => error.fmt(f),
            Self::Central(error) => error.fmt(f),
            Self::StoredModel { path, error, central } => write!(
                f,
                "{} cannot be used ({error}), and central gave no other model: {central}",
                path.display()
            ),
            Self::NoModel { path, central } => write!(
                f,
                "there is no {} and central gave no model: {central}; start central, or pass --wait-for-model",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// A running edge.
pub struct Edge {
    pub(crate) options: Options,
    pub(crate) pool: Pool,
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) central: Central,
    /// When the manifest that was accepted last was issued, 0 before there is one.
    pub(crate) issued_ms: AtomicU64,
    /// When the manifest was issued that brought the model in service.
    pub(crate) model_since_ms: AtomicU64,
    /// Told when a delta has become due.
    pub(crate) wake: tokio::sync::Notify,
    /// Held while a round with central runs, so that rounds do not overlap.
    pub(crate) rounds: tokio::sync::Mutex<()>,
    /// Who follows whose list.
    pub(crate) followers: Followers,
    turns: Turns,
    /// Where callers' events go, if not into the users' states at once.
    pub(crate) producer: Option<Producer>,
    /// The lists made last: newer than those in the records, which are written with the next event.
    lists: Mutex<LruCache<String, LastList>>,
    /// Users who were forgotten so far: a list that was under way meanwhile is not kept.
    forgotten: AtomicU64,
}

/// What a step is to do with a user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Events to learn from.
    pub(crate) events: Vec<Event>,
    /// Events of a stream to learn from, those that the record does not have yet.
    pub(crate) streamed: Option<Arc<Streamed>>,
    /// A list to make.
    pub(crate) list: Option<ListRequest>,
    /// A sync body to make.
    pub(crate) send: Option<Send>,
    /// Central's reply.
    pub(crate) settle: Option<Vec<u8>>,
    /// Whether to tell what is kept.
    pub(crate) inspect: bool,
}

impl Ask {
    /// Returns the events that a record does not have yet, and what was known around each of them where their
    /// features are asked for.
    fn new_events(&self, before: Option<&Record>) -> (&[Event], &[Context]) {
        let Some(streamed) = &self.streamed else { return (&self.events, &[]) };
        let passed_over = streamed.passed_over(before);
        let contexts = streamed.contexts.as_deref().unwrap_or_default();
        (&streamed.events[passed_over..], contexts.get(passed_over..).unwrap_or_default())
    }

    /// Returns where the stream is after this.
    fn position(&self) -> Option<Position> {
        let Streamed { topic, partition, offsets, .. } = &**self.streamed.as_ref()?;
        Some(Position { topic: *topic, partition: *partition, next: offsets.last()? + 1 })
    }
}

impl Edge {
    /// Starts an edge on a guest module: users, workers, last good model. Without a stored model it
    /// asks central for one first.
    ///
    /// # Errors
    /// [`StartError`] names what is missing. Nothing falls back silently.
    pub async fn start(options: Options, guest_wasm: &[u8]) -> Result<Arc<Self>, StartError> {
        std::fs::create_dir_all(&options.data)
            .map_err(|error| StartError::Folder { path: options.data.clone(), error })?;
        let users = open_users(&options).await?;
        Self::start_on(users, options, guest_wasm).await
    }

    /// Starts an edge on a store of the caller's, which keeps the contract of [`UserStore`]. The data folder is
    /// there already.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub async fn start_on(
        users: Arc<dyn UserStore>,
        mut options: Options,
        guest_wasm: &[u8],
    ) -> Result<Arc<Self>, StartError> {
        // Two for each worker, while a model or core is replaced, and two to spare.
        let instances = 2 * options.workers as u32 + 2;
        options.limits.instances_max = options.limits.instances_max.max(instances);
        let metrics = Arc::new(Metrics::default());
        metrics.watch_process(&options.data);
        let artefacts = options.data.join(CORE_FOLDER);
        let sandbox =
            Sandbox::compile(guest_wasm, options.limits, Some(&artefacts)).map_err(StartError::Guest)?;
        let pool = Pool::start(&sandbox, &metrics, options.workers.max(1), options.warm_bytes_max)
            .map_err(StartError::Guest)?;
        let models = match &options.models {
            Some(address) => Some(Redis::open(address).await.map_err(StartError::Redis)?),
            None => None,
        };
        let central = Central::new(&options, models).map_err(StartError::Central)?;
        let producer = match &options.produce {
            Some(produce) => Some(Producer::open(produce).await.map_err(StartError::Stream)?),
            None => None,
        };
        // A store that does not answer now stops the start; later it is the fallback's business.
        users.pending(0, None, 1).await.map_err(StartError::Store)?;
        let issued_ms = issued_ms(&std::fs::read(options.data.join(MANIFEST_FILE)).unwrap_or_default());
        let lists = LruCache::new(NonZeroUsize::new(options.lists_max).unwrap_or(NonZeroUsize::MIN));
        let edge = Self {
            options,
            pool,
            users,
            metrics,
            central,
            issued_ms: AtomicU64::new(issued_ms),
            model_since_ms: AtomicU64::new(issued_ms),
            wake: tokio::sync::Notify::new(),
            rounds: tokio::sync::Mutex::new(()),
            followers: Followers::default(),
            turns: Turns::default(),
            producer,
            lists: Mutex::new(lists),
            forgotten: AtomicU64::new(0),
        };
        edge.first_model().await?;
        Ok(Arc::new(edge))
    }

    /// Puts the stored model into service, or else central's.
    async fn first_model(&self) -> Result<(), StartError> {
        let path = self.options.data.join(MODEL_FILE);
        let stored = match std::fs::read(&path) {
            Ok(pack) => match Model::load(&pack) {
                Ok(loaded) => {
                    let model = installed(&loaded, pack);
                    match self.pool.install(model.clone(), None).await {
                        Ok(()) => {
                            self.metrics.model(model.info.version, "disk");
                            return Ok(());
                        }
                        Err(EdgeError::Guest(error)) => return Err(StartError::Guest(error)),
                        Err(_) => None,
                    }
                }
                Err(error) => Some(error),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(StartError::Folder { path, error }),
        };
        let Err(central) = self.update_model().await else { return Ok(()) };
        self.metrics.sync_failed(central.reason());
        if self.options.wait_for_model {
            tracing::warn!(%central, "no model yet, waiting for central");
            return Ok(());
        }
        Err(match stored {
            Some(error) => StartError::StoredModel { path, error, central },
            None => StartError::NoModel { path, central },
        })
    }

    /// Learns events of one user; they are durable when this returns. It runs to its end also where the
    /// caller goes away meanwhile.
    ///
    /// # Errors
    /// [`EdgeError`]; none of the events counts, unless the store failed after it had them.
    pub async fn learn(self: &Arc<Self>, user: &str, events: Vec<Event>) -> Result<Learnt, EdgeError> {
        let stepped = self.told(user, Ask { events, ..Ask::default() }).await?;
        Ok(stepped.learnt)
    }

    /// Learns events of one user, as [`Edge::learn`], and makes the list that follows from them, in one step.
    ///
    /// # Errors
    /// As [`Edge::learn`].
    pub async fn observe(
        self: &Arc<Self>,
        user: &str,
        events: Vec<Event>,
        list: ListRequest,
    ) -> Result<(Learnt, Recommendations), EdgeError> {
        let stepped = self.told(user, Ask { events, list: Some(list), ..Ask::default() }).await?;
        let list = Recommendations::live(stepped.list.expect("a list was asked for"));
        self.metrics.list(list.rung, "");
        Ok((stepped.learnt, list))
    }

    /// Learns events of one user that come from a stream, as [`Edge::learn`], each once: those that the record has
    /// already are passed over. Returns the features of each event, where they are asked for: also of one that is
    /// passed over, if it is of the step before.
    ///
    /// # Errors
    /// As [`Edge::learn`].
    pub(crate) async fn consume(
        self: &Arc<Self>,
        user: &str,
        streamed: Arc<Streamed>,
    ) -> Result<Vec<Option<Features>>, EdgeError> {
        let stepped = self.told(user, Ask { streamed: Some(streamed), ..Ask::default() }).await?;
        Ok(stepped.features)
    }

    async fn told(self: &Arc<Self>, user: &str, ask: Ask) -> Result<Stepped, EdgeError> {
        let (edge, name, since) = (Arc::clone(self), user.to_owned(), Instant::now());
        to_its_end(async move {
            let lists = ask.list.is_some();
            let stepped = edge.step(&name, ask).await?;
            if lists {
                edge.metrics.event_to_list("observe", since.elapsed());
            }
            edge.metrics.events("applied", stepped.learnt.applied);
            edge.metrics.events("duplicate", stepped.learnt.duplicate);
            edge.metrics.events("context_only", stepped.learnt.context_only);
            if stepped.learnt.applied > 0 {
                edge.followers.tell(&name, since);
                if stepped.delta_due {
                    edge.wake.notify_one();
                }
            }
            Ok(stepped)
        })
        .await
    }

    /// Ranks the catalogue for a user. A user of whom nothing is kept gets the newcomer's list and leaves no record.
    /// Where the user's own list cannot be made, or not before the deadline, it is the best that remains, marked and
    /// counted.
    ///
    /// # Errors
    /// [`EdgeError`] only where nothing remains: there is no model, and the deployment came without a list.
    pub async fn recommend(
        &self,
        user: &str,
        request: &ListRequest,
        deadline: Option<Instant>,
    ) -> Result<Recommendations, EdgeError> {
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let held = in_time(deadline, async { Ok(self.read(user).await?) }).await;
        let live = match &held {
            Ok(held) => in_time(deadline, self.live(user, held.as_ref(), forgotten, request)).await,
            Err(_) => Err(EdgeError::Deadline),
        };
        let (error, kept) = match (live, held) {
            (Ok(list), _) => {
                self.metrics.list(Rung::Live, "");
                return Ok(Recommendations::live(list));
            }
            (Err(error), Ok(held)) => (error, held.and_then(|held| held.record.last)),
            (Err(_), Err(error)) => (error, None),
        };
        let remaining = self.fall_back(user, kept, request);
        let Some(list) = remaining else { return Err(error) };
        tracing::warn!(%error, rung = list.rung.as_str(), "list of a lower rung");
        self.metrics.list(list.rung, error.code());
        Ok(list)
    }

    async fn live(
        &self,
        user: &str,
        held: Option<&Versioned>,
        forgotten: u64,
        request: &ListRequest,
    ) -> Result<List, EdgeError> {
        let ask = Ask { list: Some(request.clone()), ..Ask::default() };
        let stepped = self.run(user, held, &ask, Version([0; 16])).await?;
        self.remember(user, &stepped, Some(forgotten));
        Ok(stepped.list.expect("a list was asked for"))
    }

    /// Returns the best list that remains without the guest: the one that this host made last, or the record's.
    fn fall_back(
        &self,
        user: &str,
        kept: Option<LastList>,
        request: &ListRequest,
    ) -> Option<Recommendations> {
        if let Some(model) = self.pool.model() {
            let last = self.lists.lock().expect("no holder panics").get(user).cloned().or(kept);
            let last = last.and_then(|last| model.catalogue.last(&last, request));
            return Some(last.unwrap_or_else(|| model.catalogue.popular(request)));
        }
        self.options.built_in.list(request)
    }

    /// Returns the items that are like another one.
    ///
    /// # Errors
    /// [`EdgeError::UnknownItem`] if the model does not have it.
    pub async fn similar(&self, item_id: &str, count: u32) -> Result<List, EdgeError> {
        self.pool.similar(&Similar { item_id: item_id.to_owned(), count }).await
    }

    /// Returns what is kept of a user.
    ///
    /// # Errors
    /// [`EdgeError::UnknownUser`] if nothing is.
    pub async fn export(&self, user: &str) -> Result<(Inspection, Outbox), EdgeError> {
        let held = self.users.get_newest(user).await?.ok_or(EdgeError::UnknownUser)?;
        let ask = Ask { inspect: true, ..Ask::default() };
        let stepped = self.run(user, Some(&held), &ask, Version([0; 16])).await?;
        Ok((stepped.inspection.expect("it was asked for"), held.record.outbox))
    }

    /// Forgets a user; returns whether anything was kept. It runs to its end also where the caller goes
    /// away meanwhile.
    ///
    /// # Errors
    /// [`EdgeError::Store`] if the record could not be removed.
    pub async fn forget(self: &Arc<Self>, user: &str) -> Result<bool, EdgeError> {
        let (edge, user) = (Arc::clone(self), user.to_owned());
        to_its_end(async move {
            let known = edge.erase(&user).await?;
            // What was told before and not read yet may bring the user back, until this is read too.
            if let Some(producer) = &edge.producer {
                producer.forget(&user).await?;
            }
            Ok(known)
        })
        .await
    }

    /// Forgets a user because a stream says so, unless that was done before: the record is past it already.
    ///
    /// # Errors
    /// As [`Edge::forget`].
    pub(crate) async fn forget_once(self: &Arc<Self>, user: &str, said: Position) -> Result<(), EdgeError> {
        let (edge, user) = (Arc::clone(self), user.to_owned());
        to_its_end(async move {
            if !edge.is_at(&user, said).await? {
                edge.erase(&user).await?;
            }
            Ok(())
        })
        .await
    }

    async fn erase(&self, user: &str) -> Result<bool, EdgeError> {
        let _turn = self.turns.of(user).await;
        let known = self.users.erase(user).await?;
        // A list that was made from the record is kept before this, and leaves, or sees the count and is not.
        {
            let mut lists = self.lists.lock().expect("no holder panics");
            self.forgotten.fetch_add(1, Ordering::SeqCst);
            lists.pop(user);
        }
        self.pool.forgive(user).await?;
        Ok(known)
    }

    /// Returns whether a user's record has a position, or is past it.
    async fn is_at(&self, user: &str, position: Position) -> Result<bool, StoreError> {
        let Position { topic, partition, next } = position;
        let held = self.users.get_newest(user).await?;
        Ok(held.is_some_and(|held| held.record.next_offset(topic, partition) >= next))
    }

    /// Waits until a user's record has a position, until `until`; returns whether it came. Any host that shares the
    /// users may bring it there.
    pub(crate) async fn reaches(&self, user: &str, position: Position, until: Option<Instant>) -> bool {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(REACH_MIN)
            .with_max_delay(REACH_MAX)
            .without_max_times()
            .build();
        let work = async {
            // A store that is away has not brought it there.
            while !self.is_at(user, position).await.unwrap_or(false) {
                tokio::time::sleep(waits.next().unwrap_or(REACH_MAX)).await;
            }
            Ok(())
        };
        in_time(until, work).await.is_ok()
    }

    /// Does a step of a user and writes what it changes. Where another host has written the user meanwhile the step
    /// is done again on what that left.
    ///
    /// # Errors
    /// What the store or the guest said.
    pub(crate) async fn step(&self, user: &str, ask: Ask) -> Result<Stepped, EdgeError> {
        let _turn = self.turns.of(user).await;
        let mut held = self.read(user).await?;
        for _ in 0..CONFLICTS_MAX {
            let version = Version::draw();
            let stepped = self.run(user, held.as_ref(), &ask, version).await?;
            let before = held.as_ref().map(|held| &held.record);
            let Some(record) = self.changed(user, before, &ask, &stepped) else {
                self.remember(user, &stepped, None);
                return Ok(stepped);
            };
            let expected = held.as_ref().map(|held| held.version);
            let next = Versioned { version, record };
            let put = self.users.put_if(user, expected, &next);
            let written = put.instrument(debug_span!("store.put")).await;
            if let Ok(true) = written {
                self.remember(user, &stepped, None);
                return Ok(stepped);
            }
            held = self.users.get_newest(user).await?;
            if let Err(error) = written {
                // The answer was lost; whether the write was made, its version tells.
                if held.as_ref().is_none_or(|held| held.version != version) {
                    return Err(error.into());
                }
                self.remember(user, &stepped, None);
                return Ok(stepped);
            }
            self.metrics.conflict();
        }
        Err(EdgeError::Contended { tries: CONFLICTS_MAX })
    }

    async fn read(&self, user: &str) -> Result<Option<Versioned>, StoreError> {
        self.users.get(user).instrument(debug_span!("store.get")).await
    }

    /// Runs a step in the guest.
    async fn run(
        &self,
        user: &str,
        held: Option<&Versioned>,
        ask: &Ask,
        next: Version,
    ) -> Result<Stepped, EdgeError> {
        let last = self.lists.lock().expect("no holder panics").get(user).cloned();
        let last = last.or_else(|| held.and_then(|held| held.record.last.clone()));
        let record = held.map(|held| &held.record);
        let (events, contexts) = ask.new_events(record);
        let profile = record.and_then(|record| record.profile.as_ref());
        let step = Step {
            now_ms: self.now_ms(),
            name: StateName {
                user: ItemKey::of(user).0,
                version: held.map_or([0; 16], |held| held.version.0),
            },
            next_version: next.0,
            state: record.map_or(&[], |record| &record.state),
            shown: last.as_ref().and_then(LastList::shown),
            settle: ask.settle.as_deref(),
            events: events.into(),
            contexts: contexts.into(),
            profile: profile.map_or(&[], |held| &held.profile),
            send: ask.send.clone(),
            list: ask.list.clone(),
            inspect: ask.inspect,
            factor: false,
        };
        let mut stepped = self.pool.step(user, &step).instrument(debug_span!("guest")).await?;
        if let Some(streamed) = &ask.streamed {
            stepped.features = streamed.features(record, std::mem::take(&mut stepped.features));
        }
        Ok(stepped)
    }

    /// Keeps the list that a step made, and whether a choice has been counted by the one before. A step without the
    /// user's turn says how many users had been `forgotten` when it began.
    fn remember(&self, user: &str, stepped: &Stepped, forgotten: Option<u64>) {
        if let Some(list) = &stepped.list {
            self.metrics.shown(list.model.version);
        }
        stepped.choices.iter().for_each(|choice| self.metrics.chosen(choice.version, choice.bin));
        let mut lists = self.lists.lock().expect("no holder panics");
        if forgotten.is_some_and(|before| before != self.forgotten.load(Ordering::SeqCst)) {
            return;
        }
        if let Some(list) = &stepped.list {
            lists.put(user.to_owned(), last_list(list));
        } else if stepped.shown.is_none()
            && let Some(last) = lists.peek_mut(user)
        {
            last.counted = true;
        }
    }

    /// Returns the record after a step, where it is another one.
    fn changed(&self, user: &str, before: Option<&Record>, ask: &Ask, stepped: &Stepped) -> Option<Record> {
        let now_ms = self.now_ms();
        let outbox_before = before.map(|record| record.outbox).unwrap_or_default();
        let outbox = outbox_after(outbox_before, ask, stepped, now_ms);
        let token_before = before.and_then(|record| record.token.as_ref());
        let token = ask.send.as_ref().and_then(|send| send.token.as_ref()).or(token_before);
        // What was there already moves the position too: someone may wait for it.
        let told = stepped.learnt.applied + stepped.learnt.duplicate > 0 || stepped.profile.is_some();
        let moved = ask.streamed.is_some() && told;
        let changed = stepped.state.is_some()
            || moved
            || (before.is_some() && (outbox != outbox_before || token != token_before));
        let last = || {
            let held = || self.lists.lock().expect("no holder panics").peek(user).cloned();
            let last = || held().or_else(|| before.and_then(|record| record.last.clone()));
            let counted = stepped.shown.is_none();
            stepped.list.as_ref().map(last_list).or_else(|| last().map(|last| LastList { counted, ..last }))
        };
        changed.then(|| {
            let mut record = Record {
                state: match (&stepped.state, before) {
                    (Some(state), _) => state.clone(),
                    (None, before) => before.map(|record| record.state.clone()).unwrap_or_default(),
                },
                last: last(),
                token: token.cloned(),
                outbox,
                positions: before.map(|record| record.positions.clone()).unwrap_or_default(),
                profile: match (&ask.streamed, &stepped.profile) {
                    (Some(streamed), Some(profile)) => {
                        Some(streamed.profiled(profile.clone(), &stepped.features))
                    }
                    _ => before.and_then(|record| record.profile.clone()),
                },
            };
            if let Some(position) = ask.position() {
                record.move_to(position);
            }
            record
        })
    }

    /// Changes a user's outbox, if there is one.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn postpone(
        &self,
        user: &str,
        later: impl FnOnce(Outbox) -> Outbox,
    ) -> Result<(), StoreError> {
        let _turn = self.turns.of(user).await;
        // One try: whoever writes the user meanwhile decides when to ask.
        let Some(held) = self.users.get_newest(user).await? else { return Ok(()) };
        let outbox = later(held.record.outbox);
        if outbox != held.record.outbox {
            let next = Versioned { version: Version::draw(), record: Record { outbox, ..held.record } };
            self.users.put_if(user, Some(held.version), &next).await?;
        }
        Ok(())
    }

    /// Puts another core into service, with the model that is there, while calls go on. A core that is in service
    /// already changes nothing.
    ///
    /// # Errors
    /// [`EdgeError::Guest`] if it cannot be used; the one in service stays.
    pub async fn install_core(&self, guest_wasm: &[u8]) -> Result<(), EdgeError> {
        if blake3::hash(guest_wasm) == self.pool.core() {
            return Ok(());
        }
        let (wasm, limits) = (guest_wasm.to_vec(), self.options.limits);
        let artefacts = self.options.data.join(CORE_FOLDER);
        let compiled = tokio::task::spawn_blocking(move || Sandbox::compile(&wasm, limits, Some(&artefacts)));
        let sandbox = compiled.await.map_err(|_| EdgeError::Stopping)?.map_err(EdgeError::Guest)?;
        self.pool.install_core(sandbox).await
    }

    /// Reads tokens, keys and certificates again when their files change, and puts the core of `core` into service
    /// when that changes, for as long as the edge lives.
    pub async fn watch_forever(self: Arc<Self>, core: Watched<Vec<u8>>) {
        let core = Arc::new(core);
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            let (edge, looked_at) = (Arc::clone(&self), Arc::clone(&core));
            // Files may lie on a disk that is slow today.
            let refreshed = tokio::task::spawn_blocking(move || {
                edge.refresh_files();
                looked_at.refresh()
            });
            if refreshed.await.unwrap_or(false) {
                match self.install_core(&core.get()).await {
                    Ok(()) => tracing::info!(core = %self.pool.core(), "core"),
                    Err(error) => {
                        tracing::error!(%error, "the new core cannot be used; the one in service stays")
                    }
                }
            }
        }
    }

    /// Reads tokens, keys and certificates again where their files have changed.
    pub fn refresh_files(&self) {
        self.options.access.refresh();
        if let Some(tls) = &self.options.tls {
            tls.refresh();
        }
    }

    /// Returns the edge's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns all metrics as Prometheus text, those that change by themselves as they are now.
    pub fn metrics_text(&self) -> String {
        let now_ms = self.now_ms();
        let age =
            |since: &AtomicU64| Duration::from_millis(now_ms.saturating_sub(since.load(Ordering::Relaxed)));
        if self.pool.model().is_some() {
            self.metrics.ages(age(&self.model_since_ms), age(&self.issued_ms));
        }
        if let Some(tls) = &self.options.tls {
            self.metrics.certificate_expires(tls.expires());
        }
        self.metrics.render()
    }

    /// Returns the workers.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the time by the edge's clock, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        (self.options.now_ms)()
    }

    /// Returns whether a list can be made, of whatever rung.
    pub fn can_recommend(&self) -> bool {
        self.pool.model().is_some() || self.options.built_in.list(&ListRequest::default()).is_some()
    }
}

/// Opens the configured users. What is configured must be there.
async fn open_users(options: &Options) -> Result<Arc<dyn UserStore>, StartError> {
    let users: Arc<dyn UserStore> = match &options.users {
        UsersIn::File => {
            Arc::new(RedbUsers::open(&options.data.join(USERS_FILE)).map_err(StartError::Store)?)
        }
        UsersIn::Memory { bytes_max } => Arc::new(MemoryUsers::new(*bytes_max)),
        UsersIn::Redis { address, keep } => {
            let redis = Redis::open(address).await.map_err(StartError::Redis)?;
            Arc::new(RedisUsers::open(redis, &options.site, *keep).await.map_err(StartError::Redis)?)
        }
    };
    let Some(cache) = &options.users_cache else { return Ok(users) };
    let cached = CachedUsers::open(users, cache, &options.site, options.users_cache_for).await;
    Ok(Arc::new(cached.map_err(StartError::Store)?))
}

/// Returns how far a user's teaching has come after a step.
fn outbox_after(before: Outbox, ask: &Ask, stepped: &Stepped, now_ms: u64) -> Outbox {
    let Stepped { outbox, unsent, delta_due, .. } = *stepped;
    let idle = Outbox::Due { at_ms: now_ms + DELTA_IDLE_MS };
    let due = if delta_due { Outbox::Due { at_ms: now_ms } } else { idle };
    if ask.send.is_some() {
        match (outbox, unsent) {
            (1.., _) => Outbox::Sent { again_ms: now_ms + SENT_WAIT_MS },
            // What is due but cannot be made yet is tried again after a while.
            (0, 1..) => idle,
            (0, 0) => Outbox::Empty,
        }
    } else if ask.settle.is_some() {
        match (outbox, unsent) {
            (1.., _) => Outbox::Due { at_ms: now_ms },
            (0, 1..) => due,
            (0, 0) => Outbox::Empty,
        }
    } else if stepped.learnt.applied > 0 && !matches!(before, Outbox::Sent { .. }) {
        match before {
            Outbox::Due { at_ms } if at_ms <= now_ms => before,
            _ => due,
        }
    } else {
        before
    }
}

/// Returns a list as it is kept.
fn last_list(list: &List) -> LastList {
    LastList {
        lineage: list.model.lineage,
        version: list.model.version,
        rows: list.items.iter().take(LAST_ROWS).map(|item| item.row).collect(),
        counted: list.items.is_empty(),
    }
}

/// Runs work as a task of its own: a caller that is dropped half-way does not stop it.
async fn to_its_end<T: std::marker::Send + 'static>(
    work: impl Future<Output = Result<T, EdgeError>> + std::marker::Send + 'static,
) -> Result<T, EdgeError> {
    // A task ends without a result only when the runtime stops, or by a panic, which has been reported.
    tokio::spawn(work.in_current_span()).await.unwrap_or(Err(EdgeError::Stopping))
}

/// Returns a model as it is installed.
pub(crate) fn installed(model: &Model, pack: Vec<u8>) -> InstalledModel {
    let info = ModelInfo { lineage: model.lineage(), version: model.version(), rows: model.len() as u32 };
    InstalledModel { info, pack: Arc::new(pack), catalogue: Arc::new(Catalogue::new(model)) }
}
