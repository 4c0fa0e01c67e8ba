//! A fleet and a central service in one thread, fed by recorded events: the product's own path, which
//! training fits its blend on and evaluation measures.

use crate::event_log::EventLog;
use nearfield_engine::limits::DELTA_EVENTS;
use nearfield_engine::sync::wire;
use nearfield_engine::{
    DeltaId, ItemKey, Model, ModelVersion, Outcome, Row, Statistics, SyncRequest, Threshold, UserState,
    Window, Workspace,
};
use std::collections::{HashMap, HashSet, VecDeque};

/// When deltas flow and versions appear, in stream time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// Idle time after which a delta goes out.
    pub idle_ms: u64,
    /// Time after which a version is published, if anything waits.
    pub publish_ms: u64,
    /// Events after which a version is published, if anything waits.
    pub publish_events: u64,
    /// Distinct devices that a row's contributions wait for.
    pub k: u32,
    /// Nothing is ever published: the trained model stays.
    pub frozen: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self { idle_ms: 60_000, publish_ms: 60_000, publish_events: 2_500, k: 1, frozen: false }
    }
}

/// The moment before a person's next event: what an observer may look at.
pub struct Moment<'a> {
    /// The person.
    pub person: &'a mut UserState,
    /// Room for the work on the person's lists.
    pub workspace: &'a mut Workspace,
    /// The model that the person's device holds.
    pub model: &'a Model,
    /// Whether the event that comes says that the person wants its item: only then is it a target.
    pub wanted: bool,
    /// The row of the item that comes, if the model has it.
    pub target: Option<Row>,
    /// Rows that the person has touched.
    pub touched: &'a HashSet<Row>,
    /// Whether the item that comes is new to the person.
    pub novel: bool,
    /// Events in the person's history.
    pub history: usize,
}

/// A fleet and a central service in one thread, fed by a recorded stream.
pub struct Replay<'a> {
    log: &'a EventLog,
    flow: Flow,
    model: Model,
    statistics: Statistics,
    window: Window,
    people: HashMap<u32, UserState>,
    /// Items each person has touched, by index of the log.
    touched: Vec<HashSet<u32>>,
    /// (time at which the person counts as idle, person), in order of time.
    idle: VecDeque<(u64, u32)>,
    published_ms: u64,
    events_since: u64,
    traffic: Traffic,
    keys: Vec<ItemKey>,
    workspace: Workspace,
}

/// What went over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Deltas sent.
    pub deltas: u64,
    /// Bytes of their sync bodies.
    pub delta_bytes: u64,
    /// Deltas refused; none is expected.
    pub refused: u64,
    /// Versions published.
    pub versions: u64,
}

impl<'a> Replay<'a> {
    /// Returns a replay that starts after the first `trained` events, which model and statistics
    /// have learned already; the people's devices remember them.
    pub fn new(log: &'a EventLog, trained: usize, model: Model, statistics: Statistics, flow: Flow) -> Self {
        let mut touched = vec![HashSet::new(); log.users.len()];
        for event in log.events[..trained].iter().filter(|event| event.kind.is_history()) {
            touched[event.user as usize].insert(event.item);
        }
        let mut people: HashMap<u32, UserState> = HashMap::new();
        for index in 0..trained {
            let event = log.event(index);
            let person = people.entry(log.events[index].user).or_default();
            person.remember(&event);
        }
        Self {
            window: Window::new(),
            keys: log.items.iter().map(|id| ItemKey::of(id)).collect(),
            log,
            flow,
            model,
            statistics,
            people,
            touched,
            idle: VecDeque::new(),
            published_ms: 0,
            events_since: 0,
            traffic: Traffic::default(),
            workspace: Workspace::new(),
        }
    }

    /// Returns what went over the wire so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Replays events `range`, calling `observe` before each is learned.
    pub fn run(&mut self, range: std::ops::Range<usize>, mut observe: impl FnMut(Moment<'_>)) {
        let mut touched_rows = HashSet::new();
        for index in range {
            let recorded = self.log.events[index];
            let now = recorded.time_ms;
            self.flow_until(now);
            let person = self.people.entry(recorded.user).or_default();
            let touched = &self.touched[recorded.user as usize];
            touched_rows.clear();
            touched_rows.extend(touched.iter().filter_map(|item| self.model.row(self.keys[*item as usize])));
            let target = self.model.row(self.keys[recorded.item as usize]);
            observe(Moment {
                history: person.len(),
                person,
                workspace: &mut self.workspace,
                model: &self.model,
                wanted: self.statistics.hyperparameters().is_target(recorded.kind),
                target,
                touched: &touched_rows,
                novel: !touched.contains(&recorded.item),
            });

            // The operator's catalogue registers an item at its first event.
            if target.is_none() && !self.flow.frozen {
                let _known = self.statistics.register(&self.log.items[recorded.item as usize]);
            }
            let event = self.log.event(index);
            let person = self.people.entry(recorded.user).or_default();
            // A file's events are sound: the reader has checked each field.
            let _learned = person.learn(&self.model, &event, now);
            if recorded.kind.is_history() {
                self.touched[recorded.user as usize].insert(recorded.item);
            }
            self.events_since += 1;
            self.idle.push_back((now + self.flow.idle_ms, recorded.user));
            if person.unsent() >= DELTA_EVENTS {
                self.send(recorded.user);
            }
        }
    }

    /// Lets idle devices send and central publish, up to a moment of stream time.
    fn flow_until(&mut self, now: u64) {
        while let Some((due, user)) = self.idle.front().copied() {
            if due > now {
                break;
            }
            self.idle.pop_front();
            let still_idle = self.people.get(&user).is_some_and(|person| {
                person.history().next_back().is_some_and(|last| last.time_ms + self.flow.idle_ms <= now)
            });
            if still_idle {
                self.send(user);
                if let Some(person) = self.people.get_mut(&user) {
                    person.rest();
                }
            }
        }
        let due = now.saturating_sub(self.published_ms) >= self.flow.publish_ms
            || self.events_since >= self.flow.publish_events;
        let waits = !self.window.is_empty() || self.statistics.catalogue_waits();
        if due && waits && !self.flow.frozen {
            let publication = self.statistics.publish(&mut self.window, Threshold::of_devices(self.flow.k));
            self.model.apply(&publication.patch).expect("a publication follows the version before it");
            self.published_ms = now;
            self.events_since = 0;
            self.traffic.versions += 1;
        }
    }

    fn send(&mut self, user: u32) {
        if self.flow.frozen {
            return;
        }
        let Some(person) = self.people.get_mut(&user) else { return };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.traffic.deltas.to_le_bytes());
        let Some(delta) = person.take_delta(&self.model, DeltaId(id), &mut self.workspace).cloned() else {
            return;
        };
        person.settle(delta.id, &Outcome::Acknowledged);
        self.traffic.deltas += 1;
        let request = SyncRequest {
            site: "evaluate".into(),
            token: vec![0; 40],
            deltas: vec![delta],
            extensions: vec![],
        };
        let bytes = wire::encode_request(&request).expect("one delta is far below the limit");
        self.traffic.delta_bytes += bytes.len() as u64;
        let request = wire::decode_request(&bytes).expect("what was encoded decodes");
        for delta in &request.deltas {
            match self.statistics.policy(ModelVersion(0)).check(delta) {
                Ok(()) => self.window.admit(delta, u64::from(user), &vec![user; delta.items.len()]),
                Err(_refusal) => self.traffic.refused += 1,
            }
        }
    }
}
