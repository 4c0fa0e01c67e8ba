//! The fold-in: a person's factor from the items that the person touched.
//!
//! ```text
//! p = (α0 G + A₁ + κ A₂ + λ (h + α0 n) I)⁻¹ (b₁ + κ b₂)
//! ```
//!
//! with G = QᵀQ (d × d), n the number of rows, and κ the weight of the recent past (0 for the plain
//! factor, which goes into deltas); iALS with frequency-scaled ridge: Rendle, Krichene, Zhang, Koren
//! (2021), arXiv 2110.14037.

use crate::model::Model;
use crate::person::equations::{Equations, Solved};
use nearfield_kernels::algebra::{Solver, add_scaled};

impl Equations {
    /// Returns the factor with recency (κ > 0) or without; `None` where there is nothing to solve.
    pub(super) fn factor(&mut self, model: &Model, recency: bool, solver: &mut Solver) -> Option<&[f32]> {
        // Where the recent past has no weight of its own, both factors are one.
        let recency = recency && model.hyper.recent_weight != 0.0;
        if matches!(self.solved[usize::from(recency)], Solved::No) {
            self.row.clear();
            self.row.extend_from_slice(&self.whole.b);
            if recency {
                add_scaled(&mut self.row, &self.recent.b, model.hyper.recent_weight);
            }
            let p = self.factorise(model, recency, solver).and_then(|()| solver.solve_again(&self.row));
            self.solved[usize::from(recency)] = Solved::Yes(p.map(<[f32]>::to_vec));
        }
        match &self.solved[usize::from(recency)] {
            Solved::Yes(p) => p.as_deref(),
            Solved::No => None,
        }
    }

    /// Factorises the matrix of the fold-in; `None` where there is nothing to solve.
    pub(super) fn factorise(&self, model: &Model, recency: bool, solver: &mut Solver) -> Option<()> {
        if self.whole.h == 0.0 {
            return None;
        }
        let hyper = &model.hyper;
        let ridge = hyper.lambda * (self.whole.h + hyper.alpha * model.len() as f32);
        let parts: [(f32, &[f32]); 3] =
            [(hyper.alpha, model.gram()), (1.0, &self.whole.a), (hyper.recent_weight, &self.recent.a)];
        let used = if recency && hyper.recent_weight != 0.0 { 3 } else { 2 };
        solver.factorise(&parts[..used], ridge, model.dim())
    }
}
