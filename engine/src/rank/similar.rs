//! Lists that need no person: the popular items, and the items like another one.

use crate::ids::Row;
use crate::model::Model;
use crate::model::blend::Scenario;
use crate::rank::kernel::pairs;
use crate::rank::scan::dot_rows;
use crate::rank::top_k::{Scored, TopK};

impl Model {
    /// Returns the most popular items, best first; ties go to the lower row. It is the list of a
    /// person without a history.
    pub fn popular(&self, count: usize) -> Vec<Scored> {
        let mut top = TopK::new(count);
        for (row, prior) in self.priors(Scenario::Discover, 0).values.iter().enumerate() {
            if !self.withdrawn[row] {
                top.offer(row as Row, *prior);
            }
        }
        top.into_sorted()
    }

    /// Returns the items whose rows point most nearly the same way (cosine), best first.
    pub fn similar(&self, row: Row, count: usize) -> Vec<Scored> {
        let own = pairs(self.factors.row(row).map(i16::from));
        let norm = |row: Row| {
            f32::sqrt(self.factors.row(row).map(|f| i32::from(f) * i32::from(f)).sum::<i32>() as f32)
        };
        let own_norm = norm(row);
        let mut top = TopK::new(count);
        for (other, dot) in dot_rows(&own, &self.factors).into_iter().enumerate() {
            let other_norm = norm(other as Row);
            if other != row as usize && !self.withdrawn[other] && other_norm > 0.0 && own_norm > 0.0 {
                top.offer(other as Row, dot as f32 / (own_norm * other_norm));
            }
        }
        top.into_sorted()
    }
}
