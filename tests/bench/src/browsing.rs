//! People who browse in a shop.

use nearfield_engine::golden::Random;
use std::fmt::Write;

/// A log of people who browse: each has tastes for a few of 40 shelves, some items of a shelf are taken often, and
/// what stands beside an item often follows it. It is a table with the columns user, item, timestamp, event.
pub(crate) fn events(items: usize, users: usize) -> String {
    const SHELVES: usize = 40;
    let mut random = Random(99);
    let shelf = items / SHELVES;
    let mut text = String::from("user,item,timestamp,event\n");
    for turn in 0..8 {
        for user in 0..users {
            // The same tastes in each visit.
            let mut tastes = Random(user as u64);
            let tastes: [usize; 3] = std::array::from_fn(|_| tastes.below(SHELVES));
            let mut item = 0;
            for step in 0..5 {
                item = if step > 0 && random.below(10) < 4 {
                    item / shelf * shelf + (item + 1) % shelf
                } else {
                    let (taste, place) = (tastes[random.below(3)], random.below(shelf) * random.below(shelf));
                    taste * shelf + place / shelf
                };
                let seconds = 1_700_000_000 + turn * 86_400 + user * 10 + step;
                let _ = writeln!(text, "{user},{item},{seconds},click");
            }
        }
    }
    text
}
