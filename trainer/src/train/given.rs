//! Item factors that were trained elsewhere, by Spark's ALS or implicit: they take the place of the sweeps.

use super::TrainError;
use super::ials::{Data, Factors};
use crate::event_log::EventLog;
use nearfield_engine::limits::DIM_MAX;
use std::collections::HashMap;

/// Item factors by the operator's ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    dim: usize,
    factors: HashMap<String, Vec<f32>>,
}

impl Given {
    /// Returns factors of items, all of one length.
    ///
    /// # Errors
    /// [`TrainError::Dim`] for a length out of 1 to 512, [`TrainError::Given`] names the item whose factor has another
    /// length than the first one's, or a number that is not finite, or that is there twice.
    pub fn new(items: impl IntoIterator<Item = (String, Vec<f32>)>) -> Result<Self, TrainError> {
        let mut given = Self::default();
        for (item, factor) in items {
            if given.factors.is_empty() {
                given.dim = factor.len();
                if !(1..=DIM_MAX).contains(&given.dim) {
                    return Err(TrainError::Dim { found: given.dim });
                }
            }
            let what = if factor.len() != given.dim {
                format!("has {} numbers, the first one has {}", factor.len(), given.dim)
            } else if factor.iter().any(|number| !number.is_finite()) {
                "has a number that is not finite".to_owned()
            } else {
                match given.factors.insert(item.clone(), factor) {
                    None => continue,
                    Some(_) => "is there twice".to_owned(),
                }
            };
            return Err(TrainError::Given { item, what });
        }
        Ok(given)
    }

    /// Returns d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns how many items there are.
    pub fn len(&self) -> usize {
        self.factors.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.factors.is_empty()
    }

    /// Returns whether an item's factor is there.
    pub(super) fn has(&self, item: &str) -> bool {
        self.factors.contains_key(item)
    }

    /// Returns the factors of a training's items as they were given; those that were not given are solved against the
    /// people, who are solved against those that were.
    pub(super) fn factors(&self, log: &EventLog, data: &Data, alpha: f32, lambda: f32) -> Factors {
        let mut factors = Factors::new(data, self.dim);
        let rows = data.items.iter().zip(factors.items.chunks_exact_mut(self.dim));
        let mut absent = Vec::new();
        for (row, (item, factor)) in rows.enumerate() {
            match self.factors.get(&log.items[*item as usize]) {
                Some(given) => factor.copy_from_slice(given),
                None => {
                    factor.fill(0.0);
                    absent.push(row);
                }
            }
        }
        factors.solve_users(data, alpha, lambda);
        factors.solve_items(data, &absent, alpha, lambda);
        factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_that_do_not_fit_are_refused_by_their_item() {
        let given = |items: &[(&str, &[f32])]| {
            Given::new(items.iter().map(|(item, factor)| ((*item).to_owned(), factor.to_vec())))
        };
        assert_eq!(
            given(&[("a", &[1.0, 2.0]), ("b", &[0.0, 1.0])]).map(|given| (given.dim(), given.len())),
            Ok((2, 2))
        );
        assert_eq!(given(&[("a", &[])]), Err(TrainError::Dim { found: 0 }));
        let said = |items: &[(&str, &[f32])]| given(items).unwrap_err().to_string();
        assert_eq!(
            said(&[("a", &[1.0]), ("b", &[])]),
            "the factor of \"b\" has 0 numbers, the first one has 1"
        );
        assert_eq!(said(&[("a", &[f32::NAN])]), "the factor of \"a\" has a number that is not finite");
        assert_eq!(said(&[("a", &[1.0]), ("a", &[1.0])]), "the factor of \"a\" is there twice");
    }
}
