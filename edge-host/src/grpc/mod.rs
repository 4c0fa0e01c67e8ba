//! The gRPC face: the same verbs as over HTTP, on the same port. Health and reflection stand beside them.

mod convert;

use crate::Edge;
use crate::auth::Principal;
use crate::error::EdgeError;
use crate::service::messages::{Answer, EventsCall, ObserveCall, RecommendationsCall, SimilarCall, UserCall};
use crate::service::{Call, Context, EdgeService};
use crate::telemetry::TRACE_PARENT;
use axum::Router;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The messages and the service, as `proto/` has them.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "made from proto/, where it is described"
)]
pub mod proto {
    tonic::include_proto!("nearfield.edge.v1");
}

/// The metadata that names a request.
const NAME: &str = "x-request-id";
/// The metadata in which a failure's short stable name stands.
pub const CODE: &str = "nearfield-code";
/// Time between two looks at whether a list can be made (choice).
const HEALTH_EVERY: Duration = Duration::from_millis(250);
/// The files that were compiled, for reflection.
const FILES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edge.bin"));

/// Returns the routes of the gRPC face.
pub(crate) fn router(service: EdgeService) -> Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(tell_health(reporter, Arc::downgrade(service.edge())));
    let edge = proto::edge_server::EdgeServer::new(Face(service));
    let files = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILES)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    const COMPILED: &str = "the files were compiled with this program";
    let reflection = files().build_v1().expect(COMPILED);
    // What older tools ask.
    let before = files().build_v1alpha().expect(COMPILED);
    let routes = Routes::new(edge).add_service(health).add_service(reflection).add_service(before);
    routes.into_axum_router().reset_fallback()
}

/// Tells the health service what `/readyz` says, for the server as a whole and for its one service, as long as the edge
/// lives.
async fn tell_health(reporter: HealthReporter, edge: Weak<Edge>) {
    while let Some(edge) = edge.upgrade() {
        let status = if edge.can_recommend() { ServingStatus::Serving } else { ServingStatus::NotServing };
        drop(edge);
        for service in ["", proto::edge_server::SERVICE_NAME] {
            reporter.set_service_status(service, status).await;
        }
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}

/// The service as tonic calls it.
pub struct Face(EdgeService);

impl Face {
    /// Returns the context of a call.
    fn context(&self, metadata: &MetadataMap) -> Result<Context, Status> {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let options = &self.0.edge().options;
        let principal: Result<Principal, EdgeError> =
            options.access.principal(text("authorization"), &options.site);
        let principal = principal.map_err(|error| self.refused(&error))?;
        let wait = text("grpc-timeout").and_then(timeout).unwrap_or(options.call_deadline);
        Ok(Context::new(principal, text(NAME), wait).in_trace(text(TRACE_PARENT)))
    }

    /// Counts a failure and returns its status.
    fn refused(&self, error: &EdgeError) -> Status {
        self.0.edge().metrics().refused(error.code());
        let mut status = Status::new(error.class().code(), error.to_string());
        status.metadata_mut().insert(CODE, MetadataValue::from_static(error.code()));
        status
    }

    /// Answers a call, under the request's name.
    async fn answer<In, Out: TryFrom<Answer>>(
        &self,
        request: Request<In>,
        call: impl FnOnce(In) -> Result<Call, EdgeError>,
    ) -> Result<Response<Out>, Status> {
        let context = self.context(request.metadata())?;
        let call = call(request.into_inner()).map_err(|error| self.refused(&error))?;
        let answer = self.0.call(&context, call).await.map_err(|error| self.refused(&error))?;
        let Ok(answer) = Out::try_from(answer) else { unreachable!("a verb has one kind of answer") };
        Ok(named(Response::new(answer), &context))
    }
}

/// Puts the request's name beside an answer.
fn named<T>(mut response: Response<T>, context: &Context) -> Response<T> {
    if let Ok(id) = context.request_id.parse() {
        response.metadata_mut().insert(NAME, id);
    }
    response
}

/// Reads `grpc-timeout`: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[tonic::async_trait]
impl proto::edge_server::Edge for Face {
    async fn events(
        &self,
        request: Request<proto::EventsRequest>,
    ) -> Result<Response<proto::EventsResponse>, Status> {
        let call = |asked: proto::EventsRequest| Ok(EventsCall::from(asked).into());
        self.answer(request, call).await
    }

    async fn recommendations(
        &self,
        request: Request<proto::RecommendationsRequest>,
    ) -> Result<Response<proto::List>, Status> {
        let call = |asked| RecommendationsCall::try_from(asked).map(Into::into);
        self.answer(request, call).await
    }

    async fn observe(
        &self,
        request: Request<proto::ObserveRequest>,
    ) -> Result<Response<proto::ObserveResponse>, Status> {
        let call = |asked| ObserveCall::try_from(asked).map(Into::into);
        self.answer(request, call).await
    }

    async fn similar(
        &self,
        request: Request<proto::SimilarRequest>,
    ) -> Result<Response<proto::List>, Status> {
        let call = |asked: proto::SimilarRequest| Ok(SimilarCall::from(asked).into());
        self.answer(request, call).await
    }

    async fn export(
        &self,
        request: Request<proto::ExportRequest>,
    ) -> Result<Response<proto::ExportResponse>, Status> {
        let call = |asked: proto::ExportRequest| Ok(Call::Export(UserCall { user: asked.user }));
        self.answer(request, call).await
    }

    async fn erase(
        &self,
        request: Request<proto::EraseRequest>,
    ) -> Result<Response<proto::EraseResponse>, Status> {
        let call = |asked: proto::EraseRequest| Ok(Call::Erase(UserCall { user: asked.user }));
        self.answer(request, call).await
    }

    async fn batch(
        &self,
        request: Request<proto::BatchRequest>,
    ) -> Result<Response<proto::BatchResponse>, Status> {
        let context = self.context(request.metadata())?;
        let refused = |error: EdgeError| self.refused(&error);
        let calls: Result<Vec<_>, _> =
            request.into_inner().calls.into_iter().map(TryInto::try_into).collect();
        let answers = self.0.batch(&context, calls.map_err(refused)?).await.map_err(refused)?;
        let answers = answers.into_iter().map(|answer| {
            if let Err(error) = &answer {
                self.0.edge().metrics().refused(error.code());
            }
            answer.into()
        });
        Ok(named(Response::new(proto::BatchResponse { answers: answers.collect() }), &context))
    }

    type FollowStream = BoxStream<'static, Result<proto::List, Status>>;

    async fn follow(
        &self,
        request: Request<proto::RecommendationsRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let context = self.context(request.metadata())?;
        let refused = |error: EdgeError| self.refused(&error);
        let call = request.into_inner().try_into().map_err(refused)?;
        let lists = self.0.follow(context.clone(), call).map_err(refused)?;
        let face = Self(self.0.clone());
        let lists = lists.map(move |list| list.map(proto::List::from).map_err(|error| face.refused(&error)));
        Ok(named(Response::new(lists.boxed()), &context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_with_its_unit() {
        for (text, wait) in [
            ("5S", Some(Duration::from_secs(5))),
            ("250m", Some(Duration::from_millis(250))),
            ("1H", Some(Duration::from_secs(3600))),
            ("7u", Some(Duration::from_micros(7))),
            ("", None),
            ("5", None),
            ("x5S", None),
            ("123456789S", None),
        ] {
            assert_eq!(timeout(text), wait, "{text:?}");
        }
    }
}
