//! Two weeks of people browsing: tastes, intents, sequences, repeats, drift, trends and arrivals.

use crate::events::{Event, EventKind};
use crate::products::{CATEGORIES, Product, STYLES, category, stock};
use crate::random::Chances;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Monday 2026-03-02, 00:00 UTC: a choice, so that the file does not depend on today.
const START_MS: u64 = 1_772_409_600_000;
const DAYS: u64 = 14;
/// Collections that people compare with one another.
const FAMILY_LINES: usize = 4;

/// A shop, and what happened in it.
#[derive(Debug)]
pub struct Shop {
    /// All products, also those that arrive later.
    pub products: Vec<Product>,
    /// All events in time order; items are product ids.
    pub events: Vec<Event>,
}

/// What shapes the shop.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Seed of everything that is drawn (default 7).
    pub seed: u64,
    /// Number of people (default 6,000); each comes back a few times.
    pub shoppers: usize,
    /// Part of the time after which new collections may arrive (default 0.5, from 0.1 to 0.9), so that a
    /// model trained on the events before has never met them.
    pub until_fraction: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { seed: 7, shoppers: 6000, until_fraction: 0.5 }
    }
}

/// What one person likes, until it drifts.
struct Taste {
    style: usize,
    second_style: usize,
    tier: usize,
    /// Departments' weights, by shelf.
    shelves: Vec<f64>,
}

/// Lets the shoppers of `plan` browse.
pub fn open(plan: &Plan) -> Shop {
    let mut chances = Chances::new(plan.seed);
    let span_ms = DAYS * DAY_MS;
    let split_ms = (plan.until_fraction * span_ms as f64) as u64;
    // Half a day of margin: the split counts events, not hours, and the evening holds more of them.
    let products = stock(
        &mut chances.branch(),
        split_ms + DAY_MS / 2,
        (split_ms + 2 * DAY_MS).max(span_ms.saturating_sub(3 * DAY_MS)).min(span_ms - HOUR_MS),
    );
    let mut events = Vec::new();
    for shopper in 0..plan.shoppers {
        let mut own = chances.branch();
        browse(&products, &format!("s{shopper:05}"), span_ms, &mut own, &mut events);
    }
    // A stable sort: events of one person at one time keep their order.
    events.sort_by_key(|event| event.time_ms);
    Shop { products, events }
}

fn browse(products: &[Product], user: &str, span_ms: u64, chances: &mut Chances, events: &mut Vec<Event>) {
    let mut taste = draw_taste(chances);
    let mut starts: Vec<u64> =
        (0..1 + chances.geometric(0.3, 14)).map(|_| draw_start(span_ms, chances)).collect();
    starts.sort_unstable();
    // Two visits closer than this would be one visit.
    starts.dedup_by(|later, earlier| *later - *earlier < 2 * HOUR_MS);

    let mut remembered: Vec<usize> = Vec::new();
    for start_ms in starts {
        if chances.yes(0.1) {
            taste.style = taste.second_style;
            taste.second_style = chances.below(STYLES.len());
        }
        visit(products, user, start_ms, &taste, &mut remembered, chances, events);
    }
}

fn draw_taste(chances: &mut Chances) -> Taste {
    let favourite = CATEGORIES[chances.below(CATEGORIES.len())].department;
    let second = CATEGORIES[chances.below(CATEGORIES.len())].department;
    let shelves = CATEGORIES
        .iter()
        .map(|shelf| {
            let liked = if shelf.department == favourite { 1.0 } else { 0.05 };
            let also = if shelf.department == second { 0.3 } else { 0.0 };
            (liked + also) * chances.between(0.2, 1.0)
        })
        .collect();
    Taste {
        style: chances.below(STYLES.len()),
        second_style: chances.below(STYLES.len()),
        tier: chances.weighted(&[0.45, 0.35, 0.2]).expect("weights are above 0"),
        shelves,
    }
}

fn draw_start(span_ms: u64, chances: &mut Chances) -> u64 {
    // People shop by day and most of all in the evening (UTC, a choice).
    #[rustfmt::skip]
    const HOURS: [f64; 24] = [
        0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.4, 0.7, 1.0, 1.2, 1.3, 1.3,
        1.4, 1.3, 1.2, 1.2, 1.3, 1.5, 1.8, 2.2, 2.4, 2.0, 1.3, 0.7,
    ];
    let day = chances.below((span_ms / DAY_MS) as usize) as u64;
    let hour = chances.weighted(&HOURS).expect("weights are above 0") as u64;
    // A visit ends before its day does, so that the last one stays within the time.
    (day * DAY_MS + hour * HOUR_MS + chances.below(HOUR_MS as usize) as u64).min((day + 1) * DAY_MS - HOUR_MS)
}

/// One visit follows one intent: a shelf, then what goes with it, mostly within one collection.
fn visit(
    products: &[Product],
    user: &str,
    start_ms: u64,
    taste: &Taste,
    remembered: &mut Vec<usize>,
    chances: &mut Chances,
    events: &mut Vec<Event>,
) {
    let mut shelf = chances.weighted(&taste.shelves).expect("every shelf has some weight");
    let mut line = None;
    let mut time_ms = start_ms;
    let mut seen: Vec<usize> = Vec::new();
    let mut carted: Vec<usize> = Vec::new();
    let mut say = |item: usize, kind: EventKind, time_ms: u64| {
        events.push(Event {
            user: user.to_owned(),
            item: products[item].id.clone(),
            time_ms: START_MS + time_ms,
            kind,
        });
    };

    // A person back in the shop often looks first at what they liked last time.
    if !remembered.is_empty() && chances.yes(0.3) {
        let item = remembered[chances.below(remembered.len())];
        say(item, EventKind::View, time_ms);
        shelf = products[item].category;
        line = Some(products[item].line);
        seen.push(item);
        time_ms += pause(chances);
    }
    for _ in 0..2 + chances.geometric(0.36, 12) {
        if !seen.is_empty() && chances.yes(0.4) {
            let next = CATEGORIES[shelf].next;
            shelf = category(next[if chances.yes(0.75) { 0 } else { next.len() - 1 }]);
        }
        let item = if seen.len() > 1 && chances.yes(0.12) {
            seen[chances.below(seen.len())]
        } else {
            choose(products, shelf, line, time_ms, taste, &seen, chances)
        };
        say(item, if chances.yes(0.6) { EventKind::View } else { EventKind::Click }, time_ms);
        if line.is_none() || chances.yes(0.15) {
            line = Some(products[item].line);
        }
        seen.push(item);
        time_ms += pause(chances);
        if !carted.contains(&item) && chances.yes(0.09) {
            say(item, EventKind::Cart, time_ms);
            carted.push(item);
            time_ms += pause(chances);
        }
    }
    if !carted.is_empty() && chances.yes(0.55) {
        for item in &carted {
            say(*item, EventKind::Purchase, time_ms);
            time_ms += 500;
        }
    }
    remembered.extend(if carted.is_empty() { seen.last() } else { carted.last() });
}

/// Seconds to a minute between two steps, in milliseconds.
fn pause(chances: &mut Chances) -> u64 {
    chances.between(6_000.0, 75_000.0) as u64
}

/// A product of `shelf` by taste, price level, the visit's collection, and what is in fashion at `time_ms`.
fn choose(
    products: &[Product],
    shelf: usize,
    line: Option<usize>,
    time_ms: u64,
    taste: &Taste,
    seen: &[usize],
    chances: &mut Chances,
) -> usize {
    let per_shelf = products.len() / CATEGORIES.len();
    let first = shelf * per_shelf;
    let weights: Vec<f64> = (first..first + per_shelf)
        .map(|item| {
            let product = &products[item];
            if seen.contains(&item) {
                return 0.0;
            }
            let novelty = match product.arrives_ms {
                Some(arrives_ms) if arrives_ms > time_ms => return 0.0,
                // New things are shown in the window for some days.
                Some(arrives_ms) => {
                    1.0 + 5.0 * libm::exp(-((time_ms - arrives_ms) as f64) / (3 * DAY_MS) as f64)
                }
                None => 1.0,
            };
            let style = if product.style == taste.style {
                1.0
            } else if product.style == taste.second_style {
                0.15
            } else {
                0.015
            };
            let price = libm::exp(-0.8 * product.tier.abs_diff(taste.tier) as f64);
            let together = match line {
                Some(line) if line == product.line => 30.0,
                Some(line) if line / FAMILY_LINES == product.line / FAMILY_LINES => 6.0,
                _ => 1.0,
            };
            let fashion = libm::exp(product.trend * (time_ms as f64 / (DAYS * DAY_MS) as f64 - 0.5));
            product.appeal * novelty * style * price * together * fashion
        })
        .collect();
    first + chances.weighted(&weights).expect("a shelf has more products than a visit has steps")
}
