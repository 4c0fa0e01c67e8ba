//! Diversity: the best list whose items are not all alike, by maximal marginal relevance (Carbonell and
//! Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
//! Summaries", SIGIR 1998).
//!
//! ```text
//! next = argmax over the pool of  (1 − δ) r_i − δ max over the chosen of max(cos(q_i, q_j), 0)
//! r_i  = (s_i − s_min) / (s_max − s_min)
//! ```
//!
//! The pool holds five items for each that is asked for, 100 at least. Ties go to the better score.

use crate::limits::COUNT_MAX;
use crate::model::Model;
use crate::rank::top_k::Scored;
use alloc::vec;
use alloc::vec::Vec;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;

/// Items of the pool for each item of the list.
const POOL: u32 = 5;

/// Least items of the pool.
const POOL_MIN: u32 = 100;

/// Returns how many items a list of `count` is chosen from.
pub(crate) fn pool(count: u32) -> u32 {
    count.saturating_mul(POOL).clamp(POOL_MIN, COUNT_MAX)
}

/// Chooses `count` items of a pool, best score first, into `list`. `diversity` is δ, 0 to 1.
pub(crate) fn choose(model: &Model, pool: &[Scored], count: usize, diversity: f32, list: &mut Vec<Scored>) {
    let dim = model.dim();
    let mut rows = Vec::with_capacity(pool.len() * dim);
    rows.extend(pool.iter().flat_map(|item| model.sections.factors().row(item.row)).map(i32::from));
    let of = |index: usize| &rows[index * dim..(index + 1) * dim];
    let dot = |one: &[i32], other: &[i32]| one.iter().zip(other).map(|(x, y)| x * y).sum::<i32>() as f32;
    let norms: Vec<f32> = (0..pool.len()).map(|index| f32::sqrt(dot(of(index), of(index)))).collect();
    let (best, worst) = match pool {
        [best, .., worst] => (best.score, worst.score),
        _ => (0.0, 0.0),
    };
    let relevance = |index: usize| match best - worst {
        spread if spread > 0.0 => (pool[index].score - worst) / spread,
        _ => 0.0,
    };
    // The greatest likeness to a chosen item, and no number once an item is chosen itself.
    let mut likeness = vec![0.0f32; pool.len()];
    while list.len() < count.min(pool.len()) {
        let mut next = None;
        for (index, likeness) in likeness.iter().enumerate() {
            let worth = (1.0 - diversity) * relevance(index) - diversity * likeness;
            if !worth.is_nan() && next.is_none_or(|(_, most)| worth > most) {
                next = Some((index, worth));
            }
        }
        let Some((chosen, _)) = next else { break };
        list.push(pool[chosen]);
        for (index, likeness) in likeness.iter_mut().enumerate() {
            let length = norms[index] * norms[chosen];
            if length > 0.0 && !likeness.is_nan() {
                *likeness = likeness.max(dot(of(index), of(chosen)) / length);
            }
        }
        likeness[chosen] = f32::NAN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    fn pool_of(model: &Model) -> Vec<Scored> {
        model.popular(60)
    }

    fn cosine(model: &Model, one: &Scored, other: &Scored) -> f64 {
        let row = |item: &Scored| model.sections.factors().row(item.row).map(f64::from).collect::<Vec<_>>();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let (x, y) = (row(one), row(other));
        dot(&x, &y) / f64::sqrt(dot(&x, &x) * dot(&y, &y)).max(1.0)
    }

    /// The greatest cosine of two items of a list, on average over the items.
    fn sameness(model: &Model, list: &[Scored]) -> f64 {
        let largest = |(index, item): (usize, &Scored)| {
            let others = list.iter().enumerate().filter(|(other, _)| *other != index);
            others.map(|(_, other)| cosine(model, item, other)).fold(0.0, f64::max)
        };
        list.iter().enumerate().map(largest).sum::<f64>() / list.len() as f64
    }

    #[test]
    fn without_diversity_the_list_is_the_head_of_the_pool_and_with_it_items_differ_more() {
        let model = golden::model();
        let pool = pool_of(&model);
        let chosen = |diversity: f32| {
            let mut list = Vec::new();
            choose(&model, &pool, 12, diversity, &mut list);
            list
        };
        assert_eq!(chosen(0.0), pool[..12]);
        let [none, some, all] = [0.0, 0.5, 1.0].map(|diversity| sameness(&model, &chosen(diversity)));
        assert!(none > some && some > all, "{none} {some} {all}");
        for diversity in [0.3, 1.0] {
            let list = chosen(diversity);
            assert_eq!(list[0], pool[0], "the best item comes first");
            let mut rows: Vec<_> = list.iter().map(|item| item.row).collect();
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), 12, "each item once");
        }
    }

    #[test]
    fn each_item_is_the_one_that_the_equation_chooses() {
        let model = golden::model();
        let pool = pool_of(&model);
        let (best, worst) = (pool[0].score, pool[pool.len() - 1].score);
        let diversity = 0.4;
        let mut list = Vec::new();
        choose(&model, &pool, 10, diversity, &mut list);
        for chosen in 0..list.len() {
            let worth = |item: &Scored| {
                let likeness =
                    list[..chosen].iter().map(|other| cosine(&model, item, other)).fold(0.0, f64::max);
                (1.0 - diversity) as f64 * f64::from((item.score - worst) / (best - worst))
                    - f64::from(diversity) * likeness
            };
            let open = pool.iter().filter(|item| !list[..chosen].contains(item));
            let most = open.map(worth).fold(f64::NEG_INFINITY, f64::max);
            assert!((worth(&list[chosen]) - most).abs() < 1e-5, "place {chosen}");
        }
    }

    #[test]
    fn small_pools_and_equal_scores_are_chosen_from_all_the_same() {
        let model = golden::model();
        let mut list = Vec::new();
        choose(&model, &[], 5, 0.5, &mut list);
        assert!(list.is_empty());
        let same: Vec<Scored> = (0..4).map(|row| Scored { row, score: 1.0 }).collect();
        choose(&model, &same, 9, 0.5, &mut list);
        assert_eq!(list.len(), 4);
    }
}
