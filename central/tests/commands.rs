//! The commands of the binary, by what they say when something is wrong.

mod common;

use common::{ITEMS, SITE, config, train};
use nearfield_central::Central;
use nearfield_central::merger::Merger;
use nearfield_engine::ModelVersion;
use std::path::Path;
use std::process::{Command, Output};

fn central(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearfield-central"))
        .args(arguments)
        .env("RUST_LOG", "error")
        .output()
        .unwrap()
}

fn import(data: &Path, file: &Path) -> Output {
    central(&[
        "catalog",
        "import",
        "--site",
        SITE,
        "--data",
        data.to_str().unwrap(),
        "--file",
        file.to_str().unwrap(),
    ])
}

/// Runs an import that must fail, and returns what it says after the file's name.
fn complaint(data: &Path, name: &str, text: &str) -> String {
    let file = data.join(name);
    std::fs::write(&file, text).unwrap();
    let output = import(data, &file);
    assert!(!output.status.success(), "{text:?} was taken");
    let said = String::from_utf8(output.stderr).unwrap();
    let (_, rest) = said.trim_end().split_once(&format!("{name}: ")).unwrap_or_else(|| panic!("{said}"));
    rest.to_owned()
}

#[test]
fn a_broken_catalogue_is_refused_by_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path());
    let said = |name: &str, text: &str| complaint(dir.path(), name, text);
    assert_eq!(
        said("a.csv", "sku,name\n1,Tent\n"),
        "column item_id is missing; the first line has sku, name"
    );
    assert_eq!(said("b.csv", "item_id,name\na,b\nc\n"), "line 3: 1 columns, the first line has 2");
    assert_eq!(said("c.json", r#"{"items":[{"name":"Tent"}]}"#), "items[0]: no text in field id");
    assert_eq!(said("d.txt", "item_id\na\n"), "the name must end in .csv or .json");
    assert!(!dir.path().join("store.redb").exists(), "a refused catalogue made a store");
}

#[test]
fn imported_items_come_with_the_next_version() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path());
    let file = dir.path().join("items.csv");
    std::fs::write(&file, "item_id,price\ni1,3\nnew-a,4\nnew-b,5\n").unwrap();
    let output = import(dir.path(), &file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "3 items named, 2 new; the next version tells of them\n"
    );

    let central = Central::open(config(dir.path())).unwrap();
    let refused = import(dir.path(), &file);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("is in use by a running server; stop it, or use its admin listener"), "{said}");
    central.writer.stop();
    drop(central);
    let (merger, _store) = Merger::open(dir.path(), SITE, 0).unwrap();
    assert_eq!((merger.model().version(), merger.model().len()), (ModelVersion(2), ITEMS as usize + 2));
}

#[test]
fn keys_are_made_once_and_printed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let first = central(&["keys", "init", "--data", data]);
    let second = central(&["keys", "init", "--data", data]);
    assert!(first.status.success() && second.status.success());
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(first.stdout, std::fs::read(dir.path().join("keys/online.pub")).unwrap());
    assert_eq!(first.stdout.len(), 65);
}

#[test]
fn serving_without_a_model_or_on_a_busy_port_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let output = central(&["serve", "--data", data, "--listen", "127.0.0.1:0"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("model.pack is missing: make it with nearfield-central train"), "{said}");

    train(dir.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = central(&["serve", "--data", data, "--listen", &address]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

/// Writes events of people who go through a cycle of 24 items, each from a place of the own.
fn cycle(file: &Path) {
    let mut text = String::from("user,item,timestamp\n");
    for person in 0..60u64 {
        for step in 0..10 {
            let time = 1_700_000_000 + person * 4_000 + step * 20;
            text += &format!("p{person},i{},{time}\n", (person * 5 + step) % 24);
        }
    }
    std::fs::write(file, text).unwrap();
}

#[test]
fn a_comparison_ranks_baselines_and_parts_on_the_same_targets_and_draws_them() {
    let dir = tempfile::tempdir().unwrap();
    let (events, plot) = (dir.path().join("events.csv"), dir.path().join("curves.svg"));
    cycle(&events);
    let output = central(&[
        "evaluate",
        "--protocol",
        "stream",
        "--events",
        events.to_str().unwrap(),
        "--dim",
        "8",
        "--compare",
        "--plot",
        plot.to_str().unwrap(),
        "--json",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let methods = |field: &str| -> Vec<serde_json::Value> { report[field].as_array().unwrap().clone() };
    let names: Vec<String> =
        methods("compare").iter().map(|method| method["method"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        names,
        [
            "Nearfield, model kept",
            "VMIS-kNN",
            "sequential rules",
            "iALS, folded in with recency",
            "iALS, folded in",
            "popularity"
        ]
    );
    for method in methods("compare").into_iter().chain(methods("parts")) {
        for targets in ["novel", "all"] {
            assert_eq!(method[targets]["n"], report[targets]["n"], "{method}");
            let number = |value: &serde_json::Value| value.as_f64().unwrap();
            let ahead = &method["nearfield_ahead"][targets];
            let difference = number(&report[targets]["hr10"]) - number(&method[targets]["hr10"]);
            assert!((number(&ahead["hr10"]) - difference).abs() < 1e-9, "{method}");
            let (n, hits) = (number(&method[targets]["n"]), number(&method[targets]["hr10"]));
            let error = (hits * (1.0 - hits) / (n - 1.0)).max(0.0).sqrt();
            assert!((number(&method[targets]["hr10_se"]) - error).abs() < 1e-9, "{method}");
            assert!(number(&ahead["hr10_se"]) >= 0.0, "{method}");
        }
    }
    // On a cycle the rules know the next item of everyone with some history.
    let rules = &methods("compare")[2];
    for bucket in rules["by_history"].as_array().unwrap().iter().filter(|bucket| bucket["history"] != "0") {
        let known = bucket["novel"]["n"] == 0 || bucket["novel"]["ndcg10"] == 1.0;
        assert!(known, "{bucket}");
    }
    assert!(report["lists"]["coverage"].as_f64().unwrap() > 0.9, "{}", report["lists"]);

    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.matches("<polyline").count() >= 7, "a line for each method");
    for name in names.iter().map(String::as_str).chain(["Nearfield", "events replayed"]) {
        assert!(svg.contains(name), "{name} is not written in the drawing");
    }
}

#[test]
fn a_comparison_is_refused_where_it_has_no_stream_or_no_svg() {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events.csv");
    cycle(&events);
    let said = |protocol: &str, more: &[&str]| {
        let mut arguments = vec!["evaluate", "--protocol", protocol, "--events", events.to_str().unwrap()];
        arguments.extend(more);
        let output = central(&arguments);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let text = said("loo", &["--compare"]);
    assert!(text.contains("--compare needs --protocol stream: its baselines learn from a stream"), "{text}");
    let text = said("stream", &["--compare", "--plot", "curves.png"]);
    assert!(text.contains("--plot curves.png: the name must end in .svg"), "{text}");
    let text = said("stream", &["--plot", "curves.svg"]);
    assert!(text.contains("--compare"), "{text}");
}
