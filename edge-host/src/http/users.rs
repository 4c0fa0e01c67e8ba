//! `GET` and `DELETE /v1/users/{user}`: what is kept of a user, and forgetting it.

use super::{Refused, read_user};
use crate::Edge;
use crate::abi::Inspection;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn inspect(
    State(edge): State<Arc<Edge>>,
    user: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refused> {
    let user = read_user(user)?;
    let (Inspection { model, history, outbox, state_bytes }, _) = edge.export(&user).await?;
    let history: Vec<Value> = history
        .into_iter()
        .map(|seen| {
            // A key is 64 bits: as a number it would lose its end in many JSON readers.
            let key = format!("{:016x}", seen.key);
            json!({ "item_id": seen.item_id, "key": key, "kind": seen.kind, "time_ms": seen.time_ms })
        })
        .collect();
    let outbox: Vec<String> = outbox.iter().map(ToString::to_string).collect();
    Ok(Json(json!({
        "lineage": model.lineage.to_string(),
        "model_version": model.version.0,
        "history": history,
        "outbox": outbox,
        "state_bytes": state_bytes,
    })))
}

pub(super) async fn forget(
    State(edge): State<Arc<Edge>>,
    user: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refused> {
    let user = read_user(user)?;
    let forgotten = edge.forget(&user).await?;
    Ok(Json(json!({ "forgotten": forgotten })))
}
