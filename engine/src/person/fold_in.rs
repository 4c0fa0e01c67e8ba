//! The fold-in: a person's factor from the items that the person touched.
//!
//! ```text
//! p = (α0 G + A₁ + κ A₂ + λ (h + α0 n) I)⁻¹ (b₁ + κ b₂)
//! ```
//!
//! with G = QᵀQ (d × d), n the number of rows, and κ the weight of the recent past (0 for the plain
//! factor, which goes into deltas); iALS with frequency-scaled ridge: Rendle, Krichene, Zhang, Koren
//! (2021), arXiv 2110.14037.

use crate::algebra::{Solver, add_scaled};
use crate::model::Model;
use crate::person::equations::{Equations, Solved};

impl Equations {
    /// Returns the factor with recency (κ > 0) or without; `None` where there is nothing to solve.
    pub(super) fn factor(&mut self, model: &Model, recency: bool, solver: &mut Solver) -> Option<&[f32]> {
        let hyper = &model.hyper;
        // Where the recent past has no weight of its own, both factors are one.
        let recency = recency && hyper.recent_weight != 0.0;
        let solved = &mut self.solved[usize::from(recency)];
        if matches!(solved, Solved::No) {
            let recent_weight = if recency { hyper.recent_weight } else { 0.0 };
            self.row.clear();
            self.row.extend_from_slice(&self.whole.b);
            let ridge = hyper.lambda * (self.whole.h + hyper.alpha * model.len() as f32);
            let parts: &[(f32, &[f32])] =
                &[(hyper.alpha, &model.gram), (1.0, &self.whole.a), (recent_weight, &self.recent.a)];
            let used = if recent_weight == 0.0 { 2 } else { 3 };
            if used == 3 {
                add_scaled(&mut self.row, &self.recent.b, recent_weight);
            }
            let p = (self.whole.h != 0.0).then(|| solver.solve(&parts[..used], ridge, &self.row)).flatten();
            *solved = Solved::Yes(p.map(<[f32]>::to_vec));
        }
        match solved {
            Solved::Yes(p) => p.as_deref(),
            Solved::No => None,
        }
    }
}
