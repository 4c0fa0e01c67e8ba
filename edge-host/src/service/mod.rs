//! What an edge does for its callers, whichever way they come. HTTP and gRPC are thin shells over this: they read a
//! [`Call`], and write its [`Answer`].
//!
//! | verb | scope | |
//! |---|---|---|
//! | `events` | `write` | learns events; durable when answered |
//! | `recommendations` | `read` | a list, of whatever rung |
//! | `observe` | `write` and `read` | both, in one step |
//! | `similar` | `read` | items like another one |
//! | `export`, `erase` | `admin` | what is kept of a user; forgetting it |

pub mod context;
pub mod fallback;
pub mod follow;
pub mod messages;
pub(crate) mod turns;

pub use context::Context;
pub use messages::{Answer, Call};

use crate::Edge;
use crate::auth::Scope;
use crate::error::EdgeError;
use crate::telemetry;
use context::in_time;
use fallback::Recommendations;
use follow::Follower;
use futures_util::stream::{Stream, unfold};
use messages::{
    BATCH_MAX, Counts, Erased, EventsCall, Kept, ListAnswer, ObserveCall, Observed, RecommendationsCall,
    SimilarCall, UserCall,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, info_span};

/// The verbs of one edge.
#[derive(Clone)]
pub struct EdgeService {
    edge: Arc<Edge>,
}

impl EdgeService {
    /// Returns the verbs of an edge.
    pub fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }

    /// Returns the edge.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// Answers a call.
    ///
    /// # Errors
    /// [`EdgeError`]: the caller may not, a field is out of its range, or it cannot be done now.
    pub async fn call(&self, context: &Context, call: Call) -> Result<Answer, EdgeError> {
        let (verb, request) = (call.verb(), &context.request_id);
        let span = info_span!("call", otel.name = verb, verb, request, rung = Empty, code = Empty);
        telemetry::join(&span, context.trace_parent.as_deref());
        let answer = self.answer(context, call).instrument(span.clone()).await;
        match &answer {
            Ok(answer) => _ = answer.rung().map(|rung| span.record("rung", rung)),
            Err(error) => _ = span.record("code", error.code()),
        }
        answer
    }

    async fn answer(&self, context: &Context, call: Call) -> Result<Answer, EdgeError> {
        let started = Instant::now();
        let verb = call.verb();
        let answer = match call {
            Call::Events(call) => self.events(context, call).await.map(Answer::Events),
            Call::Recommendations(call) => self.recommendations(context, call).await.map(Answer::List),
            Call::Observe(call) => self.observe(context, call).await.map(Answer::Observed),
            Call::Similar(call) => self.similar(context, call).await.map(Answer::List),
            Call::Export(call) => self.export(context, call).await.map(Answer::Kept),
            Call::Erase(call) => self.erase(context, call).await.map(Answer::Erased),
        }?;
        self.edge.metrics().served(verb, started.elapsed());
        Ok(answer)
    }

    /// Learns events.
    ///
    /// # Errors
    /// As [`EdgeService::call`].
    pub async fn events(&self, context: &Context, call: EventsCall) -> Result<Counts, EdgeError> {
        context.principal.may(Scope::Write, Some(&call.user))?;
        messages::check_user(&call.user)?;
        let events = messages::events(call.events, self.edge.now_ms())?;
        if let Some(producer) = &self.edge.producer {
            let sent = context.in_time(producer.send(&call.user, events)).await?;
            return Ok(Counts::of_sent(sent.count));
        }
        let learnt = context.in_time(self.edge.learn(&call.user, events)).await?;
        Ok(learnt.into())
    }

    /// Ranks the catalogue. A deadline that passes brings a list of a lower rung, not an error.
    ///
    /// # Errors
    /// As [`EdgeService::call`].
    pub async fn recommendations(
        &self,
        context: &Context,
        call: RecommendationsCall,
    ) -> Result<ListAnswer, EdgeError> {
        context.principal.may(Scope::Read, Some(&call.user))?;
        messages::check_user(&call.user)?;
        let request = call.list.check()?;
        let list = self.edge.recommend(&call.user, &request, context.deadline).await?;
        Ok(list.into())
    }

    /// Learns events and ranks the catalogue, in one step. Events that go to a stream are waited for; a list that had
    /// to be made before they were consumed says so.
    ///
    /// # Errors
    /// As [`EdgeService::call`].
    pub async fn observe(&self, context: &Context, call: ObserveCall) -> Result<Observed, EdgeError> {
        context.principal.may(Scope::Write, Some(&call.user))?;
        context.principal.may(Scope::Read, Some(&call.user))?;
        messages::check_user(&call.user)?;
        let events = messages::events(call.events, self.edge.now_ms())?;
        let request = call.list.check()?;
        if let Some(producer) = &self.edge.producer {
            let sent = context.in_time(producer.send(&call.user, events)).await?;
            let caught_up = match sent.position {
                Some(position) => self.edge.reaches(&call.user, position, context.before_deadline()).await,
                None => true,
            };
            let list = self.edge.recommend(&call.user, &request, context.deadline).await?;
            let list = ListAnswer { stale: !caught_up, ..list.into() };
            return Ok(Observed { events: Counts::of_sent(sent.count), list });
        }
        let (learnt, list) = context.in_time(self.edge.observe(&call.user, events, request)).await?;
        Ok(Observed { events: learnt.into(), list: list.into() })
    }

    /// Returns items that are like another one.
    ///
    /// # Errors
    /// As [`EdgeService::call`].
    pub async fn similar(&self, context: &Context, call: SimilarCall) -> Result<ListAnswer, EdgeError> {
        context.principal.may(Scope::Read, None)?;
        messages::check_count(call.count)?;
        let list = context.in_time(self.edge.similar(&call.item_id, call.count)).await?;
        Ok(Recommendations::live(list).into())
    }

    /// Returns what is kept of a user.
    ///
    /// # Errors
    /// As [`EdgeService::call`].
    pub async fn export(&self, context: &Context, call: UserCall) -> Result<Kept, EdgeError> {
        context.principal.may(Scope::Admin, Some(&call.user))?;
        messages::check_user(&call.user)?;
        let (kept, _) = context.in_time(self.edge.export(&call.user)).await?;
        Ok(kept.into())
    }

    /// Forgets a user.
    ///
    /// # Errors
    /// As [`EdgeService::call`].
    pub async fn erase(&self, context: &Context, call: UserCall) -> Result<Erased, EdgeError> {
        context.principal.may(Scope::Admin, Some(&call.user))?;
        messages::check_user(&call.user)?;
        Ok(Erased { erased: context.in_time(self.edge.forget(&call.user)).await? })
    }

    /// Answers several calls, each by itself. Those about one user run in their order, the others side by side.
    ///
    /// # Errors
    /// [`EdgeError::BatchCount`] for none or too many.
    pub async fn batch(
        &self,
        context: &Context,
        calls: Vec<Call>,
    ) -> Result<Vec<Result<Answer, EdgeError>>, EdgeError> {
        if calls.is_empty() || calls.len() > BATCH_MAX {
            return Err(EdgeError::BatchCount { found: calls.len(), limit: BATCH_MAX });
        }
        let mut by_user: HashMap<Option<String>, Vec<(usize, Call)>> = HashMap::new();
        for (at, call) in calls.into_iter().enumerate() {
            by_user.entry(call.user().map(str::to_owned)).or_default().push((at, call));
        }
        let run = |calls: Vec<(usize, Call)>| async move {
            let mut answers = Vec::with_capacity(calls.len());
            for (at, call) in calls {
                answers.push((at, self.call(context, call).await));
            }
            answers
        };
        let answers = futures_util::future::join_all(by_user.into_values().map(run)).await;
        let mut answers: Vec<_> = answers.into_iter().flatten().collect();
        answers.sort_by_key(|(at, _)| *at);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Returns a user's list now, and again after each event that this host learns of the user, and after each new
    /// model, for as long as the stream is read.
    ///
    /// # Errors
    /// As [`EdgeService::call`], and [`EdgeError::Followers`] where too many streams are open.
    pub fn follow(
        &self,
        context: Context,
        call: RecommendationsCall,
    ) -> Result<impl Stream<Item = Result<ListAnswer, EdgeError>> + Send + use<>, EdgeError> {
        context.principal.may(Scope::Read, Some(&call.user))?;
        messages::check_user(&call.user)?;
        call.list.clone().check()?;
        let follower = self.edge.followers.follow(&call.user)?;
        // The stream lives on past the deadline of the call that opened it, as long as the caller's token.
        let context = Context { deadline: None, ..context };
        let ends = context.principal.remaining().map(|left| Instant::now() + left);
        let stream =
            Follow { service: self.clone(), context, call, follower, ends, state: Following::Begins };
        Ok(unfold(stream, Follow::next))
    }
}

/// A stream of a user's lists.
struct Follow {
    service: EdgeService,
    context: Context,
    call: RecommendationsCall,
    follower: Follower,
    /// When the caller's token runs out.
    ends: Option<Instant>,
    state: Following,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Following {
    Begins,
    Goes,
    Ended,
}

impl Follow {
    /// Waits for what is new, and makes the list after it.
    async fn next(mut self) -> Option<(Result<ListAnswer, EdgeError>, Self)> {
        let since = match std::mem::replace(&mut self.state, Following::Goes) {
            Following::Begins => None,
            Following::Goes => match in_time(self.ends, async { Ok(self.follower.changed().await) }).await {
                Ok(news) => news?,
                Err(_) => {
                    self.state = Following::Ended;
                    return Some((Err(EdgeError::Unauthorized { why: "it has run out" }), self));
                }
            },
            Following::Ended => return None,
        };
        let list = self.service.recommendations(&self.context, self.call.clone()).await;
        if let Some(since) = since {
            self.service.edge.metrics().event_to_list("stream", since.elapsed());
        }
        Some((list, self))
    }
}
