//! The commands of the binary, by what they say when something is wrong.

mod common;

use common::{ITEMS, SITE, config, train};
use nearfield_central::Service;
use nearfield_central::merge::replay::open;
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
        "3 items named, 2 new; the next version contains them\n"
    );

    let central = Service::open(config(dir.path())).unwrap();
    let refused = import(dir.path(), &file);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("is in use by a running server; stop it, or use its admin listener"), "{said}");
    central.queue.stop();
    drop(central);
    let (merger, _store) = open(dir.path(), SITE).unwrap();
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
    assert!(said.contains("model.pack is missing: make it with nearfield-trainer train"), "{said}");

    train(dir.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = central(&["serve", "--data", data, "--listen", &address]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}
