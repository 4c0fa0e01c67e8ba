//! An event as the rest of Nearfield takes it, whatever it was written in.

use crate::refusal::{Reason, Refusal};
pub use nearfield_engine::Context;
use nearfield_engine::{Event, EventError};

/// Most bytes of a person's id.
pub const USER_BYTES_MAX: usize = 128;
/// Most bytes of a query.
pub const QUERY_BYTES_MAX: usize = 512;
/// Most bytes of a device's name.
pub const DEVICE_BYTES_MAX: usize = 64;
/// Most bytes of a referrer.
pub const REFERRER_BYTES_MAX: usize = 2048;
/// Most bytes of a category.
pub const CATEGORY_BYTES_MAX: usize = 128;
/// Farthest that a person's clock may lie from UTC, in minutes: the widest zone is 14 hours, so this passes them all.
pub const UTC_OFFSET_MINUTES_MAX: i32 = 18 * 60;
/// Highest price.
pub const PRICE_MAX: f64 = 1e9;

/// Something that a person did, and what was known around it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEvent {
    /// The person.
    pub user_id: String,
    /// What the person did.
    pub event: Event,
    /// What was searched for.
    pub query: Option<String>,
    /// What was known around it.
    pub context: Context,
}

impl StreamEvent {
    /// Checks every field against its limit.
    ///
    /// # Errors
    /// [`Refusal`] names the first field that is out of its limit.
    pub fn check(&self, now_ms: u64) -> Result<(), Refusal> {
        check_user(&self.user_id)?;
        self.event.check(now_ms).map_err(|error| {
            let reason = match &error {
                EventError::InTheFuture { .. } => Reason::Future,
                EventError::UnknownKind { .. } => Reason::UnknownKind,
                _ => Reason::Field,
            };
            Refusal::new(reason, error)
        })?;
        let Context { utc_offset_minutes, device, referrer, price, category } = &self.context;
        let texts = [
            ("query", &self.query, QUERY_BYTES_MAX),
            ("context.device", device, DEVICE_BYTES_MAX),
            ("context.referrer", referrer, REFERRER_BYTES_MAX),
            ("context.category", category, CATEGORY_BYTES_MAX),
        ];
        for (field, text, limit) in texts {
            let bytes = text.as_ref().map_or(0, String::len);
            if bytes > limit {
                return Err(Refusal::field(field, format!("has {bytes} bytes, the limit is {limit}")));
            }
        }
        if let Some(minutes) = utc_offset_minutes
            && !(-UTC_OFFSET_MINUTES_MAX..=UTC_OFFSET_MINUTES_MAX).contains(minutes)
        {
            let limits =
                format!("is {minutes}, the limit is -{UTC_OFFSET_MINUTES_MAX} to {UTC_OFFSET_MINUTES_MAX}");
            return Err(Refusal::field("context.utc_offset_minutes", limits));
        }
        if let Some(price) = price
            && !(0.0..=PRICE_MAX).contains(price)
        {
            return Err(Refusal::field(
                "context.price",
                format!("is {price}, the limit is 0 to {PRICE_MAX:e}"),
            ));
        }
        Ok(())
    }
}

fn check_user(user_id: &str) -> Result<(), Refusal> {
    if user_id.is_empty() || user_id.len() > USER_BYTES_MAX {
        let limits = format!("has {} bytes, the limit is 1 to {USER_BYTES_MAX}", user_id.len());
        return Err(Refusal::field("user_id", limits));
    }
    if user_id.chars().any(char::is_control) {
        return Err(Refusal::field("user_id", "holds a control character"));
    }
    Ok(())
}
