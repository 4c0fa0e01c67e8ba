//! How far a publish would move the factors, told before anything is changed: a service can then keep back a
//! window that would turn the model over, whether an attack, a broken client or a broken import made it.

use crate::ids::Row;
use crate::merge::publish::Steps;
use crate::merge::statistics::{RowStatistics, Statistics};
use crate::merge::waiting::{Threshold, Waiting};
use crate::merge::window::{Contributions, Window};
use crate::model::popularity::decay;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Most rows that are looked at (choice: a share of a tenth is then known to ± .02, and a publish of some
/// thousand rows takes a tenth longer).
const ROWS_JUDGED_MAX: usize = 256;

/// How far a publish would move the factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Rows looked at: those that would be solved again, evenly drawn where they are many.
    pub rows: usize,
    /// Rows among them whose step is longer than `Bounds::step_max` lets it be.
    pub bounded: usize,
}

impl Preview {
    /// Returns the share of rows whose step would be bounded, 0 to 1.
    pub fn share(&self) -> f64 {
        self.bounded as f64 / self.rows.max(1) as f64
    }
}

impl Statistics {
    /// Returns how far [`Statistics::publish`] of this window would move the factors. It is what publishing
    /// does, but that statistics are not aged by the window's own weight.
    pub fn preview(&self, window: &Window, threshold: &Threshold) -> Preview {
        let hyper = &self.hyper;
        let behind = |row: &Row| self.waiting.get(row).map_or(0, Waiting::devices);
        let may_pass = |(row, devices): (Row, usize)| {
            (behind(&row) + devices >= threshold.devices as usize).then_some(row)
        };
        let passing: Vec<Row> = window.devices_by_row().into_iter().filter_map(may_pass).collect();
        let every = passing.len().div_ceil(ROWS_JUDGED_MAX).max(1);
        let judged: BTreeSet<Row> = passing.into_iter().step_by(every).collect();

        let (c, m) = self.people_with(window, hyper);
        let mut steps = Steps::new(self, &c, m, hyper);
        let mut preview = Preview::default();
        for Contributions { row, by_device } in window.by_row(hyper, |row| judged.contains(&row)) {
            let mut waiting = self.waiting.get(&row).cloned().unwrap_or_default();
            if !waiting.add(by_device, threshold) {
                continue;
            }
            let held = &self.rows[row as usize];
            let mut folded =
                RowStatistics { a: held.a.clone(), b: held.b.clone(), n: held.n, ..RowStatistics::default() };
            let age = decay(self.merged - held.aged_at, f64::from(hyper.factor_half_life)) as f32;
            folded.fold_equations(&waiting.evidence, age, self.dim);
            let range = row as usize * self.dim..(row as usize + 1) * self.dim;
            if let Some(step) = steps.solve(&folded, &self.factors[range], self.scales[row as usize]) {
                preview.rows += 1;
                preview.bounded += usize::from(step.fraction < 1.0);
            }
        }
        preview
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::ids::{DeltaId, Lineage, ModelVersion};
    use crate::model::hyper::Hyperparameters;
    use crate::sync::delta::{Delta, Touch};

    const DIM: usize = 8;

    fn statistics(items: u32, step_max: f32) -> Statistics {
        let mut hyper = Hyperparameters::starting_point();
        hyper.bounds.step_max = step_max;
        let mut statistics = Statistics::new(Lineage(7), DIM, 4, hyper);
        (0..items).for_each(|item| _ = statistics.register(&format!("i{item}")).unwrap());
        statistics
    }

    /// A window in which each device touches four items; `turn` gives other tastes.
    fn window(items: u32, devices: u64, turn: u64) -> Window {
        let mut window = Window::new();
        for device in 0..devices {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(turn * 1000 + device).to_le_bytes());
            let row = |step: u64| ((device * 3 + step * 7) % u64::from(items)) as u32;
            let delta = Delta {
                id: DeltaId(id),
                lineage: Lineage(7),
                base_version: ModelVersion(1),
                factor_scale: 0.01,
                factor: (0..DIM as u64).map(|at| ((device * 31 + at * 17 * turn) % 101) as i8 - 50).collect(),
                items: (0..4).map(|step| Touch::new(row(step), Kind::Click as u8, step == 0)).collect(),
                share: 1024,
                metrics: Vec::new(),
            };
            window.admit(&delta, device, &[]);
        }
        window
    }

    fn rows(statistics: &Statistics) -> Vec<Vec<f32>> {
        let factors = statistics.factors.chunks_exact(DIM).zip(&statistics.scales);
        factors.map(|(row, scale)| row.iter().map(|factor| f32::from(*factor) * scale).collect()).collect()
    }

    fn length(row: impl Iterator<Item = f32>) -> f32 {
        row.map(|value| value * value).sum::<f32>().sqrt()
    }

    #[test]
    fn rows_that_publishing_would_stop_half_way_are_counted_and_nothing_changes() {
        let mut statistics = statistics(40, f32::INFINITY);
        statistics.publish(&mut window(40, 60, 1), Threshold::NONE);
        let before = rows(&statistics);
        let typical =
            (before.iter().map(|row| length(row.iter().copied()).powi(2)).sum::<f32>() / 40.0).sqrt();
        let next = window(40, 30, 2);

        let mut free = statistics.clone();
        free.publish(&mut next.clone(), Threshold::NONE);
        let moved = rows(&free).into_iter().zip(&before);
        let mut moved: Vec<f32> =
            moved.map(|(after, before)| length(after.iter().zip(before).map(|(a, b)| a - b))).collect();
        moved.sort_by(f32::total_cmp);
        // Between the tenth and the eleventh of those that move furthest.
        statistics.hyper.bounds.step_max = (moved[29] + moved[30]) / 2.0 / typical;
        let kept = statistics.clone();
        let preview = statistics.preview(&next, &Threshold::NONE);
        assert_eq!(preview, Preview { rows: 40, bounded: 10 }, "{moved:?}");
        assert_eq!(preview.share(), 0.25);
        assert!(statistics == kept, "nothing has changed");
    }

    #[test]
    fn rows_that_wait_for_devices_are_not_judged() {
        let mut statistics = statistics(40, 0.3);
        let threshold = Threshold::of_devices(6);
        let first = window(40, 30, 1);
        let devices = first.devices_by_row();
        let enough = devices.values().filter(|devices| **devices >= 6).count();
        assert_eq!(statistics.preview(&first, &threshold).rows, enough);
        assert_eq!(statistics.publish(&mut first.clone(), threshold).changed.len(), 40);
        assert_eq!(statistics.waiting.len(), devices.len() - enough);
    }

    #[test]
    fn of_many_rows_some_are_drawn() {
        let statistics = statistics(2_000, 0.3);
        let preview = statistics.preview(&window(2_000, 500, 1), &Threshold::NONE);
        assert!((ROWS_JUDGED_MAX / 2..=ROWS_JUDGED_MAX).contains(&preview.rows), "{preview:?}");
    }
}
