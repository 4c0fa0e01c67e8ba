//! Where the bytes of a WebAssembly module go, and the limits that the npm package keeps.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use wasmparser::{KnownCustom, Name, Parser, Payload};

use crate::paths;

/// Most bytes of the package's module, compressed as servers send it.
const MODULE_GZIP_MAX: usize = 60_000;
/// Most bytes of the package's script, compressed as servers send it.
const SCRIPT_GZIP_MAX: usize = 21_850;

/// A part of a module and its bytes before compression.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    /// A crate, or a module of the engine or of the standard library.
    pub(crate) name: String,
    /// Bytes of its functions.
    pub(crate) bytes: usize,
    /// Number of functions.
    pub(crate) functions: usize,
}

/// Returns the parts of a module that has names, the largest first; what is no function is last.
///
/// # Errors
/// When the bytes are no module.
pub(crate) fn parts(module: &[u8]) -> Result<Vec<Part>> {
    let (mut imported, mut bodies, mut names, mut code) = (0, Vec::new(), BTreeMap::new(), 0);
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += u32::from(matches!(import?.ty, wasmparser::TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => {
                code += body.range().len();
                bodies.push(body.range().len());
            }
            Payload::CustomSection(section) => {
                let KnownCustom::Name(sections) = section.as_known() else { continue };
                code += section.data().len();
                for section in sections {
                    let Name::Function(map) = section? else { continue };
                    for naming in map {
                        let naming = naming?;
                        names.insert(naming.index, rustc_demangle::demangle(naming.name).to_string());
                    }
                }
            }
            _ => {}
        }
    }
    let mut parts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (index, bytes) in (imported..).zip(bodies) {
        let name = names.get(&index).map_or("unnamed", String::as_str);
        let part = parts.entry(group(name)).or_default();
        *part = (part.0 + bytes, part.1 + 1);
    }
    let mut parts: Vec<Part> =
        parts.into_iter().map(|(name, (bytes, functions))| Part { name, bytes, functions }).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    parts.push(Part { name: "data, types, tables".into(), bytes: module.len() - code, functions: 0 });
    Ok(parts)
}

/// Returns the crate of a function, with its first module where the crate is large.
fn group(name: &str) -> String {
    // `<a::b::Type as c::d::Trait>::f` belongs to the type; of `<impl a::b::Type>::f`, too.
    let start = name.trim_start_matches(['<', '&', '*', '[', '(', ' ', '_']);
    let start = start.trim_start_matches("mut ").trim_start_matches("dyn ").trim_start_matches("impl ");
    let path = start.split(|letter: char| !letter.is_alphanumeric() && !matches!(letter, '_' | ':')).next();
    let mut names = path.unwrap_or_default().split("::").filter(|name| !name.is_empty());
    let first = names.next().unwrap_or("unnamed");
    match (first, names.next()) {
        ("nearfield_engine" | "core" | "alloc" | "std", Some(second)) => format!("{first}::{second}"),
        _ => first.to_owned(),
    }
}

/// Prints the parts as a table, the small ones in one line.
pub(crate) fn print(parts: &[Part]) {
    let all: usize = parts.iter().map(|part| part.bytes).sum();
    println!("{:>9} {:>5} {:>9}  part", "bytes", "%", "functions");
    let line = |bytes: usize, functions: usize, name: &str| {
        println!("{bytes:>9} {:>5.1} {functions:>9}  {name}", 100.0 * bytes as f64 / all as f64);
    };
    let (shown, small): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.bytes * 200 >= all);
    shown.iter().for_each(|part| line(part.bytes, part.functions, &part.name));
    let (bytes, functions) =
        small.iter().fold((0, 0), |sum, part| (sum.0 + part.bytes, sum.1 + part.functions));
    line(bytes, functions, &format!("{} smaller parts", small.len()));
    line(all, parts.iter().map(|part| part.functions).sum(), "all");
}

/// Returns the module without its custom sections, names among them.
///
/// # Errors
/// When the bytes are no module.
pub(crate) fn stripped(module: &[u8]) -> Result<Vec<u8>> {
    let mut kept = module.get(..8).context("too short for a module")?.to_vec();
    for payload in Parser::new(0).parse_all(module) {
        let Some((id, range)) = payload?.as_section() else { continue };
        if id != 0 {
            kept.push(id);
            leb128(range.len(), &mut kept);
            kept.extend(&module[range]);
        }
    }
    Ok(kept)
}

fn leb128(mut value: usize, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Prints what the package's module and script weigh, and fails where one is heavier than it may be.
///
/// # Errors
/// Names the file, its size and the limit.
pub(crate) fn check(module: &Path, script: &Path) -> Result<()> {
    for (file, limit) in [(module, MODULE_GZIP_MAX), (script, SCRIPT_GZIP_MAX)] {
        let size = print_size(file)?;
        ensure!(size <= limit, "{} has {size} bytes with gzip, the limit is {limit}", paths::short(file));
    }
    Ok(())
}

/// Prints what a file weighs, as it is and compressed, and returns its size with gzip.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn print_size(file: &Path) -> Result<usize> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", paths::short(file)))?;
    let size = gzip(&bytes)?;
    println!("{}: {} bytes, {size} with gzip", paths::short(file), bytes.len());
    Ok(size)
}

/// Returns the bytes' size as a server would send them.
fn gzip(bytes: &[u8]) -> Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_grouped_by_crate_and_first_module() {
        for (name, expected) in [
            ("nearfield_engine::rank::scan::offer", "nearfield_engine::rank"),
            ("<nearfield_engine::model::Model as core::clone::Clone>::clone", "nearfield_engine::model"),
            ("<&mut postcard::ser::Serializer<F> as serde_core::ser::SerializeStruct>::end", "postcard"),
            ("core::fmt::Formatter::pad", "core::fmt"),
            ("malloc", "malloc"),
            ("", "unnamed"),
        ] {
            assert_eq!(group(name), expected, "{name}");
        }
    }

    /// A module with one function named `a::b`, and 3 bytes of a foreign custom section.
    const NAMED: &[u8] = b"\0asm\x01\0\0\0\
        \x01\x04\x01\x60\0\0\
        \x03\x02\x01\0\
        \x0a\x04\x01\x02\0\x0b\
        \0\x03\x02xy\
        \0\x0e\x04name\x01\x07\x01\0\x04a::b";

    #[test]
    fn a_module_is_taken_apart_and_stripped() {
        let found = parts(NAMED).unwrap();
        assert_eq!(found[0], Part { name: "a".into(), bytes: 2, functions: 1 });
        let bare = stripped(NAMED).unwrap();
        assert_eq!(bare, &NAMED[..8 + 6 + 4 + 6]);
        assert_eq!(parts(&bare).unwrap()[0].name, "unnamed");
    }
}
