//! What a pack holds of the rows, in memory as it is in the file: nothing is copied or taken apart on the way in.
//!
//! The sections follow one another without padding. The factors come first, at the start of a line of 64 bytes, and
//! have whole lines; so the numbers of four bytes after them stand where such numbers must, and the rest is read
//! byte by byte.

use crate::ids::Row;
use crate::model::popularity::HALF_LIVES;
use crate::model::transitions::{NEIGHBOUR_BYTES, Stored};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use nearfield_kernels::algebra::packed_len;
use nearfield_kernels::factors::{Factors, STEP, Step, ZEROS};

#[cfg(target_endian = "big")]
compile_error!("a pack is used in place, and its numbers are little-endian");

/// How many of everything there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// n
    pub(crate) rows: usize,
    /// d
    pub(crate) dim: usize,
    /// m: slots for neighbours of each item.
    pub(crate) neighbours_max: usize,
    /// Bytes of all ids, each with its length before it.
    pub(crate) id_bytes: usize,
}

impl Shape {
    /// Returns the length of each section, in the order of the file.
    fn lengths(self) -> [u64; SECTIONS.len()] {
        let [n, d, m] = [self.rows, self.dim, self.neighbours_max].map(|number| number as u64);
        [
            Factors::byte_len(self.dim, self.rows),
            4 * n,
            4 * packed_len(self.dim) as u64,
            4 * d,
            2 * HALF_LIVES as u64 * n,
            4 * n * m,
            (NEIGHBOUR_BYTES as u64 - 4) * n * m,
            n,
            self.id_bytes as u64,
        ]
    }

    /// Returns the length of all sections.
    pub(crate) fn bytes(self) -> u64 {
        self.lengths().into_iter().fold(0, u64::saturating_add)
    }

    /// Returns where each section starts, and where the last one ends.
    fn starts(self) -> [usize; SECTIONS.len() + 1] {
        let mut starts = [0; SECTIONS.len() + 1];
        for (section, length) in self.lengths().into_iter().enumerate() {
            starts[section + 1] = starts[section] + length as usize;
        }
        starts
    }
}

#[derive(Clone, Copy)]
#[repr(usize)]
enum Section {
    Factors,
    Scales,
    Gram,
    Mean,
    Popularity,
    NeighbourRows,
    NeighbourWeights,
    Withdrawn,
    Ids,
}

const SECTIONS: [Section; 9] = [
    Section::Factors,
    Section::Scales,
    Section::Gram,
    Section::Mean,
    Section::Popularity,
    Section::NeighbourRows,
    Section::NeighbourWeights,
    Section::Withdrawn,
    Section::Ids,
];

/// The sections of a pack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sections {
    shape: Shape,
    /// Where each section starts, and where the last one ends.
    starts: [usize; SECTIONS.len() + 1],
    lines: Vec<Step>,
}

impl Sections {
    /// Returns sections of zeros.
    pub(crate) fn new(shape: Shape) -> Self {
        let starts = shape.starts();
        Self { shape, starts, lines: vec![ZEROS; (shape.bytes() as usize).div_ceil(STEP)] }
    }

    /// Returns how many of everything there are.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns all bytes, as they are in the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.starts[SECTIONS.len()]]
    }

    /// Returns all bytes, to be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.starts[SECTIONS.len()];
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..end]
    }

    /// Makes room for more rows, which are zeros, and for their ids.
    pub(crate) fn grow(&mut self, rows: usize, id_bytes: usize) {
        let mut grown = Self::new(Shape { rows, id_bytes, ..self.shape });
        for section in SECTIONS {
            let old = self.section(section);
            grown.section_mut(section)[..old.len()].copy_from_slice(old);
        }
        *self = grown;
    }

    #[inline]
    fn range(&self, section: Section) -> Range<usize> {
        self.starts[section as usize]..self.starts[section as usize + 1]
    }

    #[inline]
    fn section(&self, section: Section) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[self.range(section)]
    }

    fn section_mut(&mut self, section: Section) -> &mut [u8] {
        let range = self.range(section);
        &mut bytemuck::cast_slice_mut(&mut self.lines)[range]
    }

    /// Returns the quantised rows.
    #[inline]
    pub(crate) fn factors(&self) -> Factors<'_> {
        let Shape { rows, dim, .. } = self.shape;
        Factors::new(dim, rows, &self.lines[..self.starts[Section::Scales as usize] / STEP])
    }

    /// Replaces a quantised row by d numbers.
    pub(crate) fn set_factors(&mut self, row: Row, numbers: &[i8]) {
        Factors::set(self.shape.dim, &mut self.lines, row, numbers);
    }

    /// Returns the scale of each row; row i is scale[i] · factors[i].
    #[inline]
    pub(crate) fn scales(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(Section::Scales))
    }

    pub(crate) fn scales_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.section_mut(Section::Scales))
    }

    /// Returns G = QᵀQ of the dequantised rows, packed.
    pub(crate) fn gram(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(Section::Gram))
    }

    pub(crate) fn gram_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.section_mut(Section::Gram))
    }

    /// Returns the mean row.
    pub(crate) fn mean(&self) -> &[f32] {
        bytemuck::cast_slice(self.section(Section::Mean))
    }

    pub(crate) fn mean_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.section_mut(Section::Mean))
    }

    /// Returns the levels of popularity of each row at each half-life.
    #[inline]
    pub(crate) fn popularity(&self) -> &[[u16; HALF_LIVES]] {
        bytemuck::cast_slice(self.section(Section::Popularity))
    }

    pub(crate) fn popularity_mut(&mut self) -> &mut [[u16; HALF_LIVES]] {
        bytemuck::cast_slice_mut(self.section_mut(Section::Popularity))
    }

    /// Returns which rows are withdrawn: 1 each, else 0.
    #[inline]
    pub(crate) fn withdrawn(&self) -> &[u8] {
        self.section(Section::Withdrawn)
    }

    pub(crate) fn withdrawn_mut(&mut self) -> &mut [u8] {
        self.section_mut(Section::Withdrawn)
    }

    /// Returns all ids, each with its length before it.
    pub(crate) fn ids(&self) -> &[u8] {
        self.section(Section::Ids)
    }

    pub(crate) fn ids_mut(&mut self) -> &mut [u8] {
        self.section_mut(Section::Ids)
    }

    /// Returns the slots for neighbours of some rows, one row after the other; the last ones of each may be empty.
    #[inline]
    pub(crate) fn neighbours(&self, rows: Range<usize>) -> impl Iterator<Item = Stored> + '_ {
        let m = self.shape.neighbours_max;
        let slots = rows.start * m..rows.end * m;
        let rows = &self.section(Section::NeighbourRows).as_chunks::<4>().0[slots.clone()];
        let weights = &self.section(Section::NeighbourWeights)[slots];
        rows.iter().zip(weights).map(|(row, weights)| Stored {
            row_and_forward: u32::from_le_bytes(*row),
            backward_and_fresh: *weights,
        })
    }

    /// Replaces the neighbours of a row; there are no more than slots.
    pub(crate) fn set_neighbours(&mut self, row: Row, neighbours: &[Stored]) {
        let m = self.shape.neighbours_max;
        for slot in 0..m {
            let stored = neighbours.get(slot).copied().unwrap_or_default();
            let at = row as usize * m + slot;
            self.section_mut(Section::NeighbourRows).as_chunks_mut::<4>().0[at] =
                stored.row_and_forward.to_le_bytes();
            self.section_mut(Section::NeighbourWeights)[at] = stored.backward_and_fresh;
        }
    }
}
