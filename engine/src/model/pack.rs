//! The public model file.
//!
//! ```text
//! "NFPK"  format u16 LE  header length u32 LE  postcard header  sections  first 8 bytes of BLAKE3
//! ```
//!
//! The sections follow one another, little-endian, without padding: factors (in blocks of 32 rows, as
//! [`crate::model::factors`] lays them out), scales (n f32), Gram (d(d+1)/2 f32), mean (d f32), popularity (n·5 u16), neighbours (n·m u32, then n·m
//! u8), withdrawn (n u8), ids (for each a length byte and UTF-8). `docs/wire-format.md` is normative.

use crate::algebra::packed_len;
use crate::encoding;
use crate::error::PackError;
use crate::ids::{Lineage, ModelVersion, short_hash};
use crate::limits::{DIM_MAX, ITEM_ID_BYTES_MAX, ROWS_MAX};
use crate::model::Model;
use crate::model::catalogue::Catalogue;
use crate::model::factors::{BLOCK, Factors};
use crate::model::hyper::Hyperparameters;
use crate::model::popularity::{HALF_LIVES, Scale};
use crate::model::transitions::{NEIGHBOUR_BYTES, Stored};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The format that this engine writes and reads.
pub const FORMAT: u16 = 3;

const MAGIC: [u8; 4] = *b"NFPK";
const CHECKSUM_BYTES: usize = 8;

#[derive(Serialize, Deserialize)]
struct Header {
    lineage: Lineage,
    version: ModelVersion,
    rows: u32,
    dim: u16,
    neighbours_max: u16,
    id_bytes: u64,
    popularity: [Scale; HALF_LIVES],
    hyper: Hyperparameters,
    extensions: Vec<u8>,
}

impl Header {
    fn section_bytes(&self) -> u64 {
        let (n, d, m) = (u64::from(self.rows), u64::from(self.dim), u64::from(self.neighbours_max));
        Factors::byte_len(d as usize, n as usize)
            + 4 * n
            + 4 * packed_len(d as usize) as u64
            + 4 * d
            + 2 * HALF_LIVES as u64 * n
            + NEIGHBOUR_BYTES as u64 * n * m
            + n
            + self.id_bytes
    }
}

impl Model {
    /// Returns the model as a pack: the same bytes for equal models.
    pub fn to_pack(&self) -> Vec<u8> {
        let header = Header {
            lineage: self.lineage,
            version: self.version,
            rows: self.len() as u32,
            dim: self.dim as u16,
            neighbours_max: self.neighbours_max as u16,
            id_bytes: self.catalogue.ids().map(|id| 1 + id.len() as u64).sum(),
            popularity: self.scales_of_popularity,
            hyper: self.hyper.clone(),
            extensions: Vec::new(),
        };
        let head = postcard::to_allocvec(&header).expect("a header has no type that postcard refuses");
        let mut bytes =
            Vec::with_capacity(10 + head.len() + header.section_bytes() as usize + CHECKSUM_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend((head.len() as u32).to_le_bytes());
        bytes.extend(head);
        bytes.extend(self.factors.bytes());
        for number in self.scales.iter().chain(&self.gram).chain(&self.mean) {
            bytes.extend(number.to_le_bytes());
        }
        self.popularity.iter().flatten().for_each(|level| bytes.extend(level.to_le_bytes()));
        self.neighbours.iter().for_each(|stored| bytes.extend(stored.row_and_forward.to_le_bytes()));
        bytes.extend(self.neighbours.iter().map(|stored| stored.backward_and_fresh));
        bytes.extend(self.withdrawn.iter().map(|withdrawn| u8::from(*withdrawn)));
        for id in self.catalogue.ids() {
            bytes.push(id.len() as u8);
            bytes.extend(id.as_bytes());
        }
        bytes.extend(short_hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a pack. Lengths are checked against the file before anything is allocated.
    ///
    /// # Errors
    /// [`PackError`] for a file of another kind, a truncated or damaged one, or a field out of range.
    pub fn load(bytes: &[u8]) -> Result<Self, PackError> {
        let cut =
            |expected: usize| PackError::Length { found: bytes.len() as u64, expected: expected as u64 };
        let body = bytes.strip_prefix(&MAGIC).ok_or(PackError::Foreign)?;
        let (format, body) = body.split_first_chunk::<2>().ok_or(cut(10))?;
        let found = u16::from_le_bytes(*format);
        if found != FORMAT {
            return Err(PackError::UnknownFormat { found, known: FORMAT });
        }
        let (head_len, body) = body.split_first_chunk::<4>().ok_or(cut(10))?;
        let head_len = u32::from_le_bytes(*head_len) as usize;
        let (head, body) = body.split_at_checked(head_len).ok_or(cut(10usize.saturating_add(head_len)))?;
        let header: Header = encoding::read(head)
            .map_err(|_| PackError::Field { field: "header", limit: "a header in its canonical encoding" })?;
        let field =
            |good: bool, field, limit| if good { Ok(()) } else { Err(PackError::Field { field, limit }) };
        field(header.rows as usize <= ROWS_MAX, "rows", "at most 16,777,216")?;
        field((1..=DIM_MAX).contains(&usize::from(header.dim)), "dim", "1 to 512")?;
        field(header.neighbours_max <= 256, "neighbours_max", "at most 256")?;
        let finite_bases = header.popularity.iter().all(|scale| scale.base.is_finite());
        field(finite_bases, "popularity.base", "finite")?;
        if let Some((name, limit)) = header.hyper.fault() {
            return Err(PackError::Field { field: name, limit });
        }
        let expected = (10 + head_len) as u64 + header.section_bytes() + CHECKSUM_BYTES as u64;
        if header.id_bytes > bytes.len() as u64 || bytes.len() as u64 != expected {
            return Err(PackError::Length { found: bytes.len() as u64, expected });
        }
        let (covered, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if short_hash(covered).to_le_bytes() != *checksum {
            return Err(PackError::Checksum);
        }

        let (n, d, m) = (header.rows as usize, usize::from(header.dim), usize::from(header.neighbours_max));
        let mut sections = Sections { rest: &body[..body.len() - CHECKSUM_BYTES] };
        let mut model = Model::empty(header.lineage, d, m, header.hyper);
        model.version = header.version;
        let factors = Factors::from_bytes(d, n, sections.take(Factors::byte_len(d, n) as usize));
        model.factors = factors.ok_or(PackError::Field { field: "factors", limit: "0 beyond the rows" })?;
        model.scales = sections.numbers(n, f32::from_le_bytes);
        model.gram = sections.numbers(packed_len(d), f32::from_le_bytes);
        model.mean = sections.numbers(d, f32::from_le_bytes);
        let levels = |bytes: [u8; 2 * HALF_LIVES]| {
            core::array::from_fn(|at| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]))
        };
        model.popularity = sections.numbers(n, levels);
        model.scales_of_popularity = header.popularity;
        let rows_and_forward = sections.take(4 * n * m).as_chunks().0;
        let neighbours = rows_and_forward.iter().zip(sections.take(n * m));
        model.neighbours = neighbours
            .map(|(row_and_forward, backward_and_fresh)| Stored {
                row_and_forward: u32::from_le_bytes(*row_and_forward),
                backward_and_fresh: *backward_and_fresh,
            })
            .collect();
        let withdrawn = sections.take(n);
        field(withdrawn.iter().all(|byte| *byte <= 1), "withdrawn", "0 or 1 each")?;
        model.withdrawn = withdrawn.iter().map(|byte| *byte == 1).collect();
        model.catalogue = Catalogue::with_room(n, (header.id_bytes as usize).saturating_sub(n));
        for _ in 0..n {
            let id = sections
                .id()
                .ok_or(PackError::Field { field: "ids", limit: "1 to 128 bytes of UTF-8 each" })?;
            field(model.catalogue.push(id), "ids", "each once")?;
        }
        field(sections.rest.is_empty(), "id_bytes", "the length of all ids")?;
        model.bounds.resize(n.div_ceil(BLOCK));
        model.update_bounds(0..n as u32);
        let sound_scales = model.scales.iter().all(|scale| scale.is_finite() && *scale >= 0.0);
        field(sound_scales, "scales", "finite, 0 or more")?;
        let finite = model.gram.iter().chain(&model.mean).all(|number| number.is_finite());
        field(finite, "gram and mean", "finite")?;
        let known_rows = model.neighbours.iter().all(|stored| stored.row() < n.max(1) as u32);
        field(known_rows, "neighbours", "rows of the catalogue")?;
        Ok(model)
    }
}

struct Sections<'a> {
    rest: &'a [u8],
}

impl<'a> Sections<'a> {
    /// Takes bytes whose presence the length check has shown.
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn numbers<T, const N: usize>(&mut self, count: usize, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.take(count * N).as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }

    fn id(&mut self) -> Option<&'a str> {
        let (len, rest) = self.rest.split_first()?;
        let len = usize::from(*len);
        if len == 0 || len > ITEM_ID_BYTES_MAX {
            return None;
        }
        let (id, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        core::str::from_utf8(id).ok()
    }
}
