//! Lists that need no person: the popular items, and the items like another one.

use crate::ids::Row;
use crate::model::Model;
use crate::model::blend::Scenario;
use crate::rank::scan::dot_rows;
use crate::rank::top_k::{Scored, TopK};
use alloc::vec::Vec;
use nearfield_kernels::BLOCK;
use nearfield_kernels::factors::add_squares;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;
use nearfield_kernels::kernel::pairs;

impl Model {
    /// Returns the most popular items, best first; ties go to the lower row. It is the list of a
    /// person without a history.
    pub fn popular(&self, count: usize) -> Vec<Scored> {
        let mut top = TopK::new(count);
        for (row, prior) in self.priors(Scenario::Discover, 0).values.iter().enumerate() {
            if !self.is_withdrawn(row as Row) {
                top.offer(row as Row, *prior);
            }
        }
        top.into_sorted()
    }

    /// Returns the items whose rows point most nearly the same way (cosine), best first.
    pub fn similar(&self, row: Row, count: usize) -> Vec<Scored> {
        let own = pairs(self.sections.factors().row(row).map(i16::from));
        let mut norms = Vec::with_capacity(self.len());
        for block in self.sections.factors().blocks() {
            let mut squares = [0; BLOCK];
            add_squares(&mut squares, block);
            norms.extend(squares.map(|square| f32::sqrt(square as f32)));
        }
        let own_norm = norms[row as usize];
        let mut top = TopK::new(count);
        for (other, (dot, norm)) in dot_rows(&own, self.sections.factors()).into_iter().zip(norms).enumerate()
        {
            if other != row as usize && !self.is_withdrawn(other as Row) && norm > 0.0 && own_norm > 0.0 {
                top.offer(other as Row, dot as f32 / (own_norm * norm));
            }
        }
        top.into_sorted()
    }
}
