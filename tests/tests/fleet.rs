//! Two edges and one central, as real processes: what one edge's people do, the other edge's
//! people profit from; central may be killed at any moment.

mod support;

use serde_json::Value;
use std::fs;
use support::{Fleet, run, write_events};

fn items(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no items in {list}"));
    items.iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn one_edges_people_teach_the_others_and_a_killed_central_loses_nothing() {
    let fleet = Fleet::trained();
    let central = fleet.central();
    let (_north, north) = fleet.edge("north");
    let (_south, south) = fleet.edge("south");
    let central_metrics = format!("http://{}", fleet.metrics);
    let before = fleet.list(&south, "newcomer").await;
    assert_eq!(before["model_version"], 1);

    // A fashion that training never saw: who takes i1 takes i38 next. Three people in the north.
    for person in 0..3 {
        let pair = (0..20).map(|step| if step % 2 == 0 { "i1".into() } else { "i38".into() });
        fleet.send(&north, &format!("n{person}"), pair).await;
    }
    fleet.reaches(&central_metrics, "nearfield_deltas_acknowledged_total", 3).await;
    fleet.reaches(&south, "nearfield_edge_model_version", 2).await;
    fleet.send(&south, "newcomer", ["i1".to_owned()].into_iter()).await;
    let taught = fleet.list(&south, "newcomer").await;
    assert!(items(&taught).contains(&"i38".to_owned()), "the south follows the north's fashion: {taught}");

    // SIGKILL, in the middle of it all.
    drop(central);
    let alone = fleet.list(&north, "n0").await;
    assert_eq!(items(&alone).len(), 10, "an edge serves on without central");
    fleet.send(&north, "later", (0..20).map(|step| format!("i{}", step * 2))).await;
    let changed = fleet.list(&north, "later").await;
    assert_ne!(items(&changed), items(&alone));

    let version_before = fleet.metric(&north, "nearfield_edge_model_version").await;
    let _central = fleet.central();
    let version_after = fleet.metric(&central_metrics, "nearfield_model_version").await;
    assert!(
        version_after >= version_before,
        "version {version_before} was published, {version_after} came back"
    );
    fleet.reaches(&central_metrics, "nearfield_deltas_acknowledged_total", 1).await;
    fleet.reaches(&north, "nearfield_edge_model_version", version_before + 1).await;
    assert_eq!(
        fleet.metric(&central_metrics, "nearfield_deltas_duplicate_total").await,
        0,
        "nothing came twice"
    );
    fleet.send(&south, "second", ["i1".to_owned()].into_iter()).await;
    let kept = fleet.list(&south, "second").await;
    assert!(items(&kept).contains(&"i38".to_owned()), "what was acknowledged before the kill is still known");
}

#[test]
fn a_broken_file_of_events_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.csv");
    let cases = [
        ("user,thing,timestamp\na,b,1\n", "column \"item\" is missing"),
        ("user,item,timestamp\na,b,1\na,b,noon\n", "line 3, timestamp"),
        ("user,item,timestamp\na,b,1\n", "training has 1 events, at least 100 are needed"),
    ];
    for (text, reason) in cases {
        fs::write(&file, text).unwrap();
        let out = folder.path().join("out");
        let output = run(
            "nearfield-trainer",
            &["train", "--events", file.to_str().unwrap(), "--out", out.to_str().unwrap()],
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(reason), "expected {reason:?} in {said:?}");
        assert!(!out.join("model.pack").exists(), "nothing is written after an error");
    }
}

#[test]
fn the_trained_model_does_not_depend_on_what_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let train = |name: &str, poison: bool| {
        let file = folder.path().join(format!("{name}.csv"));
        write_events(&file);
        if poison {
            let text = fs::read_to_string(&file).unwrap();
            let half = text.lines().count() / 2 + 1;
            let lines = text.lines().enumerate().map(|(at, line)| {
                if at < half { line.to_owned() } else { format!("u{at},i{},{}", at % 7, 1_800_000_000 + at) }
            });
            fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
        }
        let out = folder.path().join(name);
        let output = run(
            "nearfield-trainer",
            &[
                "train",
                "--events",
                file.to_str().unwrap(),
                "--out",
                out.to_str().unwrap(),
                "--until-fraction",
                "0.5",
                "--dim",
                "8",
                "--lineage",
                "0000000000000001",
            ],
        );
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(out.join("model.pack")).unwrap()
    };
    assert_eq!(train("honest", false), train("poisoned", true), "the second half was looked at");
}
