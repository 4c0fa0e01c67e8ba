//! What the exports do, on bytes: no pointer is seen here.

use crate::abi::{
    Choice, Featured, Featuring, Inspection, Learnt, List, ListRequest, ModelInfo, Recommended, Seen, Shown,
    Similar, StateName, Status, Step, Stepped, Why,
};
use crate::warm::Warm;
use nearfield_engine::features::Profile;
use nearfield_engine::model::pack::Arriving;
use nearfield_engine::sync::wire;
use nearfield_engine::{
    Context, Event, Learned, Model, Part, Reason, Request, Row, Scored, SyncRequest, UserState, Workspace,
};
use serde::{Deserialize, Serialize};

/// Why a call was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(status: Status, reason: &'static str, message: impl ToString) -> Self {
        Self { status, reason, message: message.to_string() }
    }

    fn no_model() -> Self {
        Self::new(Status::NoModel, "no_model", "no model is loaded")
    }
}

/// Appends a message to the output.
pub(crate) fn write(message: &impl Serialize, output: &mut Vec<u8>) {
    let taken = std::mem::take(output);
    *output = postcard::to_extend(message, taken).expect("messages hold only what postcard can write");
}

fn read<'a, T: Deserialize<'a>>(input: &'a [u8]) -> Result<T, Refused> {
    postcard::from_bytes(input).map_err(|error| Refused::new(Status::BadMessage, "bad_message", error))
}

/// One model, the pack that is on its way, and the states that are warm.
#[derive(Default)]
pub(crate) struct Core {
    model: Option<Model>,
    arriving: Option<Arriving>,
    warm: Warm,
    /// Shared by all users: calls come one after another.
    workspace: Workspace,
}

impl Core {
    pub(crate) fn pack_begin(&mut self, input: &[u8]) -> Result<(), Refused> {
        self.arriving = Some(Arriving::new(read(input)?));
        Ok(())
    }

    pub(crate) fn pack_push(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let arriving = self.arriving.as_mut().ok_or_else(no_pack)?;
        arriving.push(bytes).map_err(|error| Refused::new(Status::Pack, error.reason(), error))
    }

    pub(crate) fn pack_finish(&mut self, output: &mut Vec<u8>) -> Result<(), Refused> {
        let arriving = self.arriving.take().ok_or_else(no_pack)?;
        let model = arriving.finish().map_err(|error| Refused::new(Status::Pack, error.reason(), error))?;
        write(&info(&model), output);
        self.model = Some(model);
        Ok(())
    }

    pub(crate) fn patch(&mut self, patch: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let model = self.model.as_mut().ok_or_else(Refused::no_model)?;
        model.apply(patch).map_err(|error| Refused::new(Status::Patch, error.reason(), error))?;
        write(&info(model), output);
        Ok(())
    }

    pub(crate) fn warm(&mut self, input: &[u8]) -> Result<(), Refused> {
        self.warm.limit(read(input)?);
        Ok(())
    }

    pub(crate) fn similar(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let Similar { item_id, count } = read(input)?;
        let model = self.model.as_ref().ok_or_else(Refused::no_model)?;
        let row = row_of(model, &item_id).ok_or_else(|| {
            let message = format!("the model has no item {item_id:?}");
            Refused::new(Status::UnknownItem, "unknown_item", message)
        })?;
        let items = model.similar(row, count as usize).into_iter();
        let items = items.map(|scored| recommended(model, scored, Vec::new())).collect();
        write(&List { model: info(model), items }, output);
        Ok(())
    }

    pub(crate) fn features(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let Featuring { profile, events, contexts } = read(input)?;
        one_context_each(&events, &contexts)?;
        let mut profile = read_profile(profile)?;
        let features = events.iter().zip(contexts.iter());
        let features = features.map(|(event, context)| profile.observe(event, context)).collect();
        write(&Featured { features, profile: profile.to_bytes() }, output);
        Ok(())
    }

    /// Does a step. Where it is refused the warm state is dropped, so that nothing of the step stays.
    pub(crate) fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        let step: Step<'_> = read(input)?;
        let model = self.model.as_ref().ok_or_else(Refused::no_model)?;
        let mut user = match self.warm.take(step.name) {
            Some(user) => user,
            None if step.state.is_empty() => UserState::new(),
            None => UserState::from_bytes(step.state)
                .map_err(|error| Refused::new(Status::State, error.reason(), error))?,
        };
        if shown(&user) != step.shown {
            let (version, rows) = match &step.shown {
                Some(shown) if shown.lineage == model.lineage() => (shown.version, &shown.rows[..]),
                _ => (model.version(), &[][..]),
            };
            user.was_shown(model, version, rows);
        }

        let mut stepped = Stepped {
            state: None,
            learnt: Learnt::default(),
            choices: Vec::new(),
            features: Vec::new(),
            profile: None,
            factor: None,
            outcomes: Vec::new(),
            outbox: 0,
            unsent: 0,
            delta_due: false,
            body: None,
            shown: None,
            list: None,
            inspection: None,
        };
        let mut changed = false;
        if let Some(reply) = step.settle {
            let reply = wire::decode_reply(reply)
                .map_err(|error| Refused::new(Status::Wire, error.reason(), error))?;
            for (id, outcome) in &reply.results {
                user.settle(*id, outcome);
            }
            changed = !reply.results.is_empty();
            stepped.outcomes = reply.results;
        }
        let mut profile = None;
        if !step.contexts.is_empty() {
            one_context_each(&step.events, &step.contexts)?;
            profile = Some(read_profile(step.profile)?);
        }
        for (index, event) in step.events.iter().enumerate() {
            let (made_by, before) = (user.shown().map(|(_, version, _)| version), *user.quality());
            let learned = user
                .learn(model, event, step.now_ms)
                .map_err(|error| Refused::new(Status::Event, error.reason(), error))?;
            match learned {
                Learned::Applied => stepped.learnt.applied += 1,
                Learned::Duplicate => stepped.learnt.duplicate += 1,
                Learned::ContextOnly => stepped.learnt.context_only += 1,
            }
            if let Some(profile) = &mut profile {
                let is_new = learned != Learned::Duplicate;
                stepped.features.push(is_new.then(|| profile.observe(event, &step.contexts[index])));
            }
            let bins = user.quality().bins.iter().zip(before.bins);
            let counted = bins.enumerate().find(|(_, (after, before))| **after > *before);
            if let (Some(version), Some((bin, _))) = (made_by, counted) {
                stepped.choices.push(Choice { version, bin: bin as u8 });
            }
        }
        changed |= stepped.learnt.applied > 0;
        stepped.profile = profile.map(|profile| profile.to_bytes());
        if let Some(send) = step.send {
            // What waits may have been sent; what is new gets its delta when that has been answered. What a delta
            // passes over is marked in the history, so the state changes also where none comes out.
            if user.outbox().is_empty() && user.delta_due(step.now_ms) {
                user.take_delta(model, send.id, &mut self.workspace);
                changed = true;
            }
            if let Some(token) = send.token {
                stepped.body = body(&user, &send.site, &token)?;
            }
        }
        if let Some(request) = &step.list {
            stepped.list = Some(list(&mut user, model, request, &mut self.workspace));
        }
        if step.factor {
            stepped.factor = user.factor(model, &mut self.workspace);
        }
        if step.inspect {
            stepped.inspection = Some(inspection(&user, model));
        }
        stepped.outbox = user.outbox().len() as u32;
        stepped.unsent = user.unsent() as u32;
        stepped.delta_due = user.delta_due(step.now_ms);
        stepped.shown = shown(&user);
        stepped.state = changed.then(|| user.to_bytes());
        write(&stepped, output);

        let version = if changed { step.next_version } else { step.name.version };
        let bytes = bytes_of(&user, model);
        self.warm.keep(StateName { version, ..step.name }, user, bytes);
        Ok(())
    }
}

fn one_context_each(events: &[Event], contexts: &[Context]) -> Result<(), Refused> {
    if events.len() == contexts.len() {
        return Ok(());
    }
    let message = format!("{} contexts for {} events", contexts.len(), events.len());
    Err(Refused::new(Status::BadMessage, "bad_message", message))
}

fn read_profile(bytes: &[u8]) -> Result<Profile, Refused> {
    Profile::from_bytes(bytes).map_err(|error| Refused::new(Status::State, error.reason(), error))
}

fn shown(user: &UserState) -> Option<Shown> {
    user.shown().map(|(lineage, version, rows)| Shown { lineage, version, rows: rows.to_vec() })
}

/// Encodes as many deltas of the outbox, oldest first, as one body takes.
fn body(user: &UserState, site: &str, token: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    let mut count = user.outbox().len();
    if count == 0 {
        return Ok(None);
    }
    loop {
        let request = SyncRequest {
            site: site.to_owned(),
            token: token.to_vec(),
            deltas: user.outbox()[..count].to_vec(),
            extensions: Vec::new(),
        };
        match wire::encode_request(&request) {
            Ok(body) => return Ok(Some(body)),
            Err(error) if count == 1 => return Err(Refused::new(Status::Wire, error.reason(), error)),
            Err(_) => count = count.div_ceil(2),
        }
    }
}

fn list(user: &mut UserState, model: &Model, asked: &ListRequest, workspace: &mut Workspace) -> List {
    let rows = |ids: &[String]| -> Vec<Row> { ids.iter().filter_map(|id| row_of(model, id)).collect() };
    let request = Request {
        count: asked.count,
        scenario: asked.scenario,
        allow: asked.allow.as_deref().map(rows),
        deny: rows(&asked.deny),
        diversity: asked.diversity,
        explore: asked.explore,
        seed: asked.seed,
    };
    let scored = user.recommend(model, &request, workspace);
    let mut reasons = Vec::new();
    if asked.reasons {
        let rows: Vec<Row> = scored.iter().map(|item| item.row).collect();
        reasons = user.explain(model, asked.scenario, &rows, workspace);
    }
    let mut reasons = reasons.into_iter();
    let items = scored.into_iter().map(|item| {
        let reasons = reasons.next().into_iter().flatten().flatten();
        recommended(model, item, reasons.map(|reason| why(model, reason)).collect())
    });
    List { model: info(model), items: items.collect() }
}

fn recommended(model: &Model, Scored { row, score }: Scored, reasons: Vec<Why>) -> Recommended {
    Recommended { row, item_id: model.item_id(row).to_owned(), score, reasons }
}

fn why(model: &Model, Reason { part, share, because }: Reason) -> Why {
    let part = match part {
        Part::Taste => "taste",
        Part::Last => "last",
        Part::Popular => "popular",
        Part::Next => "next",
        Part::Own => "own",
    };
    let because = because.map(|(row, kind)| (model.item_id(row).to_owned(), kind.as_str().to_owned()));
    Why { part: part.to_owned(), share, because }
}

fn inspection(user: &UserState, model: &Model) -> Inspection {
    let history = user.history().map(|entry| Seen {
        item_id: model.row(entry.key).map(|row| model.item_id(row).to_owned()),
        key: entry.key.0,
        kind: entry.kind().as_str().to_owned(),
        time_ms: entry.time_ms,
    });
    Inspection {
        model: info(model),
        history: history.collect(),
        outbox: user.outbox().iter().map(|delta| delta.id).collect(),
        state_bytes: user.to_bytes().len() as u32,
    }
}

fn row_of(model: &Model, item_id: &str) -> Option<Row> {
    model.row(nearfield_engine::ItemKey::of(item_id))
}

/// Returns about what a warm state takes, in bytes: two systems of d × d numbers, an entry and a row of each event,
/// the outbox.
fn bytes_of(user: &UserState, model: &Model) -> u64 {
    let (systems, entry, delta) = (2 * model.dim() * model.dim() * 4, 64, 512);
    (systems + user.len() * entry + user.outbox().len() * delta + 2048) as u64
}

fn info(model: &Model) -> ModelInfo {
    ModelInfo { lineage: model.lineage(), version: model.version(), rows: model.len() as u32 }
}

fn no_pack() -> Refused {
    Refused::new(Status::BadMessage, "bad_message", "no pack is on its way")
}
