//! Directed transitions: which items follow which, as up to m followers an item.
//!
//! ```text
//! T[a → b] += w · decay^(distance − 1)      for b within `reach` events after a, same sitting
//! P[a → b] = T[a → b] / (Σ_b T[a → b] + shrinkage)
//! t_i = Σ_k δᵏ P[h_k → i]                   h_0 the newest event of the person
//! ```
//!
//! Sequential rules: Ludewig, Jannach (2018), doi 10.1007/s11257-018-9209-6. A follower is stored
//! as one `u32`: row in the low 24 bits, weight in the high 8, with P = (weight / 255)²; the
//! square keeps relative precision for small shares. Weight 0 is an empty place.

use crate::ids::Row;

/// Returns the stored form of a follower.
pub fn pack_follower(row: Row, share: f32) -> u32 {
    let weight = (libm::sqrtf(share.clamp(0.0, 1.0)) * 255.0 + 0.5) as u32;
    row | weight << 24
}

/// Returns row and share of a stored follower, or `None` for an empty place.
pub fn unpack_follower(follower: u32) -> Option<(Row, f32)> {
    let weight = follower >> 24;
    let root = weight as f32 / 255.0;
    (weight > 0).then_some((follower & 0x00ff_ffff, root * root))
}

/// Returns the followers that fit an item's share of the pack.
///
/// The budget is 192 bytes an item (a choice of the design): factors, scale, popularity and id come
/// first, 4 bytes a follower after that, at least 4 and at most 32 of them.
pub fn followers_for_budget(d: usize, id_bytes_mean: usize) -> usize {
    const BUDGET_BYTES: usize = 192;
    (BUDGET_BYTES.saturating_sub(d + 4 + 2 + 4 + id_bytes_mean) / 4).clamp(4, 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_keeps_its_row_and_about_its_share() {
        for share in [0.001, 0.02, 0.3, 1.0] {
            let (row, read) = unpack_follower(pack_follower(0x00ab_cdef, share)).unwrap();
            assert_eq!(row, 0x00ab_cdef);
            assert!((read.sqrt() - share.sqrt()).abs() <= 0.5 / 255.0 + 1e-6, "{share} became {read}");
        }
        assert_eq!(unpack_follower(pack_follower(7, 0.0)), None);
    }
}
