//! The commands of the binary, by what they print and by what they say when something is wrong.

use std::path::Path;
use std::process::{Command, Output};

fn trainer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearfield-trainer")).args(arguments).output().unwrap()
}

/// Writes events of people who go through a cycle of 24 items, each starting at a different item.
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
    let output = trainer(&[
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
        let output = trainer(&arguments);
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

#[test]
fn a_gate_lets_the_same_figures_through_and_ends_with_1_where_one_has_fallen() {
    let dir = tempfile::tempdir().unwrap();
    let (events, baseline) = (dir.path().join("events.csv"), dir.path().join("baseline.json"));
    cycle(&events);
    let evaluate = |more: &[&str]| {
        let mut arguments = vec!["evaluate", "--protocol", "stream", "--events", events.to_str().unwrap()];
        arguments.extend(["--dim", "8", "--json"]);
        arguments.extend(more);
        trainer(&arguments)
    };
    let first = evaluate(&[]);
    std::fs::write(&baseline, &first.stdout).unwrap();
    let gate = ["--gate", baseline.to_str().unwrap()];
    let output = evaluate(&gate);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches(": holds").count(), 4, "{text}");

    let mut better: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    let figure = better["novel"]["ndcg10"].as_f64().unwrap();
    let error = better["novel"]["ndcg10_se"].as_f64().unwrap();
    assert!(error > 0.0, "{better}");
    better["novel"]["ndcg10"] = (figure + 2.5 * error).into();
    std::fs::write(&baseline, better.to_string()).unwrap();
    let output = evaluate(&gate);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fallen by more than 2 standard errors: novel ndcg10"), "{text}");
    assert!(!output.stdout.is_empty(), "the report is printed all the same");

    let text = evaluate(&["--gate", "nowhere.json"]).stderr;
    assert!(String::from_utf8_lossy(&text).contains("cannot read nowhere.json"));
}

#[test]
fn a_training_prints_loss_and_held_out_figure_of_each_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events.csv");
    cycle(&events);
    let out = dir.path().join("model");
    let output = trainer(&[
        "train",
        "--events",
        events.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--dim",
        "8",
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let report = std::fs::read(out.join("train-report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let sweeps = report["held_out_sweeps"].as_array().unwrap();
    for sweep in sweeps {
        let [loss, ndcg] = ["loss", "ndcg"].map(|figure| sweep[figure].as_f64().unwrap());
        let line = format!("sweep {}: loss {loss:.5}, held-out NDCG {ndcg:.5}", sweep["sweep"]);
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(sweeps.len() as u64 >= report["sweeps"].as_u64().unwrap(), "{report}");
}

/// Writes factors of the cycle's items, two for each of the slowest waves around it; the last item has none.
fn circle(file: &Path, items: u32) {
    let mut text = String::from("item,a,b,c,d\n");
    for item in 0..items {
        let angle = f64::from(item) / 24.0 * std::f64::consts::TAU;
        text += &format!(
            "i{item},{},{},{},{}\n",
            angle.cos(),
            angle.sin(),
            (2.0 * angle).cos(),
            (2.0 * angle).sin()
        );
    }
    std::fs::write(file, text).unwrap();
}

#[test]
fn factors_from_elsewhere_become_a_model_that_says_how_good_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (events, factors, out) = (place("events.csv"), place("factors.csv"), place("model"));
    cycle(Path::new(&events));
    circle(Path::new(&factors), 23);
    let arguments = ["import", "--factors", &factors, "--events", &events, "--out", &out];
    let output = trainer(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let figure = |line: &str| -> f64 {
        let found =
            said.lines().find(|said| said.trim().starts_with(line)).unwrap_or_else(|| panic!("{said}"));
        found.split_whitespace().last().unwrap().parse().unwrap()
    };
    // Neighbours on the circle follow one another, so both know what comes next, by far better than by chance.
    assert!(figure("as given") > 0.3 && figure("as published") > 0.3, "{said}");
    assert!(figure("our own") > 0.0, "{said}");
    let model =
        nearfield_engine::Model::load(&std::fs::read(dir.path().join("model/model.pack")).unwrap()).unwrap();
    assert_eq!((model.dim(), model.len()), (4, 24), "the item without a factor has a row, too");

    std::fs::write(&factors, "item,a\nx,1\n").unwrap();
    let output = trainer(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no item of the events has a factor"), "{said}");
    std::fs::write(&factors, "item,a,b\ni0,1,2\ni1,1,x\n").unwrap();
    let said = String::from_utf8_lossy(&trainer(&arguments).stderr).into_owned();
    assert!(said.contains("line 3"), "{said}");
}
