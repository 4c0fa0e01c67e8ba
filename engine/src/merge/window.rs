//! The window: the deltas admitted since the last publish, as they came. Publishing takes them apart by row.

use crate::event::Kind;
use crate::ids::{DeltaId, Row};
use crate::merge::evidence::{Evidence, Factor, TRANSITION_ONE, WEIGHT_ONE, Weighted};
use crate::model::hyper::Hyperparameters;
use crate::sync::delta::{Delta, Touch};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
#[cfg(target_arch = "wasm32")]
use nearfield_kernels::float::Float as _;

/// The deltas admitted since the last publish.
#[derive(Clone, Debug, Default)]
pub struct Window {
    pub(super) deltas: Vec<Admitted>,
    bytes: u64,
}

/// A delta in the window.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    id: DeltaId,
    device: u64,
    pub(super) factor: Factor,
    pub(super) share: u16,
    items: Box<[Touch]>,
    row_tags: Box<[u32]>,
}

/// What one window holds on a row.
pub(super) struct Contributions {
    pub(super) row: Row,
    /// One for each device, with the device's tag on this row where there is one.
    pub(super) by_device: Vec<(Option<u32>, Evidence)>,
}

impl Window {
    /// Returns an empty window.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the deltas admitted since the last publish.
    pub fn deltas(&self) -> u64 {
        self.deltas.len() as u64
    }

    /// Returns about how many bytes of memory it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns whether nothing was admitted since the last publish.
    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// Adds a delta that [`crate::merge::Policy::check`] has passed.
    ///
    /// `device_tag` stands for the device within this window. `row_tags` has a tag for each item of the delta,
    /// which stands for the device at this row until the row is published; without them (`&[]`) the delta
    /// tells a device from others in its own window only.
    pub fn admit(&mut self, delta: &Delta, device_tag: u64, row_tags: &[u32]) {
        let admitted = Admitted {
            id: delta.id,
            device: device_tag,
            factor: Factor::of(delta),
            share: delta.share,
            items: delta.items.as_slice().into(),
            row_tags: row_tags.into(),
        };
        self.bytes += admitted.bytes();
        self.deltas.push(admitted);
    }

    /// Returns how many devices touched each row, rising.
    pub(super) fn devices_by_row(&self) -> BTreeMap<Row, usize> {
        let touches =
            self.deltas.iter().flat_map(|delta| delta.items.iter().map(|touch| (touch.row(), delta.device)));
        let mut by_row = BTreeMap::new();
        for (row, _) in touches.collect::<BTreeSet<_>>() {
            *by_row.entry(row).or_default() += 1;
        }
        by_row
    }

    /// Returns what the window holds on the rows that `wanted` names, rising.
    ///
    /// A device makes one contribution to a row: its deltas are taken, in the order of their ids, which are
    /// random, until they mention the row as often as one delta may.
    pub(super) fn by_row(
        &self,
        hyper: &Hyperparameters,
        wanted: impl Fn(Row) -> bool,
    ) -> impl Iterator<Item = Contributions> {
        let deltas = self.deltas.iter().enumerate();
        let mut touched: Vec<(Row, u64, DeltaId, usize)> = deltas
            .flat_map(|(at, delta)| {
                delta.items.iter().map(move |touch| (touch.row(), delta.device, delta.id, at))
            })
            .filter(|(row, ..)| wanted(*row))
            .collect();
        touched.sort_unstable();
        let mut rest = touched.into_iter().peekable();
        core::iter::from_fn(move || {
            let row = rest.peek()?.0;
            let mut by_device: Vec<(Option<u32>, Evidence)> = Vec::new();
            while let Some((_, device, ..)) = rest.peek().copied().filter(|(next, ..)| *next == row) {
                let mut mentions = 0..hyper.bounds.repeats_max;
                let mut deltas = Vec::new();
                while let Some((.., at)) = rest.next_if(|(next, of, ..)| (*next, *of) == (row, device)) {
                    if mentions.next().is_some() && deltas.last() != Some(&at) {
                        deltas.push(at);
                    }
                }
                let mut said = deltas.into_iter().map(|at| self.deltas[at].on_row(row, hyper));
                let Some((tag, mut evidence)) = said.next() else { continue };
                evidence.add(said.map(|(_, evidence)| evidence));
                by_device.push((tag, evidence));
            }
            Some(Contributions { row, by_device })
        })
    }
}

impl Admitted {
    fn bytes(&self) -> u64 {
        let parts = self.factor.values.len() + size_of_val(&*self.items) + size_of_val(&*self.row_tags);
        (size_of::<Self>() + parts) as u64
    }

    /// Returns what the delta says of one of its rows, with the device's tag there.
    fn on_row(&self, row: Row, hyper: &Hyperparameters) -> (Option<u32>, Evidence) {
        let mut tag = None;
        let mut evidence = Evidence::default();
        let (mut weight, mut positive) = (0, 0);
        // Items of the current session, oldest first: transitions never cross a session's start.
        let mut session: Vec<Row> = Vec::new();
        for (at, touch) in self.items.iter().enumerate() {
            let Some(kind) = Kind::from_index(touch.kind) else { continue };
            let weights = hyper.kind(kind);
            if touch.starts_session() {
                session.clear();
            }
            let wanted = f64::round_ties_even(f64::from(weights.weight * weights.target) * WEIGHT_ONE) as u32;
            if touch.row() == row {
                tag = tag.or(self.row_tags.get(at).copied());
                weight += f64::round_ties_even(f64::from(weights.weight) * WEIGHT_ONE) as u32;
                positive += wanted;
                if touch.starts_session() {
                    evidence.entries += u64::from(wanted);
                }
            }
            if wanted == 0 {
                continue;
            }
            let mut proximity = 1.0;
            for leader in session.iter().rev().take(usize::from(hyper.transitions.reach)) {
                let pair =
                    f64::round_ties_even(proximity * f64::from(weights.weight) * TRANSITION_ONE) as u64;
                proximity *= f64::from(hyper.transitions.distance_decay);
                match (*leader == row, touch.row() == row) {
                    (true, false) => evidence.neighbours.entry(touch.row()).or_default()[0] += pair,
                    (false, true) => evidence.neighbours.entry(*leader).or_default()[1] += pair,
                    _ => {}
                }
            }
            session.push(touch.row());
        }
        evidence.factors.push(Weighted { factor: self.factor.clone(), weight, positive });
        (tag, evidence)
    }
}
