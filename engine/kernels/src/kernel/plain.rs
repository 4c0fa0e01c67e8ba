//! The block in plain loops, for every host.

use super::{Dots, LeftOff, Limits, Pair, parts};
use crate::factors::Step;

#[inline]
pub(super) fn dots(
    user: &[Pair],
    block: &[Step],
    _later: &[Step],
    limits: &Limits,
    out: &mut Dots,
) -> Result<(), LeftOff> {
    out.fill(0);
    for (part, limit) in parts(user.len(), limits) {
        for (u, step) in user[part.clone()].iter().zip(&block[part.clone()]) {
            let (first, second) = (i32::from(u[0]), i32::from(u[1]));
            for (sum, q) in out.iter_mut().zip(step.0.as_chunks::<2>().0) {
                *sum += first * i32::from(q[0]) + second * i32::from(q[1]);
            }
        }
        if out.iter().all(|sum| *sum < limit) {
            return Err(LeftOff { after: part.end });
        }
    }
    Ok(())
}
