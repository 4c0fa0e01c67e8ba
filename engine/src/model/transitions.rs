//! Directed transitions: which items follow which, as up to m neighbours an item.
//!
//! ```text
//! T[a → b] += w · c^(distance − 1)         for b within `reach` events after a, same session
//! F[a, b] = T[a → b] / (Σ_b T[a → b] + s)  forward: what follows a
//! B[a, b] = T[b → a] / (Σ_b T[b → a] + s)  backward: what a follows
//! R[a, b]                                  fresh: as F, from counts with a short half-life
//! ```
//!
//! with c the decay by distance and s the shrinkage. Sequential rules: Ludewig, Jannach (2018),
//! doi 10.1007/s11257-018-9209-6. A neighbour is stored in five bytes: a `u32` (row in the low 24
//! bits, forward weight in the high 8, F = (weight / 255)²) and a `u8` (backward weight in the high
//! 4, fresh in the low 4, B and R = (weight / 15)³): powers keep relative precision for small fractions.
//! All weights 0 is an empty slot.

use crate::ids::Row;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;

/// A neighbour of an item, read from the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// The neighbour's row.
    pub row: Row,
    /// F: fraction of what follows the item, 0 to 1.
    pub forward: f32,
    /// B: fraction of what the item follows, 0 to 1.
    pub backward: f32,
    /// R: fraction of what has followed the item recently, 0 to 1.
    pub fresh: f32,
}

/// Bytes of a stored neighbour.
pub const NEIGHBOUR_BYTES: usize = 5;

/// A neighbour as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stored {
    /// Row in the low 24 bits, forward weight in the high 8.
    pub row_and_forward: u32,
    /// Backward weight in the high 4 bits, fresh weight in the low 4.
    pub backward_and_fresh: u8,
}

impl Stored {
    /// Returns the stored form of a neighbour.
    pub fn new(neighbour: &Neighbour) -> Self {
        let forward = (f32::sqrt(neighbour.forward.clamp(0.0, 1.0)) * 255.0 + 0.5) as u32;
        let coarse = |fraction: f32| (libm::cbrtf(fraction.clamp(0.0, 1.0)) * 15.0 + 0.5) as u8;
        Self {
            row_and_forward: neighbour.row | forward << 24,
            backward_and_fresh: coarse(neighbour.backward) << 4 | coarse(neighbour.fresh),
        }
    }

    /// Returns the neighbour's row.
    pub fn row(self) -> Row {
        self.row_and_forward & 0x00ff_ffff
    }

    /// Returns whether the slot is empty.
    pub fn is_empty(self) -> bool {
        self.row_and_forward >> 24 == 0 && self.backward_and_fresh == 0
    }

    /// Returns the neighbour, or `None` for an empty slot.
    pub fn read(self) -> Option<Neighbour> {
        (!self.is_empty()).then(|| Neighbour {
            row: self.row(),
            forward: FORWARD_FRACTIONS[(self.row_and_forward >> 24) as usize],
            backward: COARSE_FRACTIONS[usize::from(self.backward_and_fresh >> 4)],
            fresh: COARSE_FRACTIONS[usize::from(self.backward_and_fresh & 15)],
        })
    }
}

/// (weight / 255)² by weight.
static FORWARD_FRACTIONS: [f32; 256] = {
    let mut fractions = [0.0; 256];
    let mut weight = 0;
    while weight < 256 {
        let root = weight as f32 / 255.0;
        fractions[weight] = root * root;
        weight += 1;
    }
    fractions
};

/// (weight / 15)³ by weight.
static COARSE_FRACTIONS: [f32; 16] = {
    let mut fractions = [0.0; 16];
    let mut weight = 0;
    while weight < 16 {
        let root = weight as f32 / 15.0;
        fractions[weight] = root * root * root;
        weight += 1;
    }
    fractions
};

/// Returns the neighbours that fit an item's part of the pack.
///
/// The budget is 192 bytes an item (a choice of the design): factors, scale, popularity and id come
/// first, 5 bytes a neighbour after that, at least 4 and at most 32 of them.
pub fn neighbours_for_budget(d: usize, id_bytes_mean: usize) -> usize {
    const BUDGET_BYTES: usize = 192;
    let rest = d + 4 + 2 * crate::model::popularity::HALF_LIVES + 1 + id_bytes_mean;
    (BUDGET_BYTES.saturating_sub(rest) / NEIGHBOUR_BYTES).clamp(4, 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_keeps_its_row_and_about_its_fractions() {
        for (forward, backward, fresh) in [(0.001, 0.3, 0.0), (0.02, 0.0, 1.0), (0.0, 0.05, 0.2)] {
            let neighbour = Neighbour { row: 0x00ab_cdef, forward, backward, fresh };
            let read = Stored::new(&neighbour).read().unwrap();
            assert_eq!(read.row, neighbour.row);
            assert!((read.forward.sqrt() - forward.sqrt()).abs() <= 0.5 / 255.0 + 1e-6, "{forward} {read:?}");
            for (read, fraction) in [(read.backward, backward), (read.fresh, fresh)] {
                assert!(
                    (read.cbrt() - fraction.cbrt()).abs() <= 0.5 / 15.0 + 1e-6,
                    "{fraction} became {read}"
                );
            }
        }
        assert_eq!(Stored::default().read(), None);
    }
}
