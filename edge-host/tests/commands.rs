//! The program's commands beside serving.

use std::process::Command;

#[test]
fn a_command_runs_whatever_the_environment_says_about_serving() {
    let output = Command::new(env!("CARGO_BIN_EXE_nearfield-edge"))
        .arg("metrics")
        .envs([("NEARFIELD_SITE", "shop"), ("NEARFIELD_CENTRAL", "http://central.test")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("nearfield_edge_lists_total\tcounter\t"), "{text}");
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('\t').next()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "each once: {names:?}");
}
