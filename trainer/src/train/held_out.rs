//! Which training events judge the others.
//!
//! Where events have times, the last fifth in time is held out, because a service predicts the future.
//! Where they have none, a file is often sorted by person, so its end is not its future: a fifth of each
//! person's items is held out instead, chosen by a hash of person and item, the same in every training.

use super::hash;
use crate::event_log::{EventLog, LogEvent};
use std::borrow::Cow;

/// One event in so many is held out.
const FIFTH: u64 = 5;

/// Returns the first `until` events with the held-out ones last, and how many come before those.
pub(super) fn split(log: &EventLog, until: usize) -> (Cow<'_, EventLog>, usize) {
    if log.timed {
        return (Cow::Borrowed(log), (until - until / FIFTH as usize).max(1));
    }
    let held_out = |event: &LogEvent| {
        hash((u64::from(event.user) << 32 | u64::from(event.item)) ^ 0x9e37_79b9).is_multiple_of(FIFTH)
    };
    let (out, mut events): (Vec<LogEvent>, Vec<LogEvent>) =
        log.events[..until].iter().copied().partition(held_out);
    let fit_until = events.len();
    events.extend(out);
    // Without times, an event's position in the file stands for its time.
    for (index, event) in events.iter_mut().enumerate() {
        event.time_ms = index as u64 + 1;
    }
    (Cow::Owned(EventLog { events, ..log.clone() }), fit_until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(timed: bool) -> EventLog {
        let header = if timed { "user,item,timestamp\n" } else { "user,item\n" };
        let lines = (0..50).flat_map(|user| (0..40).map(move |item| (user, item))).map(|(user, item)| {
            let time = if timed { format!(",{}", 1_700_000_000 + user * 40 + item) } else { String::new() };
            format!("u{user},i{item}{time}\n")
        });
        let text: String = std::iter::once(header.to_owned()).chain(lines).collect();
        EventLog::read_csv(text.as_bytes()).unwrap()
    }

    #[test]
    fn with_times_the_end_is_held_out_and_nothing_moves() {
        let log = log(true);
        let (split, fit_until) = split(&log, 1000);
        assert_eq!(fit_until, 800);
        assert_eq!(split.events, log.events);
    }

    #[test]
    fn without_times_a_fifth_of_each_persons_items_is_held_out() {
        let log = log(false);
        let (reordered, fit_until) = split(&log, 2000);
        assert!((1500..1700).contains(&fit_until), "{fit_until} of 2000 are fitted");
        for user in 0..50 {
            let of_person = |events: &[LogEvent]| events.iter().filter(|event| event.user == user).count();
            let (fitted, out) =
                (of_person(&reordered.events[..fit_until]), of_person(&reordered.events[fit_until..]));
            assert_eq!(fitted + out, 40);
            assert!((1..=20).contains(&out), "person {user} has {out} of 40 held out");
        }
        let order = |events: &[LogEvent]| {
            events.windows(2).all(|pair| (pair[0].user, pair[0].item) < (pair[1].user, pair[1].item))
        };
        assert!(order(&reordered.events[..fit_until]) && order(&reordered.events[fit_until..]));
        assert_eq!(split(&log, 2000).0.events, reordered.events);
    }
}
