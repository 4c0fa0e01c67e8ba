//! The pass over the catalogue: a query's best rows, without reading the blocks that cannot win.

use crate::ids::Row;
use crate::model::Model;
use crate::model::priors::{BLOCK, MARGIN, Priors};
use crate::rank::kernel::{Rows, User, dot, score_block};
use crate::rank::query::Query;
use crate::rank::top_k::TopK;

impl Query {
    /// Calls `visit` with every row and its score, in rising order of rows. The candidates are sorted.
    pub(crate) fn for_each(&self, model: &Model, priors: &[f32], mut visit: impl FnMut(Row, f32)) {
        let mut boosts = self.boosts.iter().peekable();
        for (row, dot) in dot_rows(&self.user, &model.factors).enumerate() {
            let score = dot as f32 * (self.dot_scale * model.scales[row]) + priors[row];
            let boost = boosts.next_if(|(candidate, _)| *candidate as usize == row);
            visit(row as Row, boost.map_or(score, |(_, boost)| score + boost));
        }
    }

    /// Returns the score of one row; `boost` is what its features as a candidate give.
    fn score(&self, model: &Model, priors: &Priors, row: Row, boost: f32) -> f32 {
        let (factors, scale) = model.factors(row);
        dot(&self.user, factors) as f32 * (self.dot_scale * scale) + priors.values[row as usize] + boost
    }

    /// Offers the best rows of the whole catalogue to `top`; those of `barred` are left out.
    ///
    /// The candidates and the rows of `hint` (the list before: reading them first raises the threshold
    /// and cannot change the result) are scored first and set a threshold. Then a block of rows is skipped where
    ///
    /// ```text
    /// |u| · max |q_i| + max prior_i  <  the k-th best score so far
    /// ```
    ///
    /// which no row of it can pass (Cauchy–Schwarz). Trained rows lie in falling order of norm, so
    /// few blocks are read; rows moved by merges only make the bound of their block less tight.
    pub(crate) fn rank(
        &self,
        model: &Model,
        priors: &Priors,
        hint: &[Row],
        barred: &mut RowSet,
        top: &mut TopK,
    ) {
        for (row, boost) in &self.boosts {
            if !model.withdrawn[*row as usize] && barred.insert(*row) {
                top.offer(*row, self.score(model, priors, *row, *boost));
            }
        }
        for row in hint {
            if barred.insert(*row) && !model.is_withdrawn(*row) {
                top.offer(*row, self.score(model, priors, *row, 0.0));
            }
        }
        let user = User { vector: &self.user, dot_scale: self.dot_scale };
        let mut scores = [0.0; BLOCK];
        let bounds = model.norms.iter().zip(&priors.largest);
        for (block, (norm, prior)) in bounds.enumerate() {
            let threshold = top.threshold();
            let bound = self.norm * norm + prior;
            if bound + MARGIN * prior.abs() < threshold {
                continue;
            }
            let first = block * BLOCK;
            let last = (first + BLOCK).min(model.len());
            let rows = Rows {
                factors: &model.factors[first * model.dim..last * model.dim],
                scales: &model.scales[first..last],
                priors: &priors.values[first..last],
            };
            if !score_block(user, rows, threshold, &mut scores) {
                continue;
            }
            for (row, score) in (first..last).zip(&scores) {
                if *score >= top.threshold() && !barred.contains(row as Row) && !model.withdrawn[row] {
                    top.offer(row as Row, *score);
                }
            }
        }
    }

    /// Offers the given rows to `top`, each once; those of `barred` are left out. The candidates are
    /// sorted.
    pub(crate) fn rank_only(
        &self,
        model: &Model,
        priors: &Priors,
        rows: &[Row],
        barred: &mut RowSet,
        top: &mut TopK,
    ) {
        for row in rows.iter().copied().filter(|row| (*row as usize) < model.len()) {
            if !model.is_withdrawn(row) && barred.insert(row) {
                let candidate = self.boosts.binary_search_by_key(&row, |(candidate, _)| *candidate);
                let boost = candidate.map_or(0.0, |at| self.boosts[at].1);
                top.offer(row, self.score(model, priors, row, boost));
            }
        }
    }
}

/// Appends z(p·q), the dot product over its spread, of every row to `out`: what a factor alone says.
pub fn factor_scores(model: &Model, p: &[f32], out: &mut Vec<f32>) {
    let mut query = Query::default();
    query.clear(model.dim);
    query.add_vector(model, p, 1.0);
    query.quantise();
    let priors = vec![0.0; model.len()];
    query.for_each(model, &priors, |_, score| out.push(score));
}

/// Returns the integer dot product of `user` with each row of `factors`.
pub(crate) fn dot_rows<'a>(user: &'a [i16], factors: &'a [i8]) -> impl Iterator<Item = i32> + 'a {
    factors.chunks_exact(user.len().max(1)).map(move |row| dot(user, row))
}

/// A set of rows, as bits; emptying it takes time in proportion to its rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowSet {
    bits: Vec<u64>,
    /// The rows of the set, in the order in which they came.
    rows: Vec<Row>,
    /// Only rows below this can be in the set.
    len: usize,
}

impl RowSet {
    /// Empties the set and makes room for rows below `len`.
    pub(crate) fn reset(&mut self, len: usize) {
        for row in self.rows.drain(..) {
            self.bits[row as usize / 64] = 0;
        }
        self.len = len;
        self.bits.resize(len.div_ceil(64), 0);
    }

    /// Adds a row and returns whether it is new; rows out of range are never new.
    #[inline]
    pub(crate) fn insert(&mut self, row: Row) -> bool {
        if row as usize >= self.len {
            return false;
        }
        let word = &mut self.bits[row as usize / 64];
        let bit = 1 << (row % 64);
        let new = *word & bit == 0;
        if new {
            *word |= bit;
            self.rows.push(row);
        }
        new
    }

    /// Returns whether the row is in the set.
    #[inline]
    pub(crate) fn contains(&self, row: Row) -> bool {
        self.bits.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_set_takes_only_rows_of_the_catalogue_it_was_reset_to() {
        let mut set = RowSet::default();
        set.reset(200);
        assert!(set.insert(199) && !set.insert(199) && !set.insert(200));
        set.reset(5);
        assert!(
            !set.insert(5) && !set.insert(63) && !set.insert(199),
            "rows within the last word, and beyond"
        );
        assert!(set.insert(4) && set.contains(4) && !set.contains(5));
        set.reset(200);
        assert!((0..200).all(|row| !set.contains(row)));
    }
}
