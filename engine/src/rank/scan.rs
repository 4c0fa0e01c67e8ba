//! The pass over the catalogue: a query's best rows, without reading the blocks that cannot win.

use crate::ids::Row;
use crate::model::Model;
use crate::model::bounds::{MARGIN, PartBounds, STOPS};
use crate::model::priors::Priors;
use crate::rank::query::Query;
use crate::rank::row_set::RowSet;
use crate::rank::top_k::TopK;
use crate::rank::visits::{Visit, Visits};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use nearfield_kernels::BLOCK;
use nearfield_kernels::factors::{Factors, Step};
use nearfield_kernels::kernel::{self, ALL_ROWS, BLOCKS_AT_ONCE, Dots, LeftOff, Limits, Pair, Pass, dot};

impl Query {
    /// Returns the score of a row from its dot product; `boost` is what its features as a candidate give.
    #[inline(always)]
    fn score(&self, scale: f32, dot: i32, prior: f32, boost: Option<f32>) -> f32 {
        let score = dot as f32 * (self.dot_scale * scale) + prior;
        boost.map_or(score, |boost| score + boost)
    }

    /// Calls `visit` with every row and its score, in rising order of rows.
    pub(crate) fn for_each(&self, model: &Model, priors: &[f32], mut visit: impl FnMut(Row, f32)) {
        let mut boosts = self.boosts.iter().peekable();
        let scales = model.sections.scales();
        for (row, dot) in dot_rows(&self.user, model.sections.factors()).into_iter().enumerate() {
            let boost = boosts.next_if(|(candidate, _)| *candidate as usize == row);
            visit(row as Row, self.score(scales[row], dot, priors[row], boost.map(|(_, boost)| *boost)));
        }
    }

    /// Offers a row to `top`.
    fn offer(&self, model: &Model, priors: &Priors, row: Row, boost: Option<f32>, top: &mut TopK) {
        let at = row as usize;
        let dot = dot(self.user.iter().zip(model.sections.factors().pairs_of(row)));
        top.offer(row, self.score(model.sections.scales()[at], dot, priors.values[at], boost));
    }

    /// Offers the best rows of the whole catalogue to `top`; those of `barred` are left out.
    ///
    /// The rows of `hint` (the list before) are scored first, then the blocks of candidates ([`Visits`]): they set a
    /// threshold, and cannot change the result. Then a block of rows is skipped where
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
        &self,
        model: &Model,
        priors: &Priors,
        hint: &[Row],
        visits: &Visits,
        barred: &mut RowSet,
        top: &mut TopK,
    ) -> Read {
        self.rank_only(model, priors, hint, barred, top);
        let mut read = Read::default();
        let rows = Rows::of(model);
        kernel::run(Scan { query: self, model, rows, priors, visits, barred, top, read: &mut read });
        read
    }

    /// Offers the given rows to `top`, each once; those of `barred` are left out.
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
                let boost = candidate.ok().map(|at| self.boosts[at].1);
                self.offer(model, priors, row, boost, top);
            }
        }
    }
}

/// Appends z(p·q), the dot product over its spread, of every row to `out`: what a factor alone says.
pub fn factor_scores(model: &Model, p: &[f32], out: &mut Vec<f32>) {
    let mut query = Query::default();
    query.clear(model.dim());
    query.add_vector(model, p, 1.0);
    query.quantise();
    let priors = vec![0.0; model.len()];
    query.for_each(model, &priors, |_, score| out.push(score));
}

/// Returns the integer dot product of `user` with each row of `factors`.
pub(crate) fn dot_rows(user: &[Pair], factors: Factors<'_>) -> Vec<i32> {
    struct All<'a> {
        user: &'a [Pair],
        factors: Factors<'a>,
        found: &'a mut Vec<i32>,
    }
    impl Pass for All<'_> {
        #[inline(always)]
        fn run(self, dots: impl Fn(&[Pair], &[Step], &[Step], &Limits, &mut Dots) -> Result<(), LeftOff>) {
            for block in self.factors.blocks() {
                let mut out = [0; BLOCK];
                dots(self.user, block, block, &ALL_ROWS, &mut out).expect("no row is below the least number");
                self.found.extend(out);
            }
        }
    }
    let mut found = Vec::with_capacity(factors.count().next_multiple_of(BLOCK));
    kernel::run(All { user, factors, found: &mut found });
    found.truncate(factors.count());
    found
}

/// What of the rows the pass reads, found once.
#[derive(Clone, Copy)]
struct Rows<'a> {
    factors: Factors<'a>,
    scales: &'a [f32],
    withdrawn: &'a [u8],
}

impl<'a> Rows<'a> {
    fn of(model: &'a Model) -> Self {
        let sections = &model.sections;
        Self { factors: sections.factors(), scales: sections.scales(), withdrawn: sections.withdrawn() }
    }
}

/// The pass of [`Query::rank`] over the blocks.
struct Scan<'a> {
    query: &'a Query,
    model: &'a Model,
    rows: Rows<'a>,
    priors: &'a Priors,
    visits: &'a Visits,
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

/// Blocks that are looked through for those that may hold a winner before these are read (choice).
const STRETCH: usize = 512;

impl Pass for Scan<'_> {
    #[inline(always)]
    fn run(mut self, dots: impl Fn(&[Pair], &[Step], &[Step], &Limits, &mut Dots) -> Result<(), LeftOff>) {
        let mut out = [0; BLOCK];
        let mut threshold = self.top.threshold();
        let planned = &self.visits.planned;
        for (at, visit) in planned.iter().enumerate() {
            let later = planned[(at + AHEAD).min(planned.len() - 1)].block;
            if visit.at_most >= threshold {
                self.read(visit, later, &mut threshold, &mut out, &dots);
            }
        }
        let mut found = [0; STRETCH];
        let blocks = self.model.bounds.norms.len();
        for first in (0..blocks).step_by(STRETCH) {
            let found = self.may_win(first..blocks.min(first + STRETCH), threshold, &mut found);
            for (at, block) in found.iter().enumerate() {
                let later = found[(at + AHEAD).min(found.len() - 1)];
                let visit = Visit { block: *block, candidates: 0..0, boost: 0.0, at_most: f32::INFINITY };
                self.read(&visit, later, &mut threshold, &mut out, &dots);
            }
        }
    }
}

impl Scan<'_> {
    /// Returns the blocks, not visited yet, of which a row may be at least as good as the threshold.
    #[inline(always)]
    fn may_win<'a>(
        &self,
        blocks: Range<usize>,
        threshold: f32,
        found: &'a mut [usize; STRETCH],
    ) -> &'a [usize] {
        let norms = &self.model.bounds.norms[blocks.clone()];
        let priors = &self.priors.largest[blocks.clone()];
        let mut count = 0;
        for ((first, norms), priors) in blocks
            .step_by(BLOCKS_AT_ONCE)
            .zip(norms.chunks(BLOCKS_AT_ONCE))
            .zip(priors.chunks(BLOCKS_AT_ONCE))
        {
            let mut may_win = [false; BLOCKS_AT_ONCE];
            kernel::may_win(self.query.norm, norms, priors, threshold, &mut may_win);
            if may_win == [false; BLOCKS_AT_ONCE] {
                continue;
            }
            for (block, may_win) in (first..).zip(may_win) {
                // Written always and kept where it may win: there is nothing to be guessed wrong.
                found[count % STRETCH] = block;
                count += usize::from(may_win && !self.visits.blocks.contains(block as Row));
            }
        }
        &found[..count]
    }

    /// Reads a block, as far as a row of it may still win, and offers its rows; `later` is one to be read soon.
    #[inline(always)]
    fn read(
        &mut self,
        visit: &Visit,
        later: usize,
        threshold: &mut f32,
        out: &mut Dots,
        dots: &impl Fn(&[Pair], &[Step], &[Step], &Limits, &mut Dots) -> Result<(), LeftOff>,
    ) {
        let Self { query, model, rows, priors, barred, top, read, .. } = self;
        let Visit { block, ref candidates, boost, .. } = *visit;
        let (user, steps, later) = (&query.user[..], rows.factors.block(block), rows.factors.block(later));
        let bounds = &model.bounds.parts[block];
        let one_over_scale = query.one_over_dot_scale * bounds.one_over_scale;
        let need = Need::new(*threshold, priors.largest[block], boost, one_over_scale);
        let limits = need.limits(query, bounds);
        read.blocks += 1;
        if let Err(LeftOff { after }) = dots(user, steps, later, &limits, out) {
            read.steps += after as u64;
            return;
        }
        read.steps += user.len() as u64;
        let first = block * BLOCK;
        let candidates = &query.boosts[candidates.clone()];
        let mut offer = |row: usize, boost: Option<f32>| {
            let score = query.score(rows.scales[row], out[row - first], priors.values[row], boost);
            if score >= *threshold && !barred.contains(row as Row) && rows.withdrawn[row] == 0 {
                top.offer(row as Row, score);
                *threshold = top.threshold();
            }
        };
        let may_win = |(row, _): &&(Row, f32)| out[*row as usize - first] >= limits[STOPS.len()];
        candidates.iter().filter(may_win).for_each(|(row, boost)| offer(*row as usize, Some(*boost)));
        // Without a boost a row must reach more.
        let limit = need.without_boost(boost).limit(0.0);
        let mut reaching = kernel::reaching(out, limit);
        while reaching != 0 {
            let row = first + reaching.trailing_zeros() as usize;
            reaching &= reaching - 1;
            if row < rows.scales.len() && candidates.iter().all(|(candidate, _)| *candidate as usize != row) {
                offer(row, None);
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
/// lowered by more than all rounding. For all rows of a block it is enough to put the largest of each in.
struct Need {
    least: f32,
    one_over_scale: f32,
}

impl Need {
    #[inline(always)]
    fn new(threshold: f32, prior: f32, boost: f32, one_over_scale: f32) -> Self {
        let margin = MARGIN * (threshold.abs() + prior.abs() + boost.abs());
        Self { least: threshold - prior - boost - margin, one_over_scale: (1.0 - MARGIN) * one_over_scale }
    }

    /// Returns what a row must reach that has not the boost.
    #[inline(always)]
    fn without_boost(&self, boost: f32) -> Self {
        Self { least: self.least + boost - MARGIN * boost.abs(), ..*self }
    }

    /// Returns the limits after each stop and at the end.
    #[inline(always)]
    fn limits(&self, query: &Query, bounds: &PartBounds) -> Limits {
        let rest = |at: usize| query.tails.get(at).zip(bounds.tails.get(at)).map_or(0.0, |(u, q)| u * q);
        core::array::from_fn(|at| self.limit(rest(at)))
    }

    /// Returns the limit where what is left of the rows adds at most `rest`.
    #[inline(always)]
    fn limit(&self, rest: f32) -> i32 {
        let least = self.least - rest * (1.0 + MARGIN);
        // A conversion to an integer rounds towards 0, which is downwards, and saturates.
        if least > 0.0 { (least * self.one_over_scale) as i32 } else { i32::MIN }
    }
}
