//! What the package's JavaScript tests serve in place of central, made by the engine itself.
//!
//! `fixture make DIR` writes versions 2 to 4 of a small model, the patches between them, and signed
//! manifests. `fixture large DIR ITEMS` writes version 2 of a large model, and its manifest. `fixture reply acknowledged|duplicate|refused VERSION` reads a sync
//! body from standard input and writes the answer to standard output. `fixture deltas` writes each of its
//! deltas as a line: id, base version, number of items, and each item as `ROW:KIND`.
//!
//! The model has four tastes of ten items each (`tent-0` … `book-9`), so that what a person who
//! chose a tent should see is plain before anything runs. Version 3 adds `tent-new`.

use ed25519_dalek::SigningKey;
use nearfield_engine::model::blend::OWN_COUNT;
use nearfield_engine::model::manifest::{FileRef, Manifest, Slot, sign};
use nearfield_engine::sync::wire::{decode_request, encode_reply};
use nearfield_engine::{
    Delta, DeltaId, Hyperparameters, Kind, Lineage, Model, ModelVersion, Outcome, Publication, Refusal,
    Scenario, Statistics, SyncReply, SyncRequest, Threshold, Touch, Window,
};
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const LINEAGE: Lineage = Lineage(0x7e57);
const DIM: usize = 16;
const TASTES: [&str; 4] = ["tent", "lamp", "shoe", "book"];
const ITEMS_EACH: u32 = 10;
const SITE: &str = "test";
const HOUR_MS: u64 = 3_600_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", directory] => make(Path::new(directory)),
        ["large", directory, items] => large(Path::new(directory), items.parse()?),
        ["reply", outcome, version] => reply(outcome, ModelVersion(version.parse()?)),
        ["deltas"] => deltas(),
        _ => Err("usage: fixture make DIR | large DIR ITEMS | reply acknowledged|duplicate|refused VERSION | deltas".into()),
    }
}

fn make(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut hyper = Hyperparameters::starting_point();
    hyper.alpha = 0.1;
    hyper.blend.by_scenario[Scenario::Continue as usize]
        .iter_mut()
        .for_each(|weights| weights[OWN_COUNT] = 0.5);
    let mut statistics = Statistics::new(LINEAGE, DIM, 8, hyper);
    for taste in TASTES {
        for item in 0..ITEMS_EACH {
            statistics.register(&format!("{taste}-{item}"))?;
        }
    }
    let mut model = statistics.empty_model();
    let first = statistics.publish(&mut Window::new(), Threshold::NONE);
    model.apply(&first.patch)?;

    let mut window = teach(&statistics, &model, 1)?;
    let second = statistics.publish(&mut window, Threshold::NONE);
    model.apply(&second.patch)?;
    let old = model.to_pack();

    statistics.register("tent-new")?;
    let mut window = teach(&statistics, &model, 2)?;
    let Publication { patch, .. } = statistics.publish(&mut window, Threshold::NONE);
    model.apply(&patch)?;
    let new = model.to_pack();

    let mut window = teach(&statistics, &model, 3)?;
    let fourth = statistics.publish(&mut window, Threshold::NONE).patch;
    model.apply(&fourth)?;
    let newest = model.to_pack();

    fs::create_dir_all(directory)?;
    let key = SigningKey::from_bytes(&[7; 32]);
    let patches = vec![(ModelVersion(2), FileRef::of(&patch))];
    let other = SigningKey::from_bytes(&[8; 32]);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let manifest = |version, pack: &[u8], patches| manifest(now_ms, version, pack, patches);
    let third = manifest(3, &new, Vec::new());
    let files: [(&str, Vec<u8>); 17] = [
        ("2.pack", old.clone()),
        ("3.pack", new.clone()),
        ("2..3.patch", patch.clone()),
        ("4.pack", newest.clone()),
        ("3..4.patch", fourth.clone()),
        ("4.manifest", sign(&manifest(4, &newest, vec![(ModelVersion(3), FileRef::of(&fourth))]), &key)),
        ("public-key", public(&key)),
        ("other-public-key", public(&other)),
        ("2.manifest", sign(&manifest(2, &old, Vec::new()), &key)),
        ("3.manifest", sign(&manifest(3, &new, patches.clone()), &key)),
        ("3-without-patch.manifest", sign(&third, &key)),
        ("3-foreign-key.manifest", sign(&third, &other)),
        (
            "1-other-lineage.manifest",
            sign(
                &Manifest { lineage: Lineage(1), issued_ms: now_ms - 1, ..manifest(1, &old, Vec::new()) },
                &key,
            ),
        ),
        // The patch of another model: what it leads to is not what was signed.
        ("3-other-pack.manifest", sign(&manifest(3, &old, patches), &key)),
        ("1.manifest", sign(&manifest(1, &old, Vec::new()), &key)),
        (
            "3-expired.manifest",
            sign(
                &Manifest {
                    issued_ms: now_ms - 2 * HOUR_MS,
                    not_after_ms: now_ms - HOUR_MS,
                    ..third.clone()
                },
                &key,
            ),
        ),
        ("3-other-site.manifest", sign(&Manifest { site: "other".into(), ..third }, &key)),
    ];
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}

/// Version 2 of a model whose items were each touched once, by people of every taste.
fn large(directory: &Path, items: u32) -> Result<(), Box<dyn Error>> {
    const DIM: usize = 128;
    const TOUCHES: u32 = 50;
    let mut statistics = Statistics::new(LINEAGE, DIM, 8, Hyperparameters::starting_point());
    for item in 0..items {
        statistics.register(&format!("item-{item}"))?;
    }
    let mut model = statistics.empty_model();
    let first = statistics.publish(&mut Window::new(), Threshold::NONE);
    model.apply(&first.patch)?;
    let mut window = Window::new();
    // A generator of its own (Marsaglia's xorshift), so that the model is the same everywhere.
    let mut state = 0x9e37_79b9_u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for (person, row) in (0..items).step_by(TOUCHES as usize).enumerate() {
        let touches = row..items.min(row + TOUCHES);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(person as u64).to_le_bytes());
        let delta = Delta {
            id: DeltaId(id),
            lineage: LINEAGE,
            base_version: model.version(),
            factor_scale: 1.0 / 127.0,
            factor: (0..DIM).map(|_| (random() >> 24) as i8).map(|value| value.max(-127)).collect(),
            items: touches.map(|item| Touch::new(item, Kind::Click as u8, item == row)).collect(),
            share: 4096,
            metrics: Vec::new(),
        };
        window.admit(&delta, person as u64, &[]);
    }
    let second = statistics.publish(&mut window, Threshold::NONE);
    model.apply(&second.patch)?;
    let pack = model.to_pack();

    fs::create_dir_all(directory)?;
    let key = SigningKey::from_bytes(&[7; 32]);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    fs::write(directory.join("manifest"), sign(&manifest(now_ms, 2, &pack, Vec::new()), &key))?;
    fs::write(directory.join("2.pack"), pack)?;
    fs::write(directory.join("public-key"), public(&key))?;
    Ok(())
}

/// A key's public half, in hexadecimal.
fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn manifest(now_ms: u64, version: u64, pack: &[u8], patches: Vec<(ModelVersion, FileRef)>) -> Manifest {
    Manifest {
        site: SITE.into(),
        lineage: LINEAGE,
        issued_ms: now_ms,
        not_after_ms: now_ms + 24 * HOUR_MS,
        stable: Slot { version: ModelVersion(version), pack: FileRef::of(pack), patches },
        canary: None,
        canary_share: 0,
        keys: Vec::new(),
        root_signature: Vec::new(),
        extensions: Vec::new(),
    }
}

/// Eight people of each taste, whose factor points along an axis of its own.
fn teach(statistics: &Statistics, model: &Model, round: u8) -> Result<Window, Box<dyn Error>> {
    let mut window = Window::new();
    for person in 0..8u8 {
        for taste in 0..TASTES.len() as u8 {
            let mut factor = vec![0; DIM];
            factor[usize::from(taste)] = 127;
            let first = u32::from(taste) * ITEMS_EACH;
            let items = (0..ITEMS_EACH)
                .map(|item| {
                    let row = first + (item * 3 + u32::from(person)) % ITEMS_EACH;
                    Touch::new(row, Kind::Click as u8, item == 0)
                })
                .collect();
            let mut id = [0; 16];
            id[..3].copy_from_slice(&[round, person, taste]);
            let delta = Delta {
                id: DeltaId(id),
                lineage: LINEAGE,
                base_version: model.version(),
                factor_scale: 1.0 / 127.0,
                factor,
                items,
                share: 4096,
                metrics: Vec::new(),
            };
            statistics.policy(ModelVersion(0)).check(&delta).map_err(|refusal| refusal.to_string())?;
            window.admit(&delta, u64::from(person), &[]);
        }
    }
    Ok(window)
}

fn request() -> Result<SyncRequest, Box<dyn Error>> {
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    Ok(decode_request(&body)?)
}

fn deltas() -> Result<(), Box<dyn Error>> {
    for delta in request()?.deltas {
        print!("{} {} {}", delta.id, delta.base_version, delta.items.len());
        for touch in &delta.items {
            let kind = Kind::from_index(touch.kind).map_or("unknown", Kind::as_str);
            print!(" {}:{kind}", touch.row());
        }
        println!();
    }
    Ok(())
}

fn reply(outcome: &str, version: ModelVersion) -> Result<(), Box<dyn Error>> {
    let request = request()?;
    let outcome = match outcome {
        "acknowledged" => Outcome::Acknowledged,
        "duplicate" => Outcome::Duplicate,
        "refused" => Outcome::Refused(Refusal::Stale { base: ModelVersion(2), oldest: ModelVersion(3) }),
        other => return Err(format!("outcome {other:?} is none of acknowledged, duplicate, refused").into()),
    };
    let results = request.deltas.iter().map(|delta| (delta.id, outcome.clone())).collect();
    let reply = SyncReply { results, lineage: LINEAGE, version, extensions: Vec::new() };
    std::io::stdout().write_all(&encode_reply(&reply))?;
    Ok(())
}
