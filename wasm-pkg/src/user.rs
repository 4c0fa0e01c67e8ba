//! One person's state.

use crate::error::{IntoJs, coded};
use crate::model::Model;
use crate::object::{array, object, packed, whole};
use nearfield_engine::sync::delta::SHARE_STEPS;
use nearfield_engine::sync::wire::{self, SyncRequest};
use nearfield_engine::{
    DeltaId, Event, Kind, Learned, ModelVersion, Outcome, Reason, Request, Scenario, UserState, Workspace,
};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// Most deltas of one sync: a choice that keeps a body far below the limit, so that a long time
/// offline goes out in a few requests.
const SYNC_DELTAS_MAX: usize = 64;

thread_local! {
    /// Shared by all users of this module: calls come one after another.
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

fn with_workspace<T>(work: impl FnOnce(&mut Workspace) -> T) -> T {
    WORKSPACE.with_borrow_mut(work)
}

/// One person's state in the memory of this module.
#[wasm_bindgen]
#[derive(Default)]
pub struct User {
    inner: UserState,
}

/// Checks an event without learning from it.
///
/// # Errors
/// `event.*` names the field and the limit.
#[wasm_bindgen(js_name = checkEvent)]
pub fn check_event(
    kind: &str,
    item_id: String,
    time_ms: f64,
    value: Option<f32>,
    event_id: Option<String>,
    session_id: Option<String>,
    now_ms: f64,
) -> Result<(), JsValue> {
    let (event, now_ms) = event(kind, item_id, time_ms, value, event_id, session_id, now_ms)?;
    event.check(now_ms).map_err(IntoJs::into_js)
}

#[wasm_bindgen]
impl User {
    /// Returns the state of a person of whom nothing is known.
    #[wasm_bindgen(constructor)]
    pub fn new() -> User {
        Self::default()
    }

    /// Restores a state.
    ///
    /// # Errors
    /// `state.*` for bytes of another kind, of a newer schema, or damaged ones.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &[u8]) -> Result<User, JsValue> {
        UserState::from_bytes(bytes).map(|inner| Self { inner }).map_err(IntoJs::into_js)
    }

    /// Returns the state as bytes, the outbox included.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.inner.to_bytes()
    }

    /// Learns from one event, and returns `applied`, `duplicate` or `context`. Where the person does not
    /// share, no delta will carry it.
    ///
    /// # Errors
    /// `event.*` names the field and the limit; nothing is changed.
    #[expect(clippy::too_many_arguments, reason = "plain arguments cross without an object to take apart")]
    pub fn track(
        &mut self,
        model: &Model,
        kind: &str,
        item_id: String,
        time_ms: f64,
        value: Option<f32>,
        event_id: Option<String>,
        session_id: Option<String>,
        now_ms: f64,
        shares: bool,
    ) -> Result<String, JsValue> {
        let (event, now_ms) = event(kind, item_id, time_ms, value, event_id, session_id, now_ms)?;
        let learned = if shares {
            self.inner.learn(&model.inner, &event, now_ms)
        } else {
            self.inner.learn_privately(&model.inner, &event, now_ms)
        };
        let name = match learned.map_err(IntoJs::into_js)? {
            Learned::Applied => "applied",
            Learned::Duplicate => "duplicate",
            Learned::ContextOnly => "context",
        };
        Ok(name.to_owned())
    }

    /// Returns the person's list, packed: rows, then the bits of the scores. `continuing` asks for what
    /// the person wants next, own items included; else the list leaves them out. A list that is not `shown`
    /// does not count for quality.
    #[expect(clippy::too_many_arguments, reason = "plain arguments cross without an object to take apart")]
    pub fn recommend(
        &mut self,
        model: &Model,
        count: u32,
        continuing: bool,
        allow: Option<Vec<u32>>,
        deny: Vec<u32>,
        diversity: f32,
        explore: f32,
        seed: u32,
        shown: bool,
    ) -> Vec<u32> {
        let (scenario, seed) = (scenario(continuing), u64::from(seed));
        let request = Request { count, scenario, allow, deny, diversity, explore, seed };
        packed(&with_workspace(|workspace| {
            if shown {
                self.inner.recommend(&model.inner, &request, workspace)
            } else {
                self.inner.peek(&model.inner, &request, workspace)
            }
        }))
    }

    /// Returns why items are in the list, packed: for each row its two reasons, of each the part of the score
    /// (or 255 for none), the kind of the event behind it, that event's row (or 2³² − 1), and the bits of the
    /// share.
    pub fn explain(&mut self, model: &Model, continuing: bool, rows: &[u32]) -> Vec<u32> {
        let explain = |workspace: &mut Workspace| {
            self.inner.explain(&model.inner, scenario(continuing), rows, workspace)
        };
        let packed = |reason: Option<Reason>| match reason {
            None => [u32::from(u8::MAX), 0, u32::MAX, 0],
            Some(Reason { part, share, because }) => {
                let (row, kind) = because.map_or((u32::MAX, 0), |(row, kind)| (row, kind as u32));
                [part as u32, kind, row, share.to_bits()]
            }
        };
        with_workspace(explain).into_iter().flatten().flat_map(packed).collect()
    }

    /// Takes the head of a list that another copy of this state showed for the one shown last.
    ///
    /// # Errors
    /// `event.bad_number` where the version is not a number in range.
    #[wasm_bindgen(js_name = wasShown)]
    pub fn was_shown(&mut self, model: &Model, version: f64, rows: &[u32]) -> Result<(), JsValue> {
        let version = ModelVersion(whole(version, "event", "version")?);
        self.inner.was_shown(&model.inner, version, rows);
        Ok(())
    }

    /// Returns whether a delta should go out.
    ///
    /// # Errors
    /// `event.bad_number` where the time is not a number in range.
    #[wasm_bindgen(js_name = deltaDue)]
    pub fn delta_due(&self, now_ms: f64) -> Result<bool, JsValue> {
        Ok(self.inner.delta_due(whole(now_ms, "event", "now_ms")?))
    }

    /// Moves what was learnt into the outbox under a random id; returns whether there was anything. A delta
    /// that may have been sent under this id before names the version `base` that it named then.
    ///
    /// # Errors
    /// `delta.bad_id` where the id does not have 16 bytes, `delta.bad_number` where `base` is no version.
    #[wasm_bindgen(js_name = takeDelta)]
    pub fn take_delta(&mut self, model: &Model, id: &[u8], base: Option<f64>) -> Result<bool, JsValue> {
        let id = <[u8; 16]>::try_from(id)
            .map_err(|_| coded("delta", "bad_id", &format!("a delta id has 16 bytes, not {}", id.len())))?;
        let base = match base {
            Some(base) => ModelVersion(whole(base, "delta", "base")?),
            None => model.inner.version(),
        };
        let taken = |workspace: &mut Workspace| {
            self.inner.take_delta_again(&model.inner, DeltaId(id), base, workspace).is_some()
        };
        Ok(with_workspace(taken))
    }

    /// Returns what `takeDelta` would move, or null.
    #[wasm_bindgen(js_name = previewDelta)]
    pub fn preview_delta(&mut self, model: &Model) -> JsValue {
        let preview = |workspace: &mut Workspace| self.inner.preview_delta(&model.inner, workspace);
        let Some(delta) = with_workspace(preview) else {
            return JsValue::NULL;
        };
        let items = delta.items.iter().map(|touch| {
            object([
                ("row", touch.row().into()),
                ("kind", kind_name(touch.kind).into()),
                ("startsSession", touch.starts_session().into()),
            ])
        });
        let metrics = delta.metrics.iter().map(|metrics| {
            object([
                ("version", (metrics.version.0 as f64).into()),
                ("bins", array(metrics.bins.iter().map(|count| (*count).into()))),
            ])
        });
        object([
            ("lineage", delta.lineage.to_string().into()),
            ("baseVersion", (delta.base_version.0 as f64).into()),
            ("bytes", (wire::encode_delta(&delta).len() as u32).into()),
            ("factor", js_sys::Int8Array::from(delta.factor.as_slice()).into()),
            ("factorScale", delta.factor_scale.into()),
            ("share", (f64::from(delta.share) / f64::from(SHARE_STEPS)).into()),
            ("items", array(items)),
            ("metrics", array(metrics)),
        ])
    }

    /// Drops the outbox and the events that are in no delta yet.
    #[wasm_bindgen(js_name = discardDeltas)]
    pub fn discard_deltas(&mut self) {
        self.inner.discard_unsent();
    }

    /// Returns the outbox: `{ id, bytes, items }` of each delta.
    pub fn outbox(&self) -> JsValue {
        array(self.inner.outbox().iter().map(|delta| {
            object([
                ("id", delta.id.to_string().into()),
                ("bytes", (wire::encode_delta(delta).len() as u32).into()),
                ("items", (delta.items.len() as u32).into()),
            ])
        }))
    }

    /// Returns the body of a sync with the oldest deltas of the outbox.
    ///
    /// # Errors
    /// `wire.*` where a field is over its limit.
    #[wasm_bindgen(js_name = encodeSync)]
    pub fn encode_sync(&self, site: &str, token: &[u8]) -> Result<Vec<u8>, JsValue> {
        let outbox = self.inner.outbox();
        let deltas = outbox[..outbox.len().min(SYNC_DELTAS_MAX)].to_vec();
        let request =
            SyncRequest { site: site.to_owned(), token: token.to_vec(), deltas, extensions: Vec::new() };
        wire::encode_request(&request).map_err(IntoJs::into_js)
    }

    /// Takes a sync's answer, and returns `{ results, lineage, version }`.
    ///
    /// # Errors
    /// `reply.*` if the bytes are not a reply of central; the outbox is unchanged.
    pub fn settle(&mut self, reply: &[u8]) -> Result<JsValue, JsValue> {
        let reply = wire::decode_reply(reply).map_err(IntoJs::into_js)?;
        let results = reply.results.iter().map(|(id, outcome)| {
            self.inner.settle(*id, outcome);
            let (name, reason) = match outcome {
                Outcome::Acknowledged => ("acknowledged", JsValue::UNDEFINED),
                Outcome::Duplicate => ("duplicate", JsValue::UNDEFINED),
                Outcome::Refused(refusal) => ("refused", refusal.reason().into()),
            };
            object([("id", id.to_string().into()), ("outcome", name.into()), ("reason", reason)])
        });
        Ok(object([
            ("results", array(results)),
            ("lineage", reply.lineage.to_string().into()),
            ("version", (reply.version.0 as f64).into()),
        ]))
    }

    /// Returns the history, newest last: `{ key, itemId, kind, timeMs }` of each event.
    pub fn history(&self, model: &Model) -> JsValue {
        array(self.inner.history().map(|entry| {
            let item_id = model.inner.row(entry.key).map(|row| model.inner.item_id(row));
            object([
                ("key", format!("{:016x}", entry.key.0).into()),
                ("itemId", item_id.map_or(JsValue::UNDEFINED, JsValue::from)),
                ("kind", entry.kind().as_str().into()),
                ("timeMs", (entry.time_ms as f64).into()),
            ])
        }))
    }

    /// Returns the choices by the rank that they had: 1, 2–5, 6–10, 11–20, beyond.
    pub fn quality(&self) -> Vec<u32> {
        self.inner.quality().bins.to_vec()
    }

    /// Returns the number of events that are in no delta yet.
    #[wasm_bindgen(getter)]
    pub fn unsent(&self) -> u32 {
        self.inner.unsent() as u32
    }

    /// Returns the number of events kept.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> u32 {
        self.inner.len() as u32
    }
}

fn event(
    kind: &str,
    item_id: String,
    time_ms: f64,
    value: Option<f32>,
    event_id: Option<String>,
    session_id: Option<String>,
    now_ms: f64,
) -> Result<(Event, u64), JsValue> {
    let kind = Kind::parse(kind).map_err(IntoJs::into_js)?;
    let time_ms = whole(time_ms, "event", "time_ms")?;
    let now_ms = whole(now_ms, "event", "now_ms")?;
    Ok((Event { event_id, item_id, kind, time_ms, value, session_id }, now_ms))
}

fn scenario(continuing: bool) -> Scenario {
    if continuing { Scenario::Continue } else { Scenario::Discover }
}

fn kind_name(index: u8) -> &'static str {
    Kind::from_index(index).map_or("unknown", Kind::as_str)
}
