//! Which blocks are read first: those that hold candidates.
//!
//! Reading them first raises the threshold, and cannot change the result. Of such a block all rows are scored, since
//! they share its memory; so no block is read twice.

use crate::ids::Row;
use crate::model::Model;
use crate::model::bounds::MARGIN;
use crate::model::priors::Priors;
use crate::rank::query::Query;
use crate::rank::row_set::RowSet;
use crate::rank::top_k::TopK;
use alloc::vec::Vec;
use core::ops::Range;
use nearfield_kernels::BLOCK;

/// The blocks that are read first, in that order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visits {
    pub(crate) planned: Vec<Visit>,
    /// The same blocks.
    pub(crate) blocks: RowSet,
    /// The largest bounds.
    highest: TopK,
}

/// A block that is read first.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) block: usize,
    /// Where its candidates stand among the query's.
    pub(crate) candidates: Range<usize>,
    /// The largest boost of a row of it, at least 0: a row that is no candidate has none.
    pub(crate) boost: f32,
    /// The most that a row of it can score.
    pub(crate) at_most: f32,
}

impl Visits {
    /// Plans the visits: the blocks with the largest bounds, as many as the list has items, then the others in no order.
    pub(crate) fn plan(&mut self, query: &Query, model: &Model, priors: &Priors, count: usize) {
        self.planned.clear();
        for (at, (row, boost)) in query.boosts.iter().enumerate() {
            let block = *row as usize / BLOCK;
            match self.planned.last_mut().filter(|visit| visit.block == block) {
                Some(visit) => {
                    visit.candidates.end = at + 1;
                    visit.boost = visit.boost.max(*boost);
                }
                None => self.planned.push(Visit {
                    block,
                    candidates: at..at + 1,
                    boost: boost.max(0.0),
                    at_most: 0.0,
                }),
            }
        }
        for visit in &mut self.planned {
            let (prior, boost) = (priors.largest[visit.block], visit.boost);
            visit.at_most = query.norm * model.bounds.norms[visit.block] + prior + boost + MARGIN * boost;
        }
        self.blocks.reset(model.bounds.norms.len());
        for visit in &self.planned {
            self.blocks.insert(visit.block as Row);
        }
        self.highest.reset(count);
        for (at, visit) in self.planned.iter().enumerate() {
            self.highest.offer(at as Row, visit.at_most);
        }
        let (threshold, mut front) = (self.highest.threshold(), 0);
        for at in 0..self.planned.len() {
            if self.planned[at].at_most >= threshold {
                self.planned.swap(front, at);
                front += 1;
            }
        }
    }
}
