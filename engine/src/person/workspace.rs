//! Room for the work of one list, which a host shares between people.

use crate::rank::features::Candidates;
use crate::rank::query::Query;
use crate::rank::row_set::RowSet;
use crate::rank::scan::Read;
use crate::rank::top_k::TopK;
use crate::rank::visits::Visits;
use nearfield_kernels::algebra::Solver;

/// Room for the solves, candidates, query and top k of one call, used again and again so that a list
/// allocates nothing. It keeps nothing of a person between calls: one for each thread serves everyone.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    pub(super) solver: Solver,
    pub(super) query: Query,
    pub(super) candidates: Candidates,
    pub(super) visits: Visits,
    pub(super) barred: RowSet,
    pub(super) top: TopK,
    pub(super) read: Read,
}

impl Workspace {
    /// Returns a workspace that holds nothing yet and grows as it is used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how much of the factors the last list was made from.
    pub fn read(&self) -> Read {
        self.read
    }
}
