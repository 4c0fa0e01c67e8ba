//! `cargo xtask doctor`: what is here, what is missing, and the command that would install it.

use std::process::ExitCode;

use crate::{deploy::tools::need_go, jars, step::first_line, tools, wasm_std};

/// One line of the report.
struct Finding {
    what: &'static str,
    /// What is here, or nothing.
    found: Option<String>,
    /// The command that would install it.
    remedy: String,
    /// What the remedy is: nothing to do by hand, or something.
    by_itself: bool,
}

/// Prints the report; fails when something is missing that xtask cannot install here.
pub(crate) fn run() -> ExitCode {
    let apt = tools::can_apt();
    let findings = [
        Finding {
            what: "Rust",
            found: first_line("rustc", &["--version"]),
            remedy: format!("rustup toolchain install {}", env!("CARGO_PKG_RUST_VERSION")),
            by_itself: false,
        },
        Finding {
            what: "rustfmt",
            found: first_line("cargo", &["fmt", "--version"]),
            remedy: "rustup component add rustfmt".to_owned(),
            by_itself: false,
        },
        Finding {
            what: "clippy",
            found: first_line("cargo", &["clippy", "--version"]),
            remedy: "rustup component add clippy".to_owned(),
            by_itself: false,
        },
        Finding {
            what: "wasm32 standard library",
            found: wasm_std::present().map(str::to_owned),
            remedy: if apt {
                "apt-get install rustc-web rust-web-src".to_owned()
            } else {
                format!("rustup target add {}", wasm_std::TARGET)
            },
            by_itself: true,
        },
        Finding {
            what: "Node.js 20 or newer, with npm",
            found: tools::need_node().is_ok().then(|| {
                let version = |program| first_line(program, &["--version"]).unwrap_or_default();
                format!("node {}, npm {}", version("node"), version("npm"))
            }),
            remedy: "install Node.js 20 or newer, with npm".to_owned(),
            by_itself: false,
        },
        Finding {
            what: "Chromium or Chrome",
            found: tools::CHROMIUM.find().map(|path| {
                let version = first_line(&path, &["--version", "--no-sandbox"]).unwrap_or_default();
                format!("{} {version}", path.display())
            }),
            remedy: "apt-get install chromium (or set NEARFIELD_CHROMIUM)".to_owned(),
            by_itself: apt,
        },
        Finding {
            what: "Firefox, for `cargo xtask test --only package --all`",
            found: tools::FIREFOX.find().map(|path| path.display().to_string()),
            remedy: "apt-get install firefox-esr (or set NEARFIELD_FIREFOX)".to_owned(),
            by_itself: apt,
        },
    ];
    let servers = nearfield_services::PROGRAMS.map(|(program, package)| Finding {
        what: program,
        found: tools::find(program).map(|path| path.display().to_string()),
        remedy: format!("apt-get install {package}"),
        by_itself: apt,
    });
    let mut blocked = false;
    for finding in findings.into_iter().chain(servers) {
        match finding.found {
            Some(found) => println!("✓ {}: {found}", finding.what),
            None if finding.by_itself => {
                println!("- {}: missing; the command that needs it runs `{}`", finding.what, finding.remedy);
            }
            None => {
                println!("✗ {}: missing; run `{}`", finding.what, finding.remedy);
                blocked = true;
            }
        }
    }
    let at = |program| tools::find(program).map(|path| path.display().to_string());
    let optional = [
        (
            "Java 17 or newer",
            jars::java_line(),
            "the tests of streams are skipped",
            "openjdk-17-jre-headless",
        ),
        ("Maven", at("mvn"), "the tests of streams are skipped", "maven"),
        ("Go 1.26 or newer", need_go().ok(), "the suite `deploy` is skipped", ""),
        ("promtool", at("promtool"), "the suite `deploy` fails", "prometheus"),
        ("Prometheus", at("prometheus"), "the tests of dashboards and alerts are skipped", "prometheus"),
        (
            "Alertmanager",
            at("prometheus-alertmanager"),
            "the tests of dashboards and alerts are skipped",
            "prometheus-alertmanager",
        ),
        ("etcd", at("etcd"), "`cargo xtask deploy --check --apiserver` does not run", "etcd-server"),
    ];
    for (what, found, without, package) in optional {
        match found {
            Some(found) => println!("✓ {what}: {found}"),
            None if package.is_empty() => println!("- {what}: missing; without it {without}"),
            None => println!("- {what}: missing; without it {without}; `apt-get install {package}`"),
        }
    }
    if blocked { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
