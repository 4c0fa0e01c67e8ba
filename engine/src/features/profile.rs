//! What is remembered of a person so that the features of the next event can be told.

use super::Features;
use super::affinity::{Categories, Prices};
use super::words::{Device, Referrer};
use crate::encoding;
use crate::error::StateError;
use crate::event::{Context, Event, Kind};
use crate::ids::ItemKey;
use crate::session;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Events of the history that counts of recent events look at.
pub const RECENT_EVENTS: usize = 20;
/// Items that a person touched last which features name.
pub const RECENT_ITEMS: usize = 5;

/// First byte of a profile's bytes.
const SCHEMA: u8 = 1;
const DAY_MINUTES: i64 = 24 * 60;

/// What is remembered of a person: some hundred bytes, at most some 1.7 KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Time of the event before; none before the first one.
    last_ms: Option<u64>,
    session_hash: u64,
    session_began_ms: u64,
    session_events: u32,
    session_referrer: Referrer,
    utc_offset_minutes: Option<i32>,
    device: Device,
    history_events: u32,
    purchase_ms: Option<u64>,
    /// The last events of the history, newest last.
    recent: Vec<Recent>,
    /// Ids of the items touched last, newest first.
    recent_items: Vec<String>,
    prices: Prices,
    categories: Categories,
}

/// An event of the history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Recent {
    key: ItemKey,
    kind: u8,
    time_ms: u64,
}

impl Profile {
    /// Returns the features of an event, and remembers it. The event is a checked one. An event that comes late counts
    /// as if it happened at the time of the one before it.
    pub fn observe(&mut self, event: &Event, context: &Context) -> Features {
        let now_ms = self.last_ms.map_or(event.time_ms, |last_ms| last_ms.max(event.time_ms));
        let session_hash = session::hash_of(event.session_id.as_deref());
        let new_session = self
            .last_ms
            .is_none_or(|last_ms| session::starts(self.session_hash, last_ms, session_hash, now_ms));
        let referrer = context.referrer.as_deref().map(Referrer::of);
        if new_session {
            self.session_began_ms = now_ms;
            self.session_events = 0;
            self.session_referrer = referrer.unwrap_or_default();
        }
        self.session_hash = session_hash;
        if let Some(device) = context.device.as_deref() {
            self.device = Device::of(device);
        }
        self.utc_offset_minutes = context.utc_offset_minutes.or(self.utc_offset_minutes);

        let features = self.features(event, context, new_session, now_ms);

        self.last_ms = Some(now_ms);
        self.session_events = self.session_events.saturating_add(1);
        if event.kind.is_history() {
            self.remember(event, context, now_ms);
        }
        features
    }

    fn features(&self, event: &Event, context: &Context, new_session: bool, now_ms: u64) -> Features {
        let seconds = |since_ms: u64| (now_ms.saturating_sub(since_ms) / 1000).min(u32::MAX.into()) as u32;
        let key = ItemKey::of(&event.item_id);
        let of_item = self.recent.iter().rev().find(|recent| recent.key == key);
        let count = |kinds: &[Kind]| {
            let of_kinds = |recent: &&Recent| kinds.iter().any(|kind| *kind as u8 == recent.kind);
            self.recent.iter().filter(of_kinds).count() as u8
        };
        // 1970-01-01 was a Thursday.
        let minutes = self.utc_offset_minutes.map(|offset| (now_ms / 60_000) as i64 + i64::from(offset));
        Features {
            new_session,
            session_events: self.session_events,
            session_seconds: seconds(self.session_began_ms),
            hour: minutes.map(|minutes| (minutes.rem_euclid(DAY_MINUTES) / 60) as u8),
            weekday: minutes.map(|minutes| (minutes.div_euclid(DAY_MINUTES) + 3).rem_euclid(7) as u8),
            seconds_since_event: self.last_ms.map(seconds),
            seconds_since_item: of_item.map(|recent| seconds(recent.time_ms)),
            seconds_since_purchase: self.purchase_ms.map(seconds),
            history_events: self.history_events,
            recent_views: count(&[Kind::View, Kind::Click]),
            recent_carts: count(&[Kind::Cart]),
            recent_purchases: count(&[Kind::Purchase]),
            recent_items: self.recent_items.clone(),
            price: context.price,
            price_affinity: context.price.and_then(|price| self.prices.affinity(price)),
            category_affinity: context.category.as_deref().and_then(|name| self.categories.affinity(name)),
            device: self.device,
            referrer: self.session_referrer,
        }
    }

    fn remember(&mut self, event: &Event, context: &Context, now_ms: u64) {
        self.history_events = self.history_events.saturating_add(1);
        if self.recent.len() == RECENT_EVENTS {
            self.recent.remove(0);
        }
        let key = ItemKey::of(&event.item_id);
        self.recent.push(Recent { key, kind: event.kind as u8, time_ms: now_ms });
        self.recent_items.retain(|id| *id != event.item_id);
        self.recent_items.truncate(RECENT_ITEMS - 1);
        self.recent_items.insert(0, event.item_id.clone());
        if event.kind == Kind::Purchase {
            self.purchase_ms = Some(now_ms);
        }
        if matches!(event.kind, Kind::View | Kind::Click | Kind::Cart | Kind::Purchase) {
            context.price.into_iter().for_each(|price| self.prices.choose(price));
            context.category.iter().for_each(|category| self.categories.choose(category));
        }
    }

    /// Returns the profile as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, alloc::vec![SCHEMA]).expect("a profile has no type that postcard refuses")
    }

    /// Restores a profile; no bytes are the profile of a person of whom nothing is known.
    ///
    /// # Errors
    /// [`StateError`] for bytes of a newer schema, or damaged ones.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let Some((schema, body)) = bytes.split_first() else { return Ok(Self::default()) };
        if *schema > SCHEMA {
            return Err(StateError::NewerSchema { found: (*schema).into(), known: SCHEMA.into() });
        }
        let damaged = || StateError::Damaged { what: "the profile of its features" };
        let profile: Self = encoding::read(body).map_err(|_| damaged())?;
        let sound = *schema == SCHEMA
            && profile.recent.len() <= RECENT_EVENTS
            && profile.recent_items.len() <= RECENT_ITEMS
            && profile.categories.is_sound();
        if sound { Ok(profile) } else { Err(damaged()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SESSION_GAP_MS;
    use alloc::string::ToString;

    /// Saturday, 2026-11-28 23:30 UTC.
    const NOW: u64 = 1_795_908_600_000;

    fn view(item: &str, time_ms: u64) -> Event {
        Event::new(Kind::View, item, time_ms)
    }

    fn nothing() -> Context {
        Context::default()
    }

    #[test]
    fn a_first_event_knows_nothing_but_itself() {
        let features = Profile::default().observe(&view("a", NOW), &nothing());
        assert_eq!(features, Features { new_session: true, ..Features::default() });
    }

    #[test]
    fn the_clock_is_the_persons_own() {
        let mut profile = Profile::default();
        let at = |minutes| Context { utc_offset_minutes: Some(minutes), ..Context::default() };
        let clock = |features: Features| (features.hour.unwrap(), features.weekday.unwrap());
        assert_eq!(clock(profile.observe(&view("a", NOW), &at(0))), (23, 5));
        assert_eq!(clock(profile.observe(&view("a", NOW), &at(60))), (0, 6));
        // An event that does not say keeps the zone.
        assert_eq!(clock(profile.observe(&view("a", NOW), &nothing())), (0, 6));
        assert_eq!(clock(profile.observe(&view("a", NOW), &at(-11 * 60))), (12, 5));
        assert_eq!(clock(Profile::default().observe(&view("a", 0), &at(-60))), (23, 2));
    }

    #[test]
    fn sessions_end_by_a_gap_or_by_their_name() {
        let mut profile = Profile::default();
        let named = |name: &str, time_ms| Event { session_id: Some(name.to_string()), ..view("a", time_ms) };
        let mut see = |event: Event| {
            let Features { new_session, session_events, session_seconds, .. } =
                profile.observe(&event, &nothing());
            (new_session, session_events, session_seconds)
        };
        assert_eq!(see(view("a", NOW)), (true, 0, 0));
        assert_eq!(see(view("a", NOW + SESSION_GAP_MS)), (false, 1, 1800));
        // Late: as if it came with the one before.
        assert_eq!(see(view("a", NOW)), (false, 2, 1800));
        assert_eq!(see(view("a", NOW + 2 * SESSION_GAP_MS + 1)), (true, 0, 0));
        assert_eq!(see(named("s", NOW + 2 * SESSION_GAP_MS + 2)), (true, 0, 0));
        assert_eq!(see(named("s", NOW + 5 * SESSION_GAP_MS + 2)), (false, 1, 5400));
        assert_eq!(see(named("t", NOW + 5 * SESSION_GAP_MS + 2)), (true, 0, 0));
    }

    #[test]
    fn recency_and_history_are_of_the_events_before() {
        let mut profile = Profile::default();
        for (index, (kind, item)) in
            [(Kind::View, "a"), (Kind::Cart, "b"), (Kind::Purchase, "b")].into_iter().enumerate()
        {
            profile.observe(&Event::new(kind, item, NOW + index as u64 * 1000), &nothing());
        }
        profile.observe(&Event::new(Kind::Impression, "c", NOW + 5000), &nothing());
        let features = profile.observe(&view("a", NOW + 10_500), &nothing());
        assert_eq!(features.seconds_since_event, Some(5));
        assert_eq!(features.seconds_since_item, Some(10));
        assert_eq!(features.seconds_since_purchase, Some(8));
        assert_eq!((features.history_events, features.session_events), (3, 4));
        assert_eq!((features.recent_views, features.recent_carts, features.recent_purchases), (1, 1, 1));
        assert_eq!(features.recent_items, ["b", "a"]);
        assert_eq!(profile.observe(&view("c", NOW + 11_000), &nothing()).seconds_since_item, None);
        for index in 0..100 {
            profile.observe(&view(&alloc::format!("i{index}"), NOW + 20_000), &nothing());
        }
        let features = profile.observe(&view("a", NOW + 30_000), &nothing());
        assert_eq!(features.recent_items, ["i99", "i98", "i97", "i96", "i95"]);
        assert_eq!((features.recent_views, features.recent_purchases), (20, 0));
        assert_eq!(features.seconds_since_item, None);
    }

    #[test]
    fn the_referrer_is_the_sessions_first_and_taste_is_of_choices() {
        let mut profile = Profile::default();
        let context = |referrer: &str, price: f64| Context {
            referrer: Some(referrer.to_string()),
            price: Some(price),
            category: Some("tents".to_string()),
            device: Some("phone".to_string()),
            ..Context::default()
        };
        let first = profile.observe(&view("a", NOW), &context("https://google.com", 100.0));
        assert_eq!((first.device, first.referrer), (Device::Phone, Referrer::Search));
        assert_eq!((first.price, first.price_affinity, first.category_affinity), (Some(100.0), None, None));
        profile.observe(&Event::new(Kind::Dismiss, "b", NOW), &context("https://tents.example", 9000.0));
        let third = profile.observe(&view("c", NOW), &context("https://tents.example", 100.0));
        assert_eq!(third.referrer, Referrer::Search);
        assert_eq!((third.price_affinity, third.category_affinity), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn bytes_bring_back_the_same_features() {
        let mut profile = Profile::default();
        for index in 0..50u64 {
            let context = Context {
                price: Some(index as f64 * 1.7),
                category: Some(alloc::format!("c{}", index % 20)),
                utc_offset_minutes: Some(90),
                ..Context::default()
            };
            let kind = Kind::ALL[index as usize % 8];
            let event = Event::new(kind, alloc::format!("i{}", index % 7), NOW + index * 60_000);
            let mut restored = Profile::from_bytes(&profile.to_bytes()).unwrap();
            assert_eq!(restored.observe(&event, &context), profile.observe(&event, &context));
            assert_eq!(restored, profile);
        }
        let bytes = profile.to_bytes();
        assert_eq!(Profile::from_bytes(&[]), Ok(Profile::default()));
        assert!(matches!(Profile::from_bytes(&bytes[..bytes.len() - 1]), Err(StateError::Damaged { .. })));
        assert!(matches!(Profile::from_bytes(&[9]), Err(StateError::NewerSchema { found: 9, known: 1 })));
    }
}
