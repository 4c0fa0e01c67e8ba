//! One person's state.

use crate::error::{IntoJs, coded};
use crate::memory::with_core;
use crate::packed;
use crate::text;
use alloc::string::String;
use alloc::vec::Vec;
use nearfield_engine::sync::delta::SHARE_STEPS;
use nearfield_engine::sync::wire::{self, SyncRequest};
use nearfield_engine::{
    DeltaId, Event, Kind, Learned, Model, ModelVersion, Outcome, Reason, Request, Scenario, UserState,
    Workspace,
};
use wasm_bindgen::prelude::*;

/// Most deltas of one sync: a choice that keeps a body far below the limit, so that a long time
/// offline goes out in a few requests.
const SYNC_DELTAS_MAX: usize = 64;

/// Stands for a row where there is none.
const NO_ROW: u32 = u32::MAX;

/// Gives what `work` gives of a person's state.
fn with<T>(user: u32, work: impl FnOnce(&mut UserState) -> Result<T, JsValue>) -> Result<T, JsValue> {
    with_core(|core| work(core.users.get(user)?))
}

/// Gives what `work` gives of a person's state beside a model.
fn with_model<T>(
    user: u32,
    model: u32,
    work: impl FnOnce(&mut UserState, &Model, &mut Workspace) -> Result<T, JsValue>,
) -> Result<T, JsValue> {
    with_core(|core| work(core.users.get(user)?, core.models.get(model)?, &mut core.workspace))
}

/// Checks an event without learning from it.
///
/// # Errors
/// `event.*` names the field and the limit.
#[wasm_bindgen(js_name = checkEvent)]
pub fn check_event(
    kind: u8,
    item_id: String,
    time_ms: f64,
    event_id: Option<String>,
    session_id: Option<String>,
    now_ms: f64,
) -> Result<(), JsValue> {
    event(kind, item_id, time_ms, event_id, session_id)?.check(now_ms as u64).map_err(IntoJs::into_js)
}

/// Keeps the state of a person of whom nothing is known, and returns its number.
#[wasm_bindgen(js_name = userNew)]
pub fn user_new() -> u32 {
    with_core(|core| core.users.keep(UserState::new()))
}

/// Restores a state, and returns its number.
///
/// # Errors
/// `state.*` for bytes of another kind, of a newer schema, or damaged ones.
#[wasm_bindgen(js_name = userFromBytes)]
pub fn user_from_bytes(bytes: &[u8]) -> Result<u32, JsValue> {
    let user = UserState::from_bytes(bytes).map_err(IntoJs::into_js)?;
    Ok(with_core(|core| core.users.keep(user)))
}

/// Drops a state.
#[wasm_bindgen(js_name = userFree)]
pub fn user_free(user: u32) {
    with_core(|core| core.users.free(user));
}

/// Returns the state as bytes, the outbox included.
///
/// # Errors
/// `core.freed` where there is no such state or model; so for all that follow.
#[wasm_bindgen(js_name = userToBytes)]
pub fn user_to_bytes(user: u32) -> Result<Vec<u8>, JsValue> {
    with(user, |user| Ok(user.to_bytes()))
}

/// Learns from one event, and returns 0 where it was applied, 1 where its id was counted before, and 2 where it
/// is context only. Where the person does not share, no delta will carry it.
///
/// # Errors
/// `event.*` names the field and the limit; nothing is changed.
#[wasm_bindgen(js_name = userLearn)]
#[expect(clippy::too_many_arguments, reason = "plain arguments cross without an object to take apart")]
pub fn user_learn(
    user: u32,
    model: u32,
    kind: u8,
    item_id: String,
    time_ms: f64,
    event_id: Option<String>,
    session_id: Option<String>,
    now_ms: f64,
    shares: bool,
) -> Result<u8, JsValue> {
    let event = event(kind, item_id, time_ms, event_id, session_id)?;
    let now_ms = now_ms as u64;
    with_model(user, model, |user, model, _| {
        let learned = if shares {
            user.learn(model, &event, now_ms)
        } else {
            user.learn_privately(model, &event, now_ms)
        };
        Ok(match learned.map_err(IntoJs::into_js)? {
            Learned::Applied => 0,
            Learned::Duplicate => 1,
            Learned::ContextOnly => 2,
        })
    })
}

/// Returns the person's list, packed: rows, then the bits of the scores. `continuing` asks for what
/// the person wants next, own items included; else the list leaves them out. A list that is not `shown`
/// does not count for quality.
#[wasm_bindgen(js_name = userRecommend)]
#[expect(clippy::too_many_arguments, reason = "plain arguments cross without an object to take apart")]
pub fn user_recommend(
    user: u32,
    model: u32,
    count: u32,
    continuing: bool,
    allow: Option<Vec<u32>>,
    deny: Vec<u32>,
    diversity: f32,
    explore: f32,
    seed: u32,
    shown: bool,
) -> Result<Vec<u32>, JsValue> {
    let (scenario, seed) = (scenario(continuing), u64::from(seed));
    let request = Request { count, scenario, allow, deny, diversity, explore, seed };
    with_model(user, model, |user, model, workspace| {
        let list = if shown {
            user.recommend(model, &request, workspace)
        } else {
            user.peek(model, &request, workspace)
        };
        Ok(packed::list(&list))
    })
}

/// Returns why items are in the list, packed: for each row its two reasons, of each the part of the score
/// (or 255 for none), the kind of the event behind it, that event's row (or 2³² − 1), and the bits of the
/// share.
#[wasm_bindgen(js_name = userExplain)]
pub fn user_explain(user: u32, model: u32, continuing: bool, rows: &[u32]) -> Result<Vec<u32>, JsValue> {
    let packed = |reason: Option<Reason>| match reason {
        None => [u32::from(u8::MAX), 0, NO_ROW, 0],
        Some(Reason { part, share, because }) => {
            let (row, kind) = because.map_or((NO_ROW, 0), |(row, kind)| (row, kind as u32));
            [part as u32, kind, row, share.to_bits()]
        }
    };
    with_model(user, model, |user, model, workspace| {
        let reasons = user.explain(model, scenario(continuing), rows, workspace);
        Ok(reasons.into_iter().flatten().flat_map(packed).collect())
    })
}

/// Takes the head of a list that another copy of this state showed for the one shown last.
#[wasm_bindgen(js_name = userWasShown)]
pub fn user_was_shown(user: u32, model: u32, version: f64, rows: &[u32]) -> Result<(), JsValue> {
    with_model(user, model, |user, model, _| {
        user.was_shown(model, ModelVersion(version as u64), rows);
        Ok(())
    })
}

/// Returns whether a delta should go out.
#[wasm_bindgen(js_name = userDeltaDue)]
pub fn user_delta_due(user: u32, now_ms: f64) -> Result<bool, JsValue> {
    with(user, |user| Ok(user.delta_due(now_ms as u64)))
}

/// Moves what was learnt into the outbox under a random id; returns whether there was anything. A delta
/// that may have been sent under this id before names the version `base` that it named then.
///
/// # Errors
/// `delta.bad_id` where the id does not have 16 bytes.
#[wasm_bindgen(js_name = userTakeDelta)]
pub fn user_take_delta(user: u32, model: u32, id: &[u8], base: Option<f64>) -> Result<bool, JsValue> {
    let id = DeltaId(id.try_into().map_err(|_| coded("delta", "bad_id", "id", Some(16)))?);
    with_model(user, model, |user, model, workspace| {
        let base = base.map_or(model.version(), |base| ModelVersion(base as u64));
        Ok(user.take_delta_again(model, id, base, workspace).is_some())
    })
}

/// Returns what `userTakeDelta` would move, packed, or nothing: the halves of lineage and version, bytes, the bits
/// of the share and of the factor's scale, the numbers of factors, items and metrics; then the factors, row and
/// kind of each item (with 256 where it starts a session), and the halves of the version and the five counts of
/// each metric.
#[wasm_bindgen(js_name = userPreviewDelta)]
pub fn user_preview_delta(user: u32, model: u32) -> Result<Option<Vec<u32>>, JsValue> {
    with_model(user, model, |user, model, workspace| {
        let Some(delta) = user.preview_delta(model, workspace) else { return Ok(None) };
        let share = f32::from(delta.share) / f32::from(SHARE_STEPS);
        let mut numbers = Vec::new();
        numbers.extend_from_slice(&packed::halves(delta.lineage.0));
        numbers.extend_from_slice(&packed::halves(delta.base_version.0));
        numbers.extend_from_slice(&[
            wire::encode_delta(&delta).len() as u32,
            share.to_bits(),
            delta.factor_scale.to_bits(),
        ]);
        numbers
            .extend([delta.factor.len(), delta.items.len(), delta.metrics.len()].map(|count| count as u32));
        delta.factor.iter().for_each(|factor| numbers.push(i32::from(*factor) as u32));
        for touch in &delta.items {
            numbers.extend_from_slice(&[
                touch.row(),
                u32::from(touch.kind) | u32::from(touch.starts_session()) << 8,
            ]);
        }
        for metrics in &delta.metrics {
            numbers.extend_from_slice(&packed::halves(metrics.version.0));
            numbers.extend_from_slice(&metrics.bins.map(u32::from));
        }
        Ok(Some(numbers))
    })
}

/// Drops the outbox and the events that are in no delta yet.
#[wasm_bindgen(js_name = userDiscardDeltas)]
pub fn user_discard_deltas(user: u32) -> Result<(), JsValue> {
    with(user, |user| {
        user.discard_unsent();
        Ok(())
    })
}

/// Returns the outbox, packed: of each delta its id (4 numbers), its bytes and its number of items.
#[wasm_bindgen(js_name = userOutbox)]
pub fn user_outbox(user: u32) -> Result<Vec<u32>, JsValue> {
    with(user, |user| {
        let mut numbers = Vec::new();
        for delta in user.outbox() {
            numbers.extend_from_slice(&packed::id(delta.id.0));
            numbers.extend_from_slice(&[wire::encode_delta(delta).len() as u32, delta.items.len() as u32]);
        }
        Ok(numbers)
    })
}

/// Returns the body of a sync with the oldest deltas of the outbox.
///
/// # Errors
/// `wire.*` where a field is over its limit.
#[wasm_bindgen(js_name = userEncodeSync)]
pub fn user_encode_sync(user: u32, site: String, token: Vec<u8>) -> Result<Vec<u8>, JsValue> {
    with(user, |user| {
        let outbox = user.outbox();
        let deltas = outbox[..outbox.len().min(SYNC_DELTAS_MAX)].to_vec();
        let request = SyncRequest { site, token, deltas, extensions: Vec::new() };
        wire::encode_request(&request).map_err(IntoJs::into_js)
    })
}

/// Takes a sync's answer, and returns it as lines: lineage and version, then the id of each delta and
/// `acknowledged`, `duplicate`, or why it was refused.
///
/// # Errors
/// `reply.*` if the bytes are not a reply of central; the outbox is unchanged.
#[wasm_bindgen(js_name = userSettle)]
pub fn user_settle(user: u32, reply: &[u8]) -> Result<String, JsValue> {
    let reply = wire::decode_reply(reply).map_err(IntoJs::into_js)?;
    with(user, |user| {
        let mut lines = String::new();
        text::push_hex(&reply.lineage.0.to_be_bytes(), &mut lines);
        lines.push(' ');
        text::push_decimal(reply.version.0, &mut lines);
        for (id, outcome) in &reply.results {
            user.settle(*id, outcome);
            lines.push('\n');
            text::push_hex(&id.0, &mut lines);
            lines.push(' ');
            lines.push_str(match outcome {
                Outcome::Acknowledged => "acknowledged",
                Outcome::Duplicate => "duplicate",
                Outcome::Refused(refusal) => refusal.reason(),
            });
        }
        Ok(lines)
    })
}

/// Returns the history, newest last, packed: of each event the halves of the item's key, its row (or 2³² − 1), its
/// kind, and the halves of its time.
#[wasm_bindgen(js_name = userHistory)]
pub fn user_history(user: u32, model: u32) -> Result<Vec<u32>, JsValue> {
    with_model(user, model, |user, model, _| {
        let mut numbers = Vec::new();
        for entry in user.history() {
            numbers.extend_from_slice(&packed::halves(entry.key.0));
            numbers.extend_from_slice(&[model.row(entry.key).unwrap_or(NO_ROW), entry.kind() as u32]);
            numbers.extend_from_slice(&packed::halves(entry.time_ms));
        }
        Ok(numbers)
    })
}

/// Returns the choices by the rank that they had: 1, 2–5, 6–10, 11–20, beyond.
#[wasm_bindgen(js_name = userQuality)]
pub fn user_quality(user: u32) -> Result<Vec<u32>, JsValue> {
    with(user, |user| Ok(user.quality().bins.to_vec()))
}

/// Returns the number of events that are in no delta yet.
#[wasm_bindgen(js_name = userUnsent)]
pub fn user_unsent(user: u32) -> Result<u32, JsValue> {
    with(user, |user| Ok(user.unsent() as u32))
}

/// Returns the number of events kept.
#[wasm_bindgen(js_name = userLength)]
pub fn user_length(user: u32) -> Result<u32, JsValue> {
    with(user, |user| Ok(user.len() as u32))
}

/// Returns an event of fields whose kind and times JavaScript has checked.
fn event(
    kind: u8,
    item_id: String,
    time_ms: f64,
    event_id: Option<String>,
    session_id: Option<String>,
) -> Result<Event, JsValue> {
    let kind = Kind::from_index(kind).ok_or_else(|| coded("event", "unknown_kind", "kind", None))?;
    Ok(Event { event_id, item_id, kind, time_ms: time_ms as u64, value: None, session_id })
}

fn scenario(continuing: bool) -> Scenario {
    if continuing { Scenario::Continue } else { Scenario::Discover }
}
