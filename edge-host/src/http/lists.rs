//! Asking for lists.

use super::{Answered, Asked, Refused};
use crate::error::EdgeError;
use crate::service::messages::{Call, ListAnswer, ListIn, RecommendationsCall, ScenarioIn, SimilarCall};
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use std::time::Duration;
use utoipa::IntoParams;

/// What a list is to be.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Length of the list, 1 to 1000 (default 20).
    count: Option<u32>,
    /// What it is for: discover (default) or continue.
    scenario: Option<ScenarioIn>,
    /// Only these items, with commas between.
    allow: Option<String>,
    /// Not these items, with commas between.
    deny: Option<String>,
    /// How much the items differ from one another, 0 (default) to 1.
    diversity: Option<f32>,
    /// How much the list explores, 0 (default) to 1.
    explore: Option<f32>,
    /// Seed of the exploration.
    seed: Option<u64>,
    /// Whether each item comes with its reasons.
    reasons: Option<bool>,
}

impl From<ListQuery> for ListIn {
    fn from(query: ListQuery) -> Self {
        let ids = |text: String| text.split(',').map(str::to_owned).collect();
        let default = Self::default();
        Self {
            count: query.count.unwrap_or(default.count),
            scenario: query.scenario.unwrap_or_default(),
            allow: query.allow.map(ids),
            deny: query.deny.map(ids).unwrap_or_default(),
            diversity: query.diversity.unwrap_or_default(),
            explore: query.explore.unwrap_or_default(),
            seed: query.seed.unwrap_or_default(),
            reasons: query.reasons.unwrap_or_default(),
        }
    }
}

type ListQueryResult = Result<Query<ListQuery>, QueryRejection>;

fn read_query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, EdgeError> {
    query.map(|Query(query)| query).map_err(|rejection| EdgeError::Query { message: rejection.body_text() })
}

/// Makes a user's list. Where the user's own cannot be made it is the best that remains: see its rung.
#[utoipa::path(
    get, path = "/v1/users/{user}/recommendations", tag = "lists",
    params(("user" = String, Path, description = "1 to 128 bytes without control characters"), ListQuery),
    responses((status = 200, body = ListAnswer), (status = "4XX", body = super::Failure), (status = "5XX", body = super::Failure)),
)]
pub(super) async fn recommendations(asked: Asked, query: ListQueryResult) -> Answered {
    let list = read_query(query)?.into();
    asked.answer(Call::Recommendations(RecommendationsCall { user: asked.user()?, list })).await
}

/// Sends a user's list now, and again after each event that this host learns of the user, and after each new model,
/// as server-sent events.
#[utoipa::path(
    get, path = "/v1/users/{user}/recommendations/stream", tag = "lists",
    params(("user" = String, Path, description = "1 to 128 bytes without control characters"), ListQuery),
    responses(
        (status = 200, body = ListAnswer, content_type = "text/event-stream", description = "events named `list`, or `error`"),
        (status = "4XX", body = super::Failure), (status = "5XX", body = super::Failure),
    ),
)]
pub(super) async fn stream(asked: Asked, query: ListQueryResult) -> Result<Response, Refused> {
    let list = read_query(query)?.into();
    let call = RecommendationsCall { user: asked.user()?, list };
    let lists = asked.service.follow(asked.context, call)?;
    let events = lists.map(|list| match list {
        Ok(list) => Event::default().event("list").json_data(list),
        Err(error) => Event::default().event("error").json_data(super::Failure::of(&error)),
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

/// How many items.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SimilarQuery {
    /// Length of the list, 1 to 1000 (default 20).
    count: Option<u32>,
}

/// Makes a list of items that are like another one.
#[utoipa::path(
    get, path = "/v1/items/{item}/similar", tag = "lists",
    params(("item" = String, Path, description = "the item's id"), SimilarQuery),
    responses((status = 200, body = ListAnswer), (status = "4XX", body = super::Failure), (status = "5XX", body = super::Failure)),
)]
pub(super) async fn similar(asked: Asked, query: Result<Query<SimilarQuery>, QueryRejection>) -> Answered {
    let count = read_query(query)?.count.unwrap_or(ListIn::default().count);
    let item_id = asked.part("item").unwrap_or_default().to_owned();
    asked.answer(Call::Similar(SimilarCall { item_id, count })).await
}
