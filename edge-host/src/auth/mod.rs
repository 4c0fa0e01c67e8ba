//! Who may call what: services by bearer tokens with scopes, people's devices by tokens that their site signed for
//! one user.
//!
//! | scope | opens |
//! |---|---|
//! | `write` | telling events of users |
//! | `read` | lists, and items that are like another one |
//! | `admin` | what is kept of users, and forgetting them |
//! | `metrics` | the metrics |

mod tokens;
mod user_tokens;

pub use tokens::{Grants, TOKEN_BYTES_MIN, TokensError};
pub use user_tokens::{UserKeys, UserKeysError};

use crate::error::EdgeError;
use crate::watched::Watched;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a caller may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To tell events of users.
    Write,
    /// To ask for lists.
    Read,
    /// To read what is kept of users, and to forget them.
    Admin,
    /// To read the metrics.
    Metrics,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Admin, Self::Metrics];

    /// Returns its name in a file of tokens, in a user's token, and in errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Whoever reaches a loopback address, where the edge was told not to ask.
    Anyone,
    /// A service with a bearer token.
    Service {
        /// What the token opens.
        scopes: Vec<Scope>,
    },
    /// The device of one user, who reaches nobody else.
    User {
        /// The user.
        user: String,
        /// What the token opens, `admin` and `metrics` never among it.
        scopes: Vec<Scope>,
        /// Until when it holds.
        until: SystemTime,
    },
}

impl Principal {
    /// Returns for how long the caller's token still holds, where it runs out.
    pub fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Anyone | Self::Service { .. } => None,
            Self::User { until, .. } => {
                Some(until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
            }
        }
    }

    /// Checks that the caller may do something, with a user where it is about one.
    ///
    /// # Errors
    /// [`EdgeError::Forbidden`] names the scope that is missing; [`EdgeError::ForeignUser`] for another user.
    pub fn may(&self, scope: Scope, user: Option<&str>) -> Result<(), EdgeError> {
        let scopes = match self {
            Self::Anyone => return Ok(()),
            Self::Service { scopes } => scopes,
            Self::User { user: own, scopes, .. } => {
                if user.is_some_and(|user| user != own) {
                    return Err(EdgeError::ForeignUser);
                }
                scopes
            }
        };
        if scopes.contains(&scope) { Ok(()) } else { Err(EdgeError::Forbidden { scope: scope.name() }) }
    }
}

/// Who may call what.
#[derive(Clone)]
pub enum Access {
    /// Everyone who reaches the port may call everything: for a loopback address only.
    Open,
    /// Those who show a token.
    Tokens {
        /// The services' tokens.
        services: Option<Arc<Watched<Grants>>>,
        /// The keys that users' tokens are signed with.
        users: Option<Arc<Watched<UserKeys>>>,
    },
}

impl Access {
    /// Returns access for services with the tokens of a file.
    pub fn services(tokens: Watched<Grants>) -> Self {
        Self::Tokens { services: Some(Arc::new(tokens)), users: None }
    }

    /// Returns access for nobody.
    pub fn nobody() -> Self {
        Self::Tokens { services: None, users: None }
    }

    /// Returns who calls, by the header `authorization`; `site` is the one that a user's token must be for.
    ///
    /// # Errors
    /// [`EdgeError::Unauthorized`] says what is wrong, without the token.
    pub fn principal(&self, authorization: Option<&str>, site: &str) -> Result<Principal, EdgeError> {
        let Self::Tokens { services, users } = self else { return Ok(Principal::Anyone) };
        let refused = |why| Err(EdgeError::Unauthorized { why });
        let Some(token) = authorization.and_then(bearer) else { return refused("there is none") };
        // A signed token has two dots, which a random one is not made of.
        if token.bytes().filter(|byte| *byte == b'.').count() == 2 {
            let Some(keys) = users else { return refused("this edge takes no users' tokens") };
            return keys.get().principal(token, site).or_else(refused);
        }
        match services.as_ref().and_then(|services| services.get().scopes(token)) {
            Some(scopes) => Ok(Principal::Service { scopes }),
            None => refused("it is not known"),
        }
    }

    /// Reads the files again that have changed.
    pub fn refresh(&self) {
        if let Self::Tokens { services, users } = self {
            services.iter().for_each(|services| _ = services.refresh());
            users.iter().for_each(|users| _ = users.refresh());
        }
    }
}

/// Returns the token of `Bearer TOKEN`; the scheme's case does not matter (RFC 7235).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
