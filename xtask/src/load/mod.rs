//! `cargo xtask load`: the knees of edge and central, by our own generator and by the tools of `deploy/load`, and what
//! a user, an item, an event and a delta take.
//!
//! Package, guest, servers and generator in the release profile → locust (PyPI), JMeter (Maven), ghz (Go), Kafka (Maven)
//! → `nearfield-load knee` and `nearfield-load size`, which start them all and measure → `docs/load.md` and
//! `docs/sizing.md`.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    bench::edge,
    deploy::tools::{GHZ, LOCUST},
    jars, paths,
    step::first_line,
    tools,
};

/// The pages, but for what is measured.
const LOAD: &str = include_str!("load.md");
const SIZING: &str = include_str!("sizing.md");

/// What stands before Kafka's version.
const KAFKA: &str = "<artifactId>kafka_2.13</artifactId>\n      <version>";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each tool, and for each thing that our own generator asks
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(10..=3600))]
    seconds: u32,
    /// Only one page
    #[arg(long, value_enum)]
    only: Option<Page>,
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Page {
    /// The knees: docs/load.md
    Load,
    /// What things take: docs/sizing.md
    Sizing,
}

/// Measures, and writes the pages.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a step fails.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    tools::need_node()?;
    tools::need_servers()?;
    jars::KAFKA.need()?;
    let built = edge::build()?;
    let table = built.work.join("load.md");
    if options.only != Some(Page::Sizing) {
        jars::JMETER.need()?;
        let (locust, ghz) = (LOCUST.need("locust")?, GHZ.need()?);
        let (seconds, picture) = (options.seconds.to_string(), built.work.join("load.svg"));
        edge::generator("the knees of edge and central", &built, &table)
            .args(["--picture".as_ref(), picture.as_os_str()])
            .args(["knee", "--seconds", &seconds, "--plans"])
            .args([paths::root().join("deploy/load")])
            .args(["--locust".as_ref(), locust.as_os_str(), "--ghz".as_ref(), ghz.as_os_str()])
            .args(["--jmeter".as_ref(), jars::JMETER.folder().as_os_str()])
            .args(["--package".as_ref(), paths::package().as_os_str()])
            .passed_through()
            .run()?;
        write("load.md", &page(&LOAD.replace("{seconds}", &seconds), &table)?)?;
        std::fs::copy(&picture, paths::root().join("docs/load.svg")).context("cannot write docs/load.svg")?;
    }
    if options.only != Some(Page::Load) {
        edge::generator("what things take", &built, &table).args(["size"]).passed_through().run()?;
        write("sizing.md", &page(SIZING, &table)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(name: &str, page: &str) -> Result<()> {
    let file = paths::root().join("docs").join(name);
    std::fs::write(&file, page).with_context(|| format!("cannot write {}", paths::short(&file)))
}

fn page(template: &str, table: &Path) -> Result<String> {
    let table = std::fs::read_to_string(table).with_context(|| paths::short(table))?;
    filled(template, &table)
}

fn filled(template: &str, table: &str) -> Result<String> {
    let page = template.replace("{machine}", &machine()?).replace("{versions}", &versions()?);
    Ok(page.replace("{table}", table.trim_end()))
}

/// The machine, in words.
fn machine() -> Result<String> {
    let field = |file: &str, name: &str| -> Result<String> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        Ok(line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned()))
    };
    let processors = std::thread::available_parallelism()?;
    let memory = field("/proc/meminfo", "MemTotal")?;
    let kib: f64 = memory.trim_end_matches(" kB").parse().context("/proc/meminfo has the memory")?;
    let system = first_line("uname", &["-sr"]).unwrap_or_default();
    let name = field("/proc/cpuinfo", "model name")?;
    Ok(format!("{processors} processors ({name}), {:.0} GiB, {system}", kib / 1024.0 / 1024.0))
}

/// The versions of everything that was measured or measured with, in words.
fn versions() -> Result<String> {
    let deploy = paths::root().join("deploy");
    let pinned = |file: &str, before: &str, after: char| pinned(&deploy.join(file), before, after);
    let pinned = [
        format!("Nearfield {}", env!("CARGO_PKG_VERSION")),
        format!("locust {}", pinned("load/requirements.txt", "locust==", '\n')?),
        format!("JMeter {}", pinned("services/jmeter/pom.xml", "<jmeter.version>", '<')?),
        format!("ghz {}", pinned("tools/ghz/go.mod", "github.com/bojand/ghz v", ' ')?),
        format!("Kafka {}", pinned("services/kafka/pom.xml", KAFKA, '<')?),
    ];
    let said = [("Redis", "redis-server"), ("Node", "node"), ("", "java"), ("", "rustc")]
        .into_iter()
        .filter_map(|(name, program)| {
            let line = first_line(program, &["--version"])?;
            let version = line.trim_start_matches("Redis server v=").trim_start_matches('v');
            let version = version.split(" sha=").next().unwrap_or_default();
            Some(format!("{name} {version}").trim().to_owned())
        });
    Ok(pinned.into_iter().chain(said).collect::<Vec<_>>().join(", "))
}

/// What stands in a file between two marks.
fn pinned(file: &Path, before: &str, after: char) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| paths::short(file))?;
    let rest = text.split_once(before).and_then(|(_, rest)| rest.split(after).next());
    Ok(rest.with_context(|| format!("{} pins no {before}", paths::short(file)))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_name_machine_and_versions() -> Result<()> {
        let load = filled(&LOAD.replace("{seconds}", "30"), "| a table |")?;
        for name in
            ["Nearfield 0.", "locust 2.", "JMeter 5.", "ghz 0.", "Kafka 4.", "--seconds 30", "| a table |"]
        {
            assert!(load.contains(name), "no {name} in {load}");
        }
        let sizing = filled(SIZING, "| a table |")?;
        let places = ["{machine}", "{versions}", "{table}", "{seconds}"];
        assert!(
            places.iter().all(|place| !load.contains(place) && !sizing.contains(place)),
            "{load}{sizing}"
        );
        Ok(())
    }
}
