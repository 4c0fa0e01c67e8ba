//! The block in plain loops, for every host.

use crate::model::priors::BLOCK;

#[inline]
pub(super) fn dot_rows(user: &[i16], rows: &[i8], out: &mut [i32; BLOCK]) {
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(user.len().max(1))) {
        *out = super::dot(user, row);
    }
}
