//! The order in which items become rows of the model: rows that point one way lie in one block, so that ranking can
//! leave off a block after the first numbers of its rows.

use super::dense::eigenvectors;
use super::ials::Factors;
use nalgebra::{DMatrix, DVectorView};
use nearfield_engine::limits::BLOCK_ROWS;

/// Rows of one band: bands lie in falling order of norm, and within a band rows are ordered by direction (choice:
/// see docs/model.md for what other lengths gave).
const BAND: usize = 4096;

/// Leading dimensions that the direction is taken from (choice: they hold most of what tells rows apart).
const LEADING: usize = 16;

/// Returns the items of a training, in the eigenbasis, in the order of their rows.
pub(super) fn rows_in_order(factors: &Factors) -> Vec<usize> {
    let dim = factors.dim;
    let norms: Vec<f32> = factors.items.chunks_exact(dim).map(|q| q.iter().map(|x| x * x).sum()).collect();
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|a, b| norms[*b].total_cmp(&norms[*a]));
    for band in order.chunks_mut(BAND) {
        bisect(band, factors);
    }
    order
}

/// Orders rows along the direction in which they differ most, and then each half, until a half is a block.
fn bisect(rows: &mut [usize], factors: &Factors) {
    if rows.len() <= BLOCK_ROWS {
        return;
    }
    let leading = LEADING.min(factors.dim);
    let row =
        |index: usize| DVectorView::from_slice(&factors.items[index * factors.dim..][..leading], leading);
    let mut mean = row(rows[0]) * 0.0;
    rows.iter().for_each(|index| mean += row(*index));
    mean /= rows.len() as f32;
    let mut spread = DMatrix::zeros(leading, leading);
    for index in rows.iter() {
        let from_mean = row(*index) - &mean;
        spread.ger(1.0, &from_mean, &from_mean, 1.0);
    }
    let along = eigenvectors(&spread).column(0).into_owned();
    let mut placed: Vec<(f32, usize)> = rows.iter().map(|index| (along.dot(&row(*index)), *index)).collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.iter_mut().zip(placed).for_each(|(row, (_, index))| *row = index);
    // Whole blocks in the first half: no block has rows of both.
    let half = (rows.len() / 2).next_multiple_of(BLOCK_ROWS).min(rows.len() - 1);
    let (first, second) = rows.split_at_mut(half);
    bisect(first, factors);
    bisect(second, factors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_point_one_way_share_blocks_and_long_rows_come_first() {
        // Four directions, mixed; every third row is ten times as long.
        let (dim, items) = (4, 8192);
        let length = |item: usize| if item.is_multiple_of(2) { 10.0 } else { 1.0 };
        let rows = (0..items).flat_map(|item| {
            (0..dim).map(move |at| if at == item / 2 % dim { length(item) * (2.0 + at as f32) } else { 0.0 })
        });
        let factors = Factors { dim, users: vec![], items: rows.collect() };
        let order = rows_in_order(&factors);
        let mut seen = order.clone();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..items), "every item has one row");
        assert!(order[..BAND].iter().all(|item| item.is_multiple_of(2)), "the first band has the long rows");
        for block in order.chunks(BLOCK_ROWS) {
            assert!(block.iter().all(|item| item / 2 % dim == block[0] / 2 % dim), "{block:?}");
        }
    }
}
