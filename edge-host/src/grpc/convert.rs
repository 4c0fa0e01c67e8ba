//! Between the messages of `proto/` and those of the service.

use super::proto;
use crate::error::EdgeError;
use crate::service::messages::{
    Answer, Call, Counts, Erased, EventIn, EventsCall, ItemOut, Kept, ListAnswer, ListIn, ObserveCall,
    Observed, PastOut, ReasonOut, RecommendationsCall, ScenarioIn, SimilarCall, UserCall,
};

impl From<proto::Event> for EventIn {
    fn from(event: proto::Event) -> Self {
        let proto::Event { kind, item_id, event_id, time_ms, value, session_id } = event;
        Self { kind, item_id, event_id, time_ms, value, session_id }
    }
}

fn events(events: Vec<proto::Event>) -> Vec<EventIn> {
    events.into_iter().map(EventIn::from).collect()
}

/// Returns a count, the usual one where the field was left out.
fn count(count: u32) -> u32 {
    if count == 0 { ListIn::default().count } else { count }
}

impl TryFrom<Option<proto::ListRequest>> for ListIn {
    type Error = EdgeError;

    fn try_from(list: Option<proto::ListRequest>) -> Result<Self, EdgeError> {
        let list = list.unwrap_or_default();
        let scenario = match proto::Scenario::try_from(list.scenario) {
            Ok(proto::Scenario::Discover) => ScenarioIn::Discover,
            Ok(proto::Scenario::Continue) => ScenarioIn::Continue,
            Err(_) => {
                let message = format!("is {}, the limit is 0 (discover) or 1 (continue)", list.scenario);
                return Err(EdgeError::Field { field: "scenario", message });
            }
        };
        Ok(Self {
            count: count(list.count),
            scenario,
            allow: list.allow.map(|items| items.ids),
            deny: list.deny,
            diversity: list.diversity,
            explore: list.explore,
            seed: list.seed,
            reasons: list.reasons,
        })
    }
}

impl From<proto::EventsRequest> for EventsCall {
    fn from(asked: proto::EventsRequest) -> Self {
        Self { user: asked.user, events: events(asked.events) }
    }
}

impl TryFrom<proto::RecommendationsRequest> for RecommendationsCall {
    type Error = EdgeError;

    fn try_from(asked: proto::RecommendationsRequest) -> Result<Self, EdgeError> {
        Ok(Self { user: asked.user, list: asked.list.try_into()? })
    }
}

impl TryFrom<proto::ObserveRequest> for ObserveCall {
    type Error = EdgeError;

    fn try_from(asked: proto::ObserveRequest) -> Result<Self, EdgeError> {
        Ok(Self { user: asked.user, events: events(asked.events), list: asked.list.try_into()? })
    }
}

impl From<proto::SimilarRequest> for SimilarCall {
    fn from(asked: proto::SimilarRequest) -> Self {
        Self { item_id: asked.item_id, count: count(asked.count) }
    }
}

impl From<EventsCall> for Call {
    fn from(call: EventsCall) -> Self {
        Self::Events(call)
    }
}

impl From<RecommendationsCall> for Call {
    fn from(call: RecommendationsCall) -> Self {
        Self::Recommendations(call)
    }
}

impl From<ObserveCall> for Call {
    fn from(call: ObserveCall) -> Self {
        Self::Observe(call)
    }
}

impl From<SimilarCall> for Call {
    fn from(call: SimilarCall) -> Self {
        Self::Similar(call)
    }
}

impl TryFrom<proto::Call> for Call {
    type Error = EdgeError;

    fn try_from(call: proto::Call) -> Result<Self, EdgeError> {
        use proto::call::Call as Asked;
        Ok(match call.call {
            Some(Asked::Events(asked)) => EventsCall::from(asked).into(),
            Some(Asked::Recommendations(asked)) => RecommendationsCall::try_from(asked)?.into(),
            Some(Asked::Observe(asked)) => ObserveCall::try_from(asked)?.into(),
            Some(Asked::Similar(asked)) => SimilarCall::from(asked).into(),
            Some(Asked::Export(asked)) => Self::Export(UserCall { user: asked.user }),
            Some(Asked::Erase(asked)) => Self::Erase(UserCall { user: asked.user }),
            None => return Err(EdgeError::Shape { message: "a call of the batch has no verb".to_owned() }),
        })
    }
}

/// Takes the one kind of answer that a verb has out of [`Answer`].
macro_rules! taken_from_answer {
    ($($kind:ident: $message:ty),*) => {
        $(impl TryFrom<Answer> for $message {
            type Error = Answer;

            fn try_from(answer: Answer) -> Result<Self, Answer> {
                match answer {
                    Answer::$kind(message) => Ok(message.into()),
                    other => Err(other),
                }
            }
        })*
    };
}

taken_from_answer!(
    Events: proto::EventsResponse,
    List: proto::List,
    Observed: proto::ObserveResponse,
    Kept: proto::ExportResponse,
    Erased: proto::EraseResponse
);

impl From<Counts> for proto::EventsResponse {
    fn from(Counts { applied, duplicate, context_only, sent }: Counts) -> Self {
        Self { applied, duplicate, context_only, sent }
    }
}

impl From<ListAnswer> for proto::List {
    fn from(ListAnswer { rung, lineage, model_version, stale, items }: ListAnswer) -> Self {
        let model = lineage.zip(model_version).map(|(lineage, version)| proto::Model { lineage, version });
        Self {
            rung: rung.to_owned(),
            model,
            stale,
            items: items.into_iter().map(proto::Item::from).collect(),
        }
    }
}

impl From<ItemOut> for proto::Item {
    fn from(ItemOut { item_id, score, reasons }: ItemOut) -> Self {
        let reason = |ReasonOut { part, share, item_id, kind }| proto::Reason { part, share, item_id, kind };
        Self { item_id, score, reasons: reasons.into_iter().map(reason).collect() }
    }
}

impl From<Observed> for proto::ObserveResponse {
    fn from(Observed { events, list }: Observed) -> Self {
        Self { events: Some(events.into()), list: Some(list.into()) }
    }
}

impl From<Kept> for proto::ExportResponse {
    fn from(Kept { lineage, model_version, history, outbox, state_bytes }: Kept) -> Self {
        let past = |PastOut { item_id, key, kind, time_ms }| proto::Past { item_id, key, kind, time_ms };
        let model = Some(proto::Model { lineage, version: model_version });
        Self { model, history: history.into_iter().map(past).collect(), outbox, state_bytes }
    }
}

impl From<Erased> for proto::EraseResponse {
    fn from(Erased { erased }: Erased) -> Self {
        Self { erased }
    }
}

impl From<Result<Answer, EdgeError>> for proto::Answer {
    fn from(answer: Result<Answer, EdgeError>) -> Self {
        use proto::answer::Answer as Told;
        let told = match answer {
            Ok(Answer::Events(counts)) => Told::Events(counts.into()),
            Ok(Answer::List(list)) => Told::List(list.into()),
            Ok(Answer::Observed(observed)) => Told::Observe(observed.into()),
            Ok(Answer::Kept(kept)) => Told::Export(kept.into()),
            Ok(Answer::Erased(erased)) => Told::Erase(erased.into()),
            Err(error) => {
                Told::Failure(proto::Failure { code: error.code().to_owned(), error: error.to_string() })
            }
        };
        Self { answer: Some(told) }
    }
}
