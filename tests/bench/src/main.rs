//! `nearfield-bench`: the engine on every host beside its peers, in interleaved rounds, every answer
//! checked. `cargo xtask bench` builds what it needs and starts it.
//!
//! Case → files → hosts → rounds of samples → medians → ratios → `docs/benchmarks.md`.

mod browsing;
mod cases;
mod deltas;
mod host;
mod ials;
mod report;
#[path = "../module/src/work.rs"]
mod work;

use anyhow::{Context, Result, ensure};
use cases::{Case, PEOPLE};
use clap::Parser;
use host::{Host, Native, Process, Wasmtime};
use indicatif::{ProgressBar, ProgressStyle};
use report::{Checked, Compared, Report, Row};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use work::{Operation, Visitors};

#[derive(Parser)]
#[command(about = "Times the engine on every host beside its peers")]
struct Args {
    /// The module that Node and Chromium run, as a page has it.
    #[arg(long)]
    module: PathBuf,
    /// The same as an edge host runs it
    #[arg(long)]
    edge_module: PathBuf,
    /// Folder of the JavaScript and Python runners.
    #[arg(long)]
    peers: PathBuf,
    /// Python with faiss, implicit and onnx.
    #[arg(long)]
    python: PathBuf,
    /// Folder for cases and trained packs.
    #[arg(long)]
    work: PathBuf,
    /// Train on these events (.csv, .csv.gz) and rank their catalogue too.
    #[arg(long)]
    events: Option<PathBuf>,
    /// Sweep over these pairs of people and items beside implicit (.csv, .csv.gz).
    #[arg(long, requires = "left_out")]
    pairs: Option<PathBuf>,
    /// The item that is left out of each person's pairs, and those that it is ranked among.
    #[arg(long)]
    left_out: Option<PathBuf>,
    /// Only the case of this name (real, gaussian, shop, million); nothing but its times.
    #[arg(long)]
    only: Option<String>,
    /// Fewer rounds, and no case of a million rows.
    #[arg(long)]
    quick: bool,
    /// What a page's load took, in Markdown.
    #[arg(long)]
    load: Option<PathBuf>,
    /// Write every median as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the page here, and its picture beside it [default: nowhere].
    #[arg(long)]
    page: Option<PathBuf>,
}

/// One thing that is timed in each round.
struct Timed {
    host: &'static str,
    method: &'static str,
    calls: usize,
}

const OWN_HOSTS: [&str; 4] = ["native", "wasmtime", "node", "chromium"];

fn methods(case: &Case) -> Vec<Timed> {
    let timed = |host, method, calls| Timed { host, method, calls };
    let own = |methods: &[(&'static str, usize)]| {
        let each = |host| methods.iter().map(move |(method, calls)| timed(host, method, *calls));
        OWN_HOSTS.into_iter().flat_map(each).collect::<Vec<_>>()
    };
    match case.name {
        "million" => own(&[("cold", 8), ("stream", 8)]),
        "shop" => {
            let mut all = own(&[("observe", PEOPLE), ("fold_in", PEOPLE), ("load", 2)]);
            all.extend([timed("node", "js_fold_in", 32), timed("chromium", "js_fold_in", 32)]);
            all
        }
        "real" | "gaussian" => {
            let mut all = own(&[("cold", PEOPLE), ("warm", PEOPLE)]);
            for host in ["node", "chromium"] {
                all.extend([timed(host, "onnx", 8), timed(host, "js_loop", 8)]);
            }
            all.extend(["faiss", "panorama", "implicit"].map(|method| timed("python", method, 16)));
            all
        }
        // Lists are only compared.
        _ => Vec::new(),
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let cases = cases(&args)?;
    let mut hosts = hosts(&args)?;
    let rounds = if args.quick { 5 } else { 21 };
    let mut report = Report::default();
    if let Some(file) = &args.load {
        let read = std::fs::read_to_string(file);
        report.load = Some(read.with_context(|| format!("cannot read {}", file.display()))?);
    }
    if let Some(only) = &args.only {
        ensure!(cases.iter().any(|case| case.name == only), "there is no case {only} (real needs --events)");
    }
    for case in cases.iter().filter(|case| args.only.as_ref().is_none_or(|only| case.name == only)) {
        run_case(case, &mut hosts, rounds, &mut report)?;
        if args.only.is_none() {
            report.compared.extend(compare(case, &mut hosts, args.quick)?);
        }
    }
    if args.only.is_none() {
        eprintln!("deltas and a publish");
        report.deltas = Some(deltas::measure(rounds)?);
        report.publish = Some(deltas::publish(if args.quick { 10_000 } else { 100_000 }, 3));
    }
    if let (None, Some(pairs), Some(left_out)) = (&args.only, &args.pairs, &args.left_out) {
        eprintln!("sweeps");
        let mut python = python(&args)?;
        report.swept =
            ials::measure(&mut python, &args.work, pairs, left_out, if args.quick { 1 } else { 5 })?;
    }
    println!("{}", report.table());
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(page) = &args.page {
        report.write_page(page)?;
    }
    Ok(())
}

fn cases(args: &Args) -> Result<Vec<Case>> {
    eprintln!("cases");
    let mut cases = Vec::new();
    if let Some(events) = &args.events {
        cases.push(Case::trained(&args.work, events, 64)?);
    }
    cases.push(Case::gaussian(&args.work, "gaussian", 100_000, 64, true)?);
    cases.push(Case::shop(&args.work, 10_000, 64)?);
    if !args.quick || args.only.is_some() {
        cases.push(Case::gaussian(&args.work, "million", 1_000_000, 64, false)?);
    }
    for (of, name) in [("real", "real_5000"), ("gaussian", "gaussian_5000")] {
        let of = cases.iter().find(|case| case.name == of);
        let first = of.map(|of| Case::first_rows(&args.work, of, name, 5_000)).transpose()?;
        cases.extend(first);
    }
    cases.push(Case::patched(&args.work, 5_000, 64)?);
    Ok(cases)
}

fn hosts(args: &Args) -> Result<BTreeMap<&'static str, Box<dyn Host>>> {
    let mut hosts: BTreeMap<&'static str, Box<dyn Host>> = BTreeMap::new();
    let script = |name: &str| args.peers.join(name);
    let node = |name: &'static str, file: &str| {
        Process::start(name, Path::new("node"), &[&script(file), &args.module])
    };
    hosts.insert("native", Box::new(Native::default()));
    hosts.insert("wasmtime", Box::new(Wasmtime::new(&args.edge_module)?));
    hosts.insert("node", Box::new(node("node", "node.mjs")?));
    hosts.insert("chromium", Box::new(node("chromium", "chromium.mjs")?));
    let mut python = python(args)?;
    for case in cases_with_graphs(&args.work) {
        python.ask::<Value>(&json!({"do": "export", "folder": case, "dim": 64}))?;
    }
    hosts.insert("python", Box::new(python));
    Ok(hosts)
}

fn python(args: &Args) -> Result<Process> {
    Process::start("python", &args.python, &[&args.peers.join("native.py")])
}

/// Folders whose factors want a graph for onnxruntime.
fn cases_with_graphs(root: &Path) -> Vec<PathBuf> {
    ["real", "gaussian"]
        .iter()
        .map(|name| root.join(name))
        .filter(|at| at.join("factors.f32").is_file())
        .collect()
}

fn run_case(
    case: &Case,
    hosts: &mut BTreeMap<&'static str, Box<dyn Host>>,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    eprintln!("{}", case.title);
    let methods = methods(case);
    let used: HashSet<&str> = methods.iter().map(|timed| timed.host).collect();
    for (name, host) in hosts.iter_mut().filter(|(name, _)| used.contains(**name)) {
        host.open(case).with_context(|| format!("{name} cannot open {}", case.name))?;
    }
    let checked = check(case, hosts, &methods)?;
    let style = ProgressStyle::with_template("  {bar:30} {pos}/{len} rounds, {eta} left")?;
    let bar = ProgressBar::new(rounds as u64).with_style(style);
    let mut samples: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for round in 0..=rounds {
        for (at, timed) in methods.iter().enumerate() {
            let host = hosts.get_mut(timed.host).with_context(|| format!("no host {}", timed.host))?;
            let times = host.time(timed.method, round * timed.calls, timed.calls)?;
            // The first round warms compilers and caches.
            if round > 0 {
                samples.entry(at).or_default().extend(times);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for (at, timed) in methods.iter().enumerate() {
        let row = Row::new(
            case,
            timed.host,
            timed.method,
            checked.get(&at).copied().unwrap_or_default(),
            samples.remove(&at).unwrap_or_default(),
        );
        report.rows.push(row);
    }
    Ok(())
}

/// Lists of changing length, scenario and filters on each host, compared with every row scored and sorted there.
/// Where the case has patches, they come between.
fn compare(
    case: &Case,
    hosts: &mut BTreeMap<&'static str, Box<dyn Host>>,
    quick: bool,
) -> Result<Vec<Compared>> {
    // Of each host but the native one 2,000 in all.
    let (native, elsewhere) = match case.name {
        "real" => (5_000, 200),
        "gaussian" => (1_000, 0),
        "real_5000" => (30_000, 600),
        "gaussian_5000" => (30_000, 400),
        "patched" => (40_000, 800),
        _ => return Ok(Vec::new()),
    };
    let mut all = Vec::new();
    for host in OWN_HOSTS {
        let lists = if host == "native" { native } else { elsewhere } / if quick { 10 } else { 1 };
        if lists == 0 {
            continue;
        }
        let at = hosts.get_mut(host).with_context(|| format!("no host {host}"))?;
        at.open(case)?;
        let parts = 1 + case.patches;
        let mut differing = 0;
        for part in 0..parts {
            differing += at.run(Operation::Differs, part * lists / parts, lists / parts)?;
            ensure!(at.run(Operation::Patch, 0, 1)? == 0, "a patch of {} does not apply", case.name);
        }
        ensure!(differing == 0, "{differing} of {lists} lists of {} differ on {host}", case.name);
        all.push(Compared { case: case.title.clone(), host, lists: parts * (lists / parts) });
    }
    Ok(all)
}

/// Compares lists: the engine's on every host with the native one to the bit, that one with every row
/// scored and sorted; the peers' with a scan in f64. Returns what it found of each method.
fn check(
    case: &Case,
    hosts: &mut BTreeMap<&'static str, Box<dyn Host>>,
    methods: &[Timed],
) -> Result<BTreeMap<usize, Checked>> {
    let people = if case.name == "million" { 2 } else { 8 };
    let mut checked: BTreeMap<usize, Checked> = BTreeMap::new();
    let truth = if case.peers { exact(case, people)? } else { Vec::new() };
    for (at, timed) in methods.iter().enumerate() {
        let own = matches!(timed.method, "cold" | "warm");
        let peer = matches!(timed.method, "onnx" | "js_loop" | "faiss" | "panorama" | "implicit");
        let (mut found, mut expected) = (0, 0);
        for person in 0..people {
            if !own && !peer {
                break;
            }
            let host = hosts.get_mut(timed.host).context("a host has gone")?;
            let list = host.list(timed.method, person)?;
            if let Some(share) = host.read() {
                *checked.entry(at).or_default().read.get_or_insert(0.0) += share / people as f64;
            }
            if peer {
                let best = truth.get(person).context("a peer has no exact list to compare with")?;
                found += list.rows.iter().filter(|row| best.contains(row)).count();
                expected += best.len();
            } else if timed.host != "native" {
                // Each host has done the same operations in the same order, so the states are equal.
                let native = &report_list(case, timed.method, person)?;
                ensure!(
                    list == *native,
                    "{} differs from a full scan: {} of {}, person {person}",
                    timed.host,
                    timed.method,
                    case.name
                );
            } else {
                let native = report_list(case, timed.method, person)?;
                ensure!(
                    list == native,
                    "the {} list of {} differs from a full scan, person {person}",
                    timed.method,
                    case.name
                );
            }
        }
        if peer {
            let recall = found as f64 / expected.max(1) as f64;
            ensure!(recall >= 0.99, "{} finds only {recall} of the best of {}", timed.method, case.name);
            checked.entry(at).or_default().recall = Some(recall);
        }
    }
    Ok(checked)
}

/// The list of a person with every row scored, nothing skipped. A warm list has one event more.
fn report_list(case: &Case, method: &str, person: usize) -> Result<host::List> {
    thread_local! {
        static MODEL: std::cell::RefCell<Option<(PathBuf, nearfield_engine::Model, Vec<work::Person>)>> = const { std::cell::RefCell::new(None) };
    }
    MODEL
        .with_borrow_mut(|kept| {
            if kept.as_ref().is_none_or(|(folder, ..)| *folder != case.folder) {
                let model = nearfield_engine::Model::load(&case.read("model.pack")?)?;
                let visitors: Visitors = postcard::from_bytes(&case.read("visitors.bin")?)?;
                *kept = Some((case.folder.clone(), model, visitors.people));
            }
            let (_, model, people) = kept.as_ref().context("no model")?;
            Ok(work::every_row(model, people, person, usize::from(method == "warm")))
        })
        .map(|list: Vec<(u32, u32)>| {
            let (rows, bits) = list.into_iter().unzip();
            host::List { rows, bits }
        })
}

/// The best 20 rows by a scan in f64.
fn exact(case: &Case, people: usize) -> Result<Vec<HashSet<u32>>> {
    let factors = case.numbers("factors.f32")?;
    let queries = case.numbers("queries.f32")?;
    let best = |query: &[f32]| {
        let dot =
            |row: &[f32]| row.iter().zip(query).map(|(q, p)| f64::from(*q) * f64::from(*p)).sum::<f64>();
        let mut scores: Vec<(f64, u32)> = factors.chunks_exact(case.dim).map(dot).zip(0..).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        scores.iter().take(work::COUNT as usize).map(|(_, row)| *row).collect()
    };
    Ok(queries.chunks_exact(case.dim).take(people).map(best).collect())
}
