//! The pass over the catalogue: a query's best rows, without reading the blocks that cannot win.

use crate::ids::Row;
use crate::model::Model;
use crate::model::bounds::{MARGIN, STOPS};
use crate::model::factors::{BLOCK, Factors, Step};
use crate::model::priors::Priors;
use crate::rank::kernel::{self, Dots, Pair, Pass, dot};
use crate::rank::query::Query;
use crate::rank::top_k::TopK;

impl Query {
    /// Calls `visit` with every row and its score, in rising order of rows. The candidates are sorted.
    pub(crate) fn for_each(&self, model: &Model, priors: &[f32], mut visit: impl FnMut(Row, f32)) {
        let mut boosts = self.boosts.iter().peekable();
        for (row, dot) in dot_rows(&self.user, &model.factors).into_iter().enumerate() {
            let score = dot as f32 * (self.dot_scale * model.scales[row]) + priors[row];
            let boost = boosts.next_if(|(candidate, _)| *candidate as usize == row);
            visit(row as Row, boost.map_or(score, |(_, boost)| score + boost));
        }
    }

    /// Offers a row to `top`; `boost` is what its features as a candidate give. The row is left off where what is
    /// left of it cannot bring it above the threshold any more.
    fn offer(&self, model: &Model, priors: &Priors, row: Row, boost: f32, top: &mut TopK) {
        let at = row as usize;
        let (prior, scale) = (priors.values[at], self.dot_scale * model.scales[at]);
        let need = Need::new(top.threshold(), prior, boost, scale);
        let tails = &model.bounds[at / BLOCK].tails;
        let mut numbers = self.user.iter().zip(model.factors.pairs_of(row));
        let (mut found, mut done) = (0, 0);
        for (stop, (of_user, of_row)) in STOPS.iter().zip(self.tails.iter().zip(tails)) {
            found += dot(numbers.by_ref().take(stop - done));
            done = *stop;
            if found < need.limit(of_user * of_row) {
                return;
            }
        }
        found += dot(numbers);
        top.offer(row, found as f32 * scale + prior + boost);
    }

    /// Offers the best rows of the whole catalogue to `top`; those of `barred` are left out.
    ///
    /// The rows of `hint` (the list before: reading them first raises the threshold and cannot change the result) and
    /// the candidates, the most promising ones first, are scored first and set a threshold. Then a block of rows is
    /// skipped where
    ///
    /// ```text
    /// |u| · max |q_i| + max prior_i  <  the k-th best score so far
    /// ```
    ///
    /// which no row of it can pass (Cauchy–Schwarz), and one that is read is left off after the first numbers of
    /// its rows where the rest cannot bring a row above the threshold any more ([`Need`]). A training puts those
    /// dimensions first that say most, long rows first, and rows that point one way into one block, so that little
    /// is read; rows moved by merges only make the bounds of their block less tight. Returns how much was read.
    pub(crate) fn rank(
        &mut self,
        model: &Model,
        priors: &Priors,
        hint: &[Row],
        barred: &mut RowSet,
        top: &mut TopK,
    ) -> Read {
        let mut read = Read::default();
        if top.count() == 0 {
            return read;
        }
        let mut boosts = std::mem::take(&mut self.boosts);
        boosts.retain(|(row, _)| !model.withdrawn[*row as usize] && barred.insert(*row));
        for row in hint {
            if barred.insert(*row) && !model.is_withdrawn(*row) {
                self.offer(model, priors, *row, 0.0, top);
            }
        }
        let at_most = |(row, boost): &(Row, f32)| {
            let at = *row as usize;
            self.tails[0] * model.bounds[at / BLOCK].tails[0] + priors.values[at] + boost
        };
        if boosts.len() > top.count() {
            boosts.select_nth_unstable_by(top.count(), |a, b| at_most(b).total_cmp(&at_most(a)));
        }
        for (row, boost) in &boosts {
            self.offer(model, priors, *row, *boost, top);
        }
        self.boosts = boosts;
        kernel::run(Scan { query: self, model, priors, barred, top, read: &mut read });
        read
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
                self.offer(model, priors, row, boost, top);
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
pub(crate) fn dot_rows(user: &[Pair], factors: &Factors) -> Vec<i32> {
    struct All<'a> {
        user: &'a [Pair],
        factors: &'a Factors,
        found: &'a mut Vec<i32>,
    }
    impl Pass for All<'_> {
        #[inline(always)]
        fn run(self, dots: impl Fn(&[Pair], &[Step], &[Step], i32, &mut Dots) -> bool) {
            for block in self.factors.blocks() {
                let mut out = [0; BLOCK];
                dots(self.user, block, block, i32::MIN, &mut out);
                self.found.extend(out);
            }
        }
    }
    let mut found = Vec::with_capacity(factors.len().next_multiple_of(BLOCK));
    kernel::run(All { user, factors, found: &mut found });
    found.truncate(factors.len());
    found
}

/// The pass of [`Query::rank`] over the blocks.
struct Scan<'a> {
    query: &'a Query,
    model: &'a Model,
    priors: &'a Priors,
    barred: &'a RowSet,
    top: &'a mut TopK,
    read: &'a mut Read,
}

/// How much of the factors a list was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Blocks of 32 rows that were read, if only in part.
    pub blocks: u64,
    /// Pairs of dimensions of a block that were read; each is 64 bytes.
    pub steps: u64,
}

/// Blocks between the one that is read and the one that is brought near (choice: at 64 factors 8 KiB, which the
/// memory gives while four blocks are worked on).
const AHEAD: usize = 4;

impl Scan<'_> {
    /// Returns whether a row of the block may be at least as good as the threshold.
    #[inline(always)]
    fn may_win(&self, block: usize, threshold: f32) -> bool {
        let prior = self.priors.largest[block];
        self.query.tails[0] * self.model.bounds[block].tails[0] + prior + MARGIN * prior.abs() >= threshold
    }

    /// Returns the first block from `from` on that may hold a winner.
    #[inline(always)]
    fn next(&self, from: usize, threshold: f32) -> Option<usize> {
        (from..self.model.bounds.len()).find(|block| self.may_win(*block, threshold))
    }
}

impl Pass for Scan<'_> {
    #[inline(always)]
    fn run(mut self, dots: impl Fn(&[Pair], &[Step], &[Step], i32, &mut Dots) -> bool) {
        let mut out = [0; BLOCK];
        let mut threshold = self.top.threshold();
        // A ring of the blocks to be read next; the last one in it is brought near.
        let mut upcoming = [None; AHEAD];
        let mut last = 0;
        for slot in &mut upcoming {
            *slot = self.next(last, threshold);
            last = slot.map_or(last, |block| block + 1);
        }
        for at in 0.. {
            let Some(block) = upcoming[at % AHEAD] else { break };
            upcoming[at % AHEAD] = self.next(last, threshold);
            last = upcoming[at % AHEAD].map_or(last, |block| block + 1);
            // The threshold may have risen since the block was found.
            if self.may_win(block, threshold) {
                self.read(block, last - 1, &mut threshold, &mut out, &dots);
            }
        }
    }
}

impl Scan<'_> {
    /// Reads a block, as far as a row of it may still win, and offers its rows; `later` is one to be read soon.
    #[inline(always)]
    fn read(
        &mut self,
        block: usize,
        later: usize,
        threshold: &mut f32,
        out: &mut Dots,
        dots: &impl Fn(&[Pair], &[Step], &[Step], i32, &mut Dots) -> bool,
    ) {
        let Self { query, model, priors, barred, top, read } = self;
        let (user, rows, later) = (&query.user[..], model.factors.block(block), model.factors.block(later));
        let bounds = &model.bounds[block];
        let need = Need::new(*threshold, priors.largest[block], 0.0, query.dot_scale * bounds.scale);
        out.fill(0);
        read.blocks += 1;
        let mut done = 0;
        for (at, stop) in STOPS.iter().enumerate().skip(1).take_while(|(_, stop)| **stop < user.len()) {
            let limit = need.limit(query.tails[at] * bounds.tails[at]);
            if limit == i32::MIN {
                continue;
            }
            read.steps += (stop - done) as u64;
            if !dots(&user[done..*stop], &rows[done..*stop], &later[done..*stop], limit, out) {
                return;
            }
            done = *stop;
        }
        read.steps += (user.len() - done) as u64;
        let limit = need.limit(0.0);
        if !dots(&user[done..], &rows[done..], &later[done..], limit, out) {
            return;
        }
        let first = block * BLOCK;
        for (row, dot) in (first..model.len()).zip(*out) {
            if dot < limit {
                continue;
            }
            let score = dot as f32 * (query.dot_scale * model.scales[row]) + priors.values[row];
            if score >= *threshold && !barred.contains(row as Row) && !model.withdrawn[row] {
                top.offer(row as Row, score);
                *threshold = top.threshold();
            }
        }
    }
}

/// What the dot product of a row must reach for a score of at least the threshold. With its prior, its boost as a
/// candidate, the `scale` which turns a dot product into u·q, and with what the rest of the row can add
/// (Cauchy–Schwarz):
///
/// ```text
/// dot · scale + |tail of u| · |tail of q| + prior + boost ≥ threshold
/// ⇒  dot ≥ (threshold − prior − boost − |tail of u| · |tail of q|) / scale, where that is above 0
/// ```
///
/// For all rows of a block it is enough to put the largest of each in.
///
/// lowered by more than all rounding.
struct Need {
    least: f32,
    one_over_scale: f32,
}

impl Need {
    #[inline(always)]
    fn new(threshold: f32, prior: f32, boost: f32, scale: f32) -> Self {
        let margin = MARGIN * (threshold.abs() + prior.abs() + boost.abs());
        Self { least: threshold - prior - boost - margin, one_over_scale: (1.0 - MARGIN) / scale }
    }

    /// Returns the limit where what is left of the rows adds at most `rest`.
    #[inline(always)]
    fn limit(&self, rest: f32) -> i32 {
        let least = self.least - rest * (1.0 + MARGIN);
        // A conversion to an integer rounds towards 0, which is downwards, and saturates.
        if least > 0.0 { (least * self.one_over_scale) as i32 } else { i32::MIN }
    }
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
