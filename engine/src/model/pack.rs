//! The public model file.
//!
//! ```text
//! "NFPK"  format u16 LE  header length u32 LE  postcard header  sections  first 8 bytes of BLAKE3
//! ```
//!
//! The sections follow one another, little-endian, without padding: factors (in blocks of 32 rows, as
//! [`nearfield_kernels::factors`] lays them out), scales (n f32), Gram (d(d+1)/2 f32), mean (d f32), popularity (n·5 u16), neighbours (n·m u32, then n·m
//! u8), withdrawn (n u8), ids (for each a length byte and UTF-8). `docs/wire-format.md` is normative.

use crate::encoding;
use crate::error::{PackError, in_words};
use crate::ids::{Lineage, ModelVersion};
use crate::limits::{DIM_MAX, ROWS_MAX};
use crate::model::Model;
use crate::model::catalogue::Catalogue;
use crate::model::hyper::Hyperparameters;
use crate::model::manifest::FileRef;
use crate::model::popularity::{HALF_LIVES, Scale};
use crate::model::sections::Shape;
use alloc::vec::Vec;
use nearfield_kernels::BLOCK;
use nearfield_kernels::hash::Hasher;
use serde::{Deserialize, Serialize};

/// The format that this engine writes and reads.
pub const FORMAT: u16 = 3;

const MAGIC: [u8; 4] = *b"NFPK";
const CHECKSUM_BYTES: usize = 8;

/// Magic, format and length of the header.
const PREFIX_BYTES: usize = 10;

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
    fn shape(&self) -> Shape {
        Shape {
            rows: self.rows as usize,
            dim: usize::from(self.dim),
            neighbours_max: usize::from(self.neighbours_max),
            // No pack is as long as what this leaves out.
            id_bytes: self.id_bytes.min(u64::from(u32::MAX)) as usize,
        }
    }

    fn check(&self) -> Result<(), PackError> {
        check(self.rows as usize <= ROWS_MAX, "rows", "at most 16,777,216")?;
        check((1..=DIM_MAX).contains(&usize::from(self.dim)), "dim", "1 to 512")?;
        check(self.neighbours_max <= 256, "neighbours_max", "at most 256")?;
        let finite_bases = self.popularity.iter().all(|scale| scale.base.is_finite());
        check(finite_bases, "popularity.base", "finite")?;
        match self.hyper.fault() {
            Some((field, limit)) => Err(PackError::Field { field, limit }),
            None => Ok(()),
        }
    }
}

fn check(good: bool, field: &'static str, limit: &'static str) -> Result<(), PackError> {
    if good { Ok(()) } else { Err(PackError::Field { field, limit: in_words(|| limit) }) }
}

impl Model {
    /// Returns what stands in the pack before the sections.
    fn head(&self) -> Vec<u8> {
        let shape = self.sections.shape();
        let header = Header {
            lineage: self.lineage,
            version: self.version,
            rows: shape.rows as u32,
            dim: shape.dim as u16,
            neighbours_max: shape.neighbours_max as u16,
            id_bytes: shape.id_bytes as u64,
            popularity: self.scales_of_popularity,
            hyper: self.hyper.clone(),
            extensions: Vec::new(),
        };
        let header = postcard::to_allocvec(&header).expect("a header has no type that postcard refuses");
        let mut head = MAGIC.to_vec();
        head.extend(FORMAT.to_le_bytes());
        head.extend((header.len() as u32).to_le_bytes());
        head.extend(header);
        head
    }

    /// Returns the model as a pack: the same bytes for equal models.
    pub fn to_pack(&self) -> Vec<u8> {
        let (head, sections) = (self.head(), self.sections.bytes());
        let mut bytes = Vec::with_capacity(head.len() + sections.len() + CHECKSUM_BYTES);
        bytes.extend(head);
        bytes.extend(sections);
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        let checksum = checksum(&hasher);
        bytes.extend(checksum);
        bytes
    }

    /// Returns the reference of the model's pack, without making it.
    pub fn pack_ref(&self) -> FileRef {
        let (head, sections) = (self.head(), self.sections.bytes());
        let mut hasher = Hasher::new();
        hasher.update(&head);
        hasher.update(sections);
        let checksum = checksum(&hasher);
        hasher.update(&checksum);
        FileRef { hash: hasher.finalize(), bytes: (head.len() + sections.len() + CHECKSUM_BYTES) as u64 }
    }

    /// Reads a pack. Lengths are checked against the file before anything is allocated.
    ///
    /// # Errors
    /// [`PackError`] for a file of another kind, a truncated or damaged one, or a field out of range.
    pub fn load(bytes: &[u8]) -> Result<Self, PackError> {
        let mut arriving = Arriving::new(bytes.len() as u64);
        arriving.push(bytes)?;
        arriving.finish()
    }
}

/// Returns the first bytes of the hash of what came so far.
fn checksum(hasher: &Hasher) -> [u8; CHECKSUM_BYTES] {
    let hash = hasher.finalize();
    core::array::from_fn(|at| hash[at])
}

/// A pack that arrives piece by piece: each goes to its place in the model and is hashed once.
///
/// ```
/// use nearfield_engine::golden;
/// use nearfield_engine::model::pack::Arriving;
///
/// let pack = golden::model().to_pack();
/// let mut arriving = Arriving::new(pack.len() as u64);
/// for piece in pack.chunks(1000) {
///     arriving.push(piece)?;
/// }
/// assert_eq!(arriving.finish()?, golden::model());
/// # Ok::<(), nearfield_engine::PackError>(())
/// ```
#[derive(Debug)]
pub struct Arriving {
    /// Bytes that are to come in all.
    expected: u64,
    /// Bytes that have come.
    found: u64,
    /// Of all but the checksum.
    hasher: Hasher,
    /// What comes before the sections, as far as it is there.
    head: Vec<u8>,
    body: Option<Body>,
    checksum: Vec<u8>,
}

/// A model whose sections are filled with what comes: it has no catalogue and no bounds yet.
#[derive(Debug)]
struct Body {
    model: Model,
    filled: usize,
}

impl Arriving {
    /// Begins a pack that has so many bytes.
    pub fn new(bytes: u64) -> Self {
        let (hasher, head, checksum) = (Hasher::new(), Vec::new(), Vec::new());
        Self { expected: bytes, found: 0, hasher, head, body: None, checksum }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`PackError`] as soon as it is plain that this is no pack of that length. The rest need not come then.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), PackError> {
        self.found += bytes.len() as u64;
        while self.body.is_none() {
            let missing = self.head_bytes()? - self.head.len();
            let (head, rest) = bytes.split_at(bytes.len().min(missing));
            self.head.extend(head);
            self.hasher.update(head);
            bytes = rest;
            if self.head.len() == self.head_bytes()? {
                self.body = Some(self.read_head()?);
            } else if bytes.is_empty() {
                return Ok(());
            }
        }
        let Some(Body { model, filled }) = &mut self.body else { return Ok(()) };
        let room = &mut model.sections.bytes_mut()[*filled..];
        let (body, rest) = bytes.split_at(bytes.len().min(room.len()));
        room[..body.len()].copy_from_slice(body);
        self.hasher.update(body);
        *filled += body.len();
        self.checksum.extend(rest.get(..CHECKSUM_BYTES - self.checksum.len()).unwrap_or(rest));
        if self.found > self.expected { Err(self.wrong_length(self.expected)) } else { Ok(()) }
    }

    /// Returns how many bytes come before the sections, as far as that is known.
    fn head_bytes(&self) -> Result<usize, PackError> {
        let known = self.head.len().min(MAGIC.len());
        if self.head[..known] != MAGIC[..known] {
            return Err(PackError::Foreign);
        }
        let Some(prefix) = self.head.first_chunk::<PREFIX_BYTES>() else { return Ok(PREFIX_BYTES) };
        let found = u16::from_le_bytes([prefix[4], prefix[5]]);
        if found != FORMAT {
            return Err(PackError::UnknownFormat { found, known: FORMAT });
        }
        let length = u32::from_le_bytes([prefix[6], prefix[7], prefix[8], prefix[9]]);
        let bytes = PREFIX_BYTES as u64 + u64::from(length);
        if bytes > self.expected { Err(self.wrong_length(bytes)) } else { Ok(bytes as usize) }
    }

    fn read_head(&self) -> Result<Body, PackError> {
        let header: Header = encoding::read(&self.head[PREFIX_BYTES..]).map_err(|_| PackError::Field {
            field: "header",
            limit: in_words(|| "a header in its canonical encoding"),
        })?;
        header.check()?;
        let shape = header.shape();
        let expected = shape.bytes().saturating_add((self.head.len() + CHECKSUM_BYTES) as u64);
        // A host of 32 bits has no room for more than they count.
        if self.expected != expected || usize::try_from(expected).is_err() {
            return Err(self.wrong_length(expected));
        }
        let mut model = Model::new(header.lineage, header.version, header.hyper, shape);
        model.scales_of_popularity = header.popularity;
        Ok(Body { model, filled: 0 })
    }

    /// The file has another length than `expected`, which it says itself.
    fn wrong_length(&self, expected: u64) -> PackError {
        PackError::Length { found: self.found.max(self.expected), expected }
    }

    /// Returns the reference of the file, whose bytes have all come.
    pub fn file(&self) -> FileRef {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.checksum);
        FileRef { hash: hasher.finalize(), bytes: self.found }
    }

    /// Returns the model, once all bytes have come.
    ///
    /// # Errors
    /// [`PackError`] for a truncated or damaged file, or a field out of range.
    pub fn finish(self) -> Result<Model, PackError> {
        let Self { expected, found, hasher, head, body, checksum: checksum_found } = self;
        if head.len() < MAGIC.len() {
            return Err(PackError::Foreign);
        }
        let body = body.filter(|_| found == expected);
        let Body { mut model, .. } = body.ok_or(PackError::Length { found, expected })?;
        if checksum(&hasher) != *checksum_found {
            return Err(PackError::Checksum);
        }
        let sections = &model.sections;
        let shape = sections.shape();
        check(sections.factors().filled_up_with_zeros(), "factors", "0 beyond the rows")?;
        check(sections.withdrawn().iter().all(|byte| *byte <= 1), "withdrawn", "0 or 1 each")?;
        let mut catalogue = Catalogue::with_room(shape.rows);
        for _ in 0..shape.rows {
            check(catalogue.read_next(sections.ids()), "ids", "1 to 128 bytes of UTF-8 each, each id once")?;
        }
        check(catalogue.end() == shape.id_bytes, "id_bytes", "the length of all ids")?;
        let sound_scales = sections.scales().iter().all(|scale| scale.is_finite() && *scale >= 0.0);
        check(sound_scales, "scales", "finite, 0 or more")?;
        let finite = sections.gram().iter().chain(sections.mean()).all(|number| number.is_finite());
        check(finite, "gram and mean", "finite")?;
        let known_rows =
            sections.neighbours(0..shape.rows).all(|stored| (stored.row() as usize) < shape.rows);
        check(known_rows, "neighbours", "rows of the catalogue")?;
        model.catalogue = catalogue;
        model.bounds.resize(shape.rows.div_ceil(BLOCK));
        model.update_bounds(0..shape.rows as u32);
        Ok(model)
    }
}
