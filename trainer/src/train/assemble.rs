//! From trained factors and counts to the private statistics and the first version.

use super::counts::count;
use super::ials;
use super::order::rows_in_order;
use crate::event_log::EventLog;
use nearfield_engine::ids::short_hash;
use nearfield_engine::merge::{Pair, TrainedRow, TrainedSums};
use nearfield_engine::model::transitions::neighbours_for_budget;
use nearfield_engine::{Bounds, Hyperparameters, Lineage, Model, Row, Statistics};

/// Turns trained factors into statistics and the first version.
pub(super) fn assemble(
    log: &EventLog,
    until: usize,
    data: &ials::Data,
    factors: &ials::Factors,
    hyper: &Hyperparameters,
    lineage: Option<Lineage>,
) -> (Model, Statistics) {
    let factors = &factors.in_eigenbasis();
    let dim = factors.dim;
    let mut hyper = hyper.clone();
    let norm = |p: &[f32]| p.iter().map(|x| x * x).sum::<f32>().sqrt();
    let largest = factors.users.chunks_exact(dim).map(norm).fold(0.0, f32::max);
    hyper.bounds = Bounds { factor_norm_max: (2.0 * largest).clamp(0.1, 64.0), ..hyper.bounds };

    let id_bytes: usize = data.items.iter().map(|item| log.items[*item as usize].len() + 1).sum();
    let neighbours_max = neighbours_for_budget(dim, id_bytes / data.items.len().max(1));
    let lineage = lineage.unwrap_or_else(|| name_of(log, until));
    let mut statistics = Statistics::new(lineage, dim, neighbours_max, hyper.clone());
    let order = rows_in_order(factors);
    for item in order.iter().map(|index| data.items[*index]) {
        // Ids were checked when the file was read; equal keys of different ids are 2⁻⁶⁴ apart.
        statistics.register(&log.items[item as usize]).expect("ids of an event log are sound");
    }
    let counts = count(log, until, data, &hyper);
    let equations = factors.item_equations(data);
    let merged = counts.merged;
    let mut row_of = vec![0; order.len()];
    for (row, index) in order.iter().enumerate() {
        row_of[*index] = row as Row;
    }
    let mut rows: Vec<(Row, TrainedRow)> = equations
        .into_iter()
        .zip(counts.popularity)
        .zip(counts.neighbours)
        .zip(&row_of)
        .map(|(((equations, popularity), neighbours), row)| {
            let mut neighbours: Vec<Pair> = neighbours
                .into_iter()
                .map(|(index, sums)| Pair { row: row_of[index as usize], sums: sums.map(|sum| sum as f32) })
                .collect();
            neighbours.sort_unstable_by_key(|pair| pair.row);
            let mut totals = [0.0; 3];
            for pair in &neighbours {
                totals.iter_mut().zip(pair.sums).for_each(|(total, sum)| *total += sum);
            }
            (*row, TrainedRow { equations, popularity, neighbours, totals })
        })
        .collect();
    rows.sort_unstable_by_key(|(row, _)| *row);
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    let (c, m) = factors.user_gram();
    statistics.set_trained(TrainedSums { rows, c, m, merged });
    let model = statistics.publish_trained();
    (model, statistics)
}

/// Names a lineage by the events that it was trained on.
fn name_of(log: &EventLog, until: usize) -> Lineage {
    let numbers = log.events[..until]
        .iter()
        .flat_map(|event| [u64::from(event.user), u64::from(event.item), event.time_ms])
        .flat_map(u64::to_le_bytes);
    Lineage(short_hash(&numbers.collect::<Vec<u8>>()))
}
