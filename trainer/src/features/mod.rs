//! The features of recorded events, as rankers are trained on them: the same engine as in service, the same values.

mod parquet;

pub use parquet::{Writer, WriterError};

use crate::recorded::{EventLogError, Recorded};
use nearfield_engine::features::Profile;
use nearfield_events::{FeatureRow, StreamEvent};
use std::collections::HashMap;
use std::io::Read;

/// The rows of a file of events, in its order. A row's place is partition 0 and the number of the event.
#[derive(Debug)]
pub struct Rows<R> {
    recorded: Recorded<R>,
    profiles: HashMap<String, Profile>,
    next: i64,
}

impl<R: Read> Rows<R> {
    /// Returns the rows of a file of events.
    pub fn new(recorded: Recorded<R>) -> Self {
        Self { recorded, profiles: HashMap::new(), next: 0 }
    }

    /// Returns the next row, none at the end.
    ///
    /// # Errors
    /// As [`Recorded::next`].
    #[expect(clippy::should_implement_trait, reason = "an iterator could not end at the first error")]
    pub fn next(&mut self) -> Result<Option<FeatureRow>, EventLogError> {
        let Some(StreamEvent { user_id, event, context, .. }) = self.recorded.next()? else {
            return Ok(None);
        };
        let features = self.profiles.entry(user_id.clone()).or_default().observe(&event, &context);
        let row = FeatureRow::new(&user_id, &event, 0, self.next, features);
        self.next += 1;
        Ok(Some(row))
    }
}
