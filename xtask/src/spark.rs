//! The Python package `nearfield-spark`: what it carries, the Spark that its tests run on, its wheel.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{
    jars, paths,
    step::{Step, first_line},
    wasm,
};

/// The schemas that the package carries.
const SCHEMAS: [&str; 1] = ["event.avsc"];

/// Builds the package's wheel, with the guest in it.
///
/// # Errors
/// When Python is missing, or a step fails.
pub(crate) fn wheel() -> Result<()> {
    wasm::build()?;
    carry()?;
    let (package, to) = (package(), package().join("dist"));
    Step::new("wheel nearfield-spark", python()?)
        .args(["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"])
        .args([&to, &package])
        .run()?;
    println!("{}", paths::short(&to));
    Ok(())
}

/// Gets Spark, its jars for Kafka and the package's guest in place; returns a test with the variables that name them.
///
/// # Errors
/// When Java, Maven or Python is missing; the message names what to install.
pub(crate) fn with_spark(test: Step) -> Result<Step> {
    carry()?;
    jars::SPARK.need()?;
    let python = python()?;
    let mark = environment().join("installed.toml");
    let wanted = std::fs::read(package().join("pyproject.toml"))?;
    if !std::fs::read(&mark).is_ok_and(|installed| installed == wanted) {
        // As it lies here, so that a change needs no further step.
        let what = format!("{}[redis,test]", package().display());
        Step::new("Spark and what nearfield-spark needs", &python)
            .args(["-m", "pip", "install", "--quiet", "--editable", &what])
            .run()?;
        std::fs::write(mark, wanted)?;
    }
    Ok(test.env("NEARFIELD_SPARK_PYTHON", python).env("NEARFIELD_SPARK_JARS", jars::SPARK.folder()))
}

/// Returns the package's own tests, which start no Spark.
///
/// # Errors
/// When Python is missing.
pub(crate) fn tests() -> Result<Step> {
    let tests = Step::new("pytest of nearfield-spark", python()?).args([
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
    ]);
    Ok(tests.args([package().join("tests")]))
}

/// Puts guest and schemas into the package.
fn carry() -> Result<()> {
    let inside = package().join("src/nearfield_spark");
    let guest = paths::guest();
    std::fs::copy(&guest, inside.join("nearfield_guest.wasm")).with_context(|| paths::short(&guest))?;
    std::fs::create_dir_all(inside.join("schemas"))?;
    for schema in SCHEMAS {
        std::fs::copy(paths::root().join("schemas").join(schema), inside.join("schemas").join(schema))?;
    }
    Ok(())
}

fn package() -> PathBuf {
    paths::root().join("spark")
}

fn environment() -> PathBuf {
    paths::target().join("spark/python")
}

/// Returns the Python of an environment of its own, made where it is missing.
fn python() -> Result<PathBuf> {
    let python = environment().join("bin/python");
    if !python.is_file() {
        first_line("python3", &["--version"]).context(
            "python3 is missing: install Python 3.10 or newer (Debian: `apt-get install python3-venv`)",
        )?;
        Step::new("a Python environment", "python3").args(["-m", "venv"]).args([&environment()]).run()?;
    }
    Ok(python)
}
