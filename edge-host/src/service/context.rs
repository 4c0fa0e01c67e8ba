//! What goes with a call: until when it is worth an answer, its name in logs, and who makes it.

use crate::auth::Principal;
use crate::error::EdgeError;
use std::time::{Duration, Instant};

/// Longest name of a request that is taken from a caller, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// Longest deadline that a caller may set (choice).
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// What goes with a call.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the answer comes too late to be of use. What was begun is done to its end all the same.
    pub deadline: Option<Instant>,
    /// The request's name, in logs and in the answer.
    pub request_id: String,
    /// Who calls.
    pub principal: Principal,
    /// The trace that the caller has begun: the header `traceparent`.
    pub trace_parent: Option<String>,
}

impl Context {
    /// Returns a context; a deadline further away than [`DEADLINE_MAX`] is brought nearer, and a name that is empty,
    /// too long or not of printable ASCII is replaced by a random one.
    pub fn new(principal: Principal, request_id: Option<&str>, wait: Duration) -> Self {
        let deadline = Some(Instant::now() + wait.min(DEADLINE_MAX));
        Self { deadline, request_id: self::request_id(request_id), principal, trace_parent: None }
    }

    /// Puts the call into a trace that its caller has begun.
    #[must_use]
    pub fn in_trace(self, parent: Option<&str>) -> Self {
        Self { trace_parent: parent.map(str::to_owned), ..self }
    }

    /// Returns a time before the deadline that leaves a quarter of what remains for what follows.
    pub(crate) fn before_deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        self.deadline.map(|deadline| now + deadline.saturating_duration_since(now) * 3 / 4)
    }

    /// Waits for work until the deadline. Work that must not stop half-way runs in a task of its own.
    ///
    /// # Errors
    /// [`EdgeError::Deadline`] once the deadline has passed.
    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T, EdgeError>>) -> Result<T, EdgeError> {
        in_time(self.deadline, work).await
    }
}

/// Waits for work until a deadline.
///
/// # Errors
/// [`EdgeError::Deadline`] once it has passed.
pub(crate) async fn in_time<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, EdgeError>>,
) -> Result<T, EdgeError> {
    let Some(deadline) = deadline else { return work.await };
    // The clock of waiting has a grain of a millisecond, so what is too late already is not begun.
    if Instant::now() >= deadline {
        return Err(EdgeError::Deadline);
    }
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(EdgeError::Deadline))
}

/// Returns a request's name: the given one if it is fit for logs and headers, else a random one.
pub fn request_id(given: Option<&str>) -> String {
    let fit = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    given.filter(fit).map_or_else(random_id, str::to_owned)
}

fn random_id() -> String {
    let mut bits = [0; 8];
    // A request without randomness has a poor name, and is served.
    let _ = getrandom::fill(&mut bits);
    format!("{:016x}", u64::from_le_bytes(bits))
}
