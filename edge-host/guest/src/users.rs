//! What the exports do, on bytes: no pointer is seen here.

use crate::abi::{
    EncodeSync, Inspection, Learn, Learnt, List, ModelInfo, Recommend, Recommended, Seen, Settled, Status,
    TakeDelta, Taken,
};
use nearfield_engine::sync::wire;
use nearfield_engine::{Learned, Model, Request, SyncRequest, UserState, Workspace};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Why a call was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Refused {
    fn new(status: Status, reason: &'static str, message: impl ToString) -> Self {
        Self { status, reason, message: message.to_string() }
    }

    fn no_model() -> Self {
        Self::new(Status::NoModel, "no_model", "no model is loaded")
    }
}

/// Writes a message.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).expect("messages hold only what postcard can write")
}

fn decode<T: DeserializeOwned>(input: &[u8]) -> Result<T, Refused> {
    postcard::from_bytes(input).map_err(|error| Refused::new(Status::BadMessage, "bad_message", error))
}

/// One model and the users that are open on it.
#[derive(Default)]
pub(crate) struct Core {
    model: Option<Model>,
    users: BTreeMap<u32, UserState>,
    /// Shared by all users: calls come one after another.
    workspace: Workspace,
    handles: u32,
}

impl Core {
    pub(crate) fn model_load(&mut self, pack: &[u8]) -> Result<Vec<u8>, Refused> {
        let model = Model::load(pack).map_err(|error| Refused::new(Status::Pack, error.reason(), error))?;
        self.model = Some(model);
        self.model_version()
    }

    pub(crate) fn model_apply(&mut self, patch: &[u8]) -> Result<Vec<u8>, Refused> {
        let model = self.model.as_mut().ok_or_else(Refused::no_model)?;
        model.apply(patch).map_err(|error| Refused::new(Status::Patch, error.reason(), error))?;
        self.model_version()
    }

    pub(crate) fn model_version(&self) -> Result<Vec<u8>, Refused> {
        self.model.as_ref().map(|model| encode(&info(model))).ok_or_else(Refused::no_model)
    }

    pub(crate) fn user_open(&mut self, state: &[u8]) -> Result<Vec<u8>, Refused> {
        let user = if state.is_empty() {
            UserState::new()
        } else {
            UserState::from_bytes(state)
                .map_err(|error| Refused::new(Status::State, error.reason(), error))?
        };
        while self.users.contains_key(&self.handles) {
            self.handles = self.handles.wrapping_add(1);
        }
        self.users.insert(self.handles, user);
        Ok(encode(&self.handles))
    }

    pub(crate) fn user_close(&mut self, handle: u32) -> Result<Vec<u8>, Refused> {
        self.users.remove(&handle).map(|_| Vec::new()).ok_or_else(|| bad_handle(handle))
    }

    pub(crate) fn user_save(&mut self, handle: u32) -> Result<Vec<u8>, Refused> {
        self.users.get(&handle).map(UserState::to_bytes).ok_or_else(|| bad_handle(handle))
    }

    pub(crate) fn user_learn(&mut self, handle: u32, input: &[u8]) -> Result<Vec<u8>, Refused> {
        let Learn { now_ms, events } = decode(input)?;
        let (user, model, _) = self.user(handle)?;
        let mut learnt = Learnt::default();
        for event in &events {
            let learned = user
                .learn(model, event, now_ms)
                .map_err(|error| Refused::new(Status::Event, error.reason(), error))?;
            match learned {
                Learned::Applied => learnt.applied += 1,
                Learned::Duplicate => learnt.duplicate += 1,
                Learned::ContextOnly => learnt.context_only += 1,
            }
        }
        learnt.delta_due = user.delta_due(now_ms);
        Ok(encode(&learnt))
    }

    pub(crate) fn user_recommend(&mut self, handle: u32, input: &[u8]) -> Result<Vec<u8>, Refused> {
        let Recommend { count, scenario } = decode(input)?;
        let (user, model, workspace) = self.user(handle)?;
        let request = Request { count, scenario, ..Request::default() };
        let items = user
            .recommend(model, &request, workspace)
            .into_iter()
            .map(|scored| Recommended {
                row: scored.row,
                item_id: model.item_id(scored.row).to_owned(),
                score: scored.score,
            })
            .collect();
        Ok(encode(&List { model: info(model), items }))
    }

    pub(crate) fn user_inspect(&mut self, handle: u32) -> Result<Vec<u8>, Refused> {
        let (user, model, _) = self.user(handle)?;
        let history = user
            .history()
            .map(|entry| Seen {
                item_id: model.row(entry.key).map(|row| model.item_id(row).to_owned()),
                key: entry.key.0,
                kind: entry.kind().as_str().to_owned(),
                time_ms: entry.time_ms,
            })
            .collect();
        Ok(encode(&Inspection {
            model: info(model),
            history,
            outbox: user.outbox().iter().map(|delta| delta.id).collect(),
            state_bytes: user.to_bytes().len() as u32,
        }))
    }

    pub(crate) fn user_take_delta(&mut self, handle: u32, input: &[u8]) -> Result<Vec<u8>, Refused> {
        let TakeDelta { id, now_ms } = decode(input)?;
        let (user, model, workspace) = self.user(handle)?;
        // What waits may have been sent; what is new gets its delta when that has been answered.
        let due = user.outbox().is_empty() && user.delta_due(now_ms);
        let taken = due && user.take_delta(model, id, workspace).is_some();
        Ok(encode(&Taken { taken, outbox: user.outbox().len() as u32, unsent: user.unsent() as u32 }))
    }

    /// Encodes as many deltas of the outbox, oldest first, as one body takes.
    pub(crate) fn user_encode_sync(&mut self, handle: u32, input: &[u8]) -> Result<Vec<u8>, Refused> {
        let EncodeSync { site, token } = decode(input)?;
        let user = self.users.get(&handle).ok_or_else(|| bad_handle(handle))?;
        let mut count = user.outbox().len();
        if count == 0 {
            return Ok(Vec::new());
        }
        loop {
            let deltas = user.outbox()[..count].to_vec();
            let request =
                SyncRequest { site: site.clone(), token: token.clone(), deltas, extensions: Vec::new() };
            match wire::encode_request(&request) {
                Ok(body) => return Ok(body),
                Err(error) if count == 1 => return Err(Refused::new(Status::Wire, error.reason(), error)),
                Err(_) => count = count.div_ceil(2),
            }
        }
    }

    pub(crate) fn user_settle(&mut self, handle: u32, reply: &[u8]) -> Result<Vec<u8>, Refused> {
        let user = self.users.get_mut(&handle).ok_or_else(|| bad_handle(handle))?;
        let reply =
            wire::decode_reply(reply).map_err(|error| Refused::new(Status::Wire, error.reason(), error))?;
        for (id, outcome) in &reply.results {
            user.settle(*id, outcome);
        }
        Ok(encode(&Settled {
            outcomes: reply.results,
            outbox: user.outbox().len() as u32,
            unsent: user.unsent() as u32,
            lineage: reply.lineage,
            version: reply.version,
        }))
    }

    fn user(&mut self, handle: u32) -> Result<(&mut UserState, &Model, &mut Workspace), Refused> {
        let user = self.users.get_mut(&handle).ok_or_else(|| bad_handle(handle))?;
        let model = self.model.as_ref().ok_or_else(Refused::no_model)?;
        Ok((user, model, &mut self.workspace))
    }
}

fn info(model: &Model) -> ModelInfo {
    ModelInfo { lineage: model.lineage(), version: model.version(), rows: model.len() as u32 }
}

fn bad_handle(handle: u32) -> Refused {
    Refused::new(Status::BadHandle, "bad_handle", format_args!("no open user has handle {handle}"))
}
