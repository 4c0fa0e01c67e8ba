//! The block in plain loops, for every host.

use super::{Dots, Pair};
use crate::model::factors::Step;

#[inline]
pub(super) fn dots(user: &[Pair], block: &[Step], _later: &[Step], limit: i32, out: &mut Dots) -> bool {
    let mut sums = *out;
    for (u, step) in user.iter().zip(block) {
        let (first, second) = (i32::from(u[0]), i32::from(u[1]));
        for (sum, q) in sums.iter_mut().zip(step.0.as_chunks::<2>().0) {
            *sum += first * i32::from(q[0]) + second * i32::from(q[1]);
        }
    }
    *out = sums;
    sums.iter().any(|sum| *sum >= limit)
}
