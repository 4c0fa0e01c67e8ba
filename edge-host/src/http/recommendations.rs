//! `GET /v1/users/{user}/recommendations`.

use super::{Refused, read_user};
use crate::Edge;
use crate::abi::ListRequest;
use crate::error::EdgeError;
use crate::fallback::Recommendations;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Json;
use nearfield_engine::Scenario;
use nearfield_engine::limits::COUNT_MAX;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecommendQuery {
    #[serde(default = "default_count")]
    count: u32,
    #[serde(default)]
    scenario: Scenario,
}

fn default_count() -> u32 {
    nearfield_engine::Request::default().count
}

pub(super) async fn recommend(
    State(edge): State<Arc<Edge>>,
    user: Result<Path<String>, PathRejection>,
    query: Result<Query<RecommendQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let started = Instant::now();
    let user = read_user(user)?;
    let Query(RecommendQuery { count, scenario }) =
        query.map_err(|rejection| EdgeError::Query { message: rejection.body_text() })?;
    if count == 0 || count > COUNT_MAX {
        let message = format!("count is {count}, the limit is 1 to {COUNT_MAX}");
        return Err(EdgeError::Query { message }.into());
    }
    let request = ListRequest { count, scenario, ..ListRequest::default() };
    let Recommendations { rung, model, items } = edge.recommend(&user, &request).await?;
    let items: Vec<Value> =
        items.into_iter().map(|item| json!({ "item_id": item.item_id, "score": item.score })).collect();
    edge.metrics().served("recommendations", started.elapsed());
    Ok(Json(json!({
        "lineage": model.map(|model| model.lineage.to_string()),
        "model_version": model.map(|model| model.version.0),
        "rung": rung.as_str(),
        "items": items,
    })))
}
