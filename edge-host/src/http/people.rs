//! What is kept of a user, forgetting it, and several calls in one.

use super::{Answered, Asked, Failure, Refused, json_body};
use crate::service::messages::{Answer, Call, Erased, Kept, UserCall};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Tells what is kept of a user.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "people",
    params(("user" = String, Path, description = "1 to 128 bytes without control characters")),
    responses((status = 200, body = Kept), (status = "4XX", body = Failure), (status = "5XX", body = Failure)),
)]
pub(super) async fn export(asked: Asked) -> Answered {
    asked.answer(Call::Export(UserCall { user: asked.user()? })).await
}

/// Forgets a user, unsent deltas included.
#[utoipa::path(
    delete, path = "/v1/users/{user}", tag = "people",
    params(("user" = String, Path, description = "1 to 128 bytes without control characters")),
    responses((status = 200, body = Erased), (status = "4XX", body = Failure), (status = "5XX", body = Failure)),
)]
pub(super) async fn erase(asked: Asked) -> Answered {
    asked.answer(Call::Erase(UserCall { user: asked.user()? })).await
}

/// The answer to one call of a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum OneOf {
    /// What the call answers alone.
    Answer(Answer),
    /// Why it was not served.
    Failure(Failure),
}

/// Answers up to 100 calls, each by itself and in their order. Calls of one user run one after another.
#[utoipa::path(
    post, path = "/v1/batch", tag = "batch", request_body = Vec<Call>,
    responses((status = 200, body = Vec<OneOf>), (status = "4XX", body = Failure), (status = "5XX", body = Failure)),
)]
pub(super) async fn batch(asked: Asked, body: Result<Bytes, BytesRejection>) -> Result<Response, Refused> {
    let calls: Vec<Call> = json_body(body)?;
    let answers = asked.service.batch(&asked.context, calls).await?;
    let answers: Vec<OneOf> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(answer) => OneOf::Answer(answer),
            Err(error) => {
                asked.service.edge().metrics().refused(error.code());
                OneOf::Failure(Failure::of(&error))
            }
        })
        .collect();
    Ok(Json(answers).into_response())
}
