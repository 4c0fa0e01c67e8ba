//! The images: the build steps of `deploy/images/Containerfile`, run in an empty directory where no engine is needed,
//! and what they leave, run on an empty file system by somebody without rights.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    paths,
    step::{Step, first_line},
};

/// The stage whose steps are run; those before it install what is here already.
const BUILD: &str = "build";

/// Who runs the programs.
const USER: u32 = 65532;

/// Runs the steps, and the programs.
///
/// # Errors
/// The first step that fails, or a program that needs what its image does not have.
pub(super) fn check() -> Result<()> {
    let file = paths::root().join("deploy/images/Containerfile");
    let steps = steps_of(&std::fs::read_to_string(&file)?, BUILD)?;
    let folder = paths::target().join("deploy/image");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let source = folder.join("source");
    for step in steps {
        match step {
            BuildStep::Copy => copy_context(&source)?,
            BuildStep::Run(command) => {
                Step::new(format!("image: {}", short(&command)), "sh")
                    .args(["-e", "-c", &command])
                    .directory(&source)
                    // Beside the other artefacts, so that crates are compiled once.
                    .env("CARGO_TARGET_DIR", paths::target().join("images"))
                    .run()?;
            }
        }
    }
    run_in_images(&source.join("image"))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

enum BuildStep {
    /// `COPY . .`
    Copy,
    Run(String),
}

/// Returns the steps of a stage.
fn steps_of(containerfile: &str, stage: &str) -> Result<Vec<BuildStep>> {
    let joined = containerfile.replace("\\\n", " ");
    let mut lines = joined.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .find(|line| line.starts_with("FROM ") && line.ends_with(&format!(" AS {stage}")))
        .with_context(|| format!("there is no stage {stage}"))?;
    let mut steps = Vec::new();
    for line in lines.take_while(|line| !line.starts_with("FROM ")) {
        match line.split_once(' ') {
            Some(("RUN", command)) => steps.push(BuildStep::Run(command.trim().to_owned())),
            Some(("COPY", ". .")) => steps.push(BuildStep::Copy),
            Some(("WORKDIR", _)) | None => {}
            Some((other, _)) => bail!("{other} is not known in stage {stage}"),
        }
    }
    Ok(steps)
}

/// Copies what the image's build is sent: what is checked in or new, but nothing that is ignored.
fn copy_context(to: &Path) -> Result<()> {
    let done = Step::new("image: files of the context", "git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .run()?;
    for name in done.stdout {
        let (from, to) = (paths::root().join(&name), to.join(&name));
        // One that was deleted and not yet committed.
        if !from.is_file() {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| name.clone())?;
    }
    Ok(())
}

/// Runs both programs on their images' file systems, as the images' user: central makes keys, and the edge serves,
/// looks central up by its name, and does without it.
fn run_in_images(images: &Path) -> Result<()> {
    if first_line("id", &["-u"]).as_deref() != Some("0") {
        eprintln!("- the programs were not run on their images' file systems, which only root can do");
        return Ok(());
    }
    for image in ["central", "edge"] {
        let root = images.join(image);
        let certificates = root.join("etc/ssl/certs");
        std::fs::create_dir_all(&certificates)?;
        std::fs::copy(
            images.join("certificates/ca-certificates.crt"),
            certificates.join("ca-certificates.crt"),
        )?;
        // What a container gets from its engine.
        std::fs::write(root.join("etc/hosts"), "127.0.0.1 central.test\n")?;
        std::os::unix::fs::chown(root.join("data"), Some(USER), Some(USER))?;
        let bytes = std::fs::metadata(root.join(format!("nearfield-{image}")))?.len();
        println!("image {image}: {:.1} MB", bytes as f64 / 1e6);
    }
    let made = in_image(&images.join("central"), "nearfield-central", &["keys", "init", "--data=/data"])?
        .output()?;
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    ensure!(
        made.status.success() && key.len() == 64,
        "central makes no keys: {}",
        String::from_utf8_lossy(&made.stderr)
    );

    let mut edge = in_image(
        &images.join("edge"),
        "nearfield-edge",
        &[
            "--insecure",
            "--data=/data",
            "--site=check",
            &format!("--public-key={key}"),
            "--central=http://central.test:9",
            "--wait-for-model",
            // Beside the program, which asks /proc where it is; an engine brings that.
            "--guest=/nearfield_guest.wasm",
            &format!("--listen=127.0.0.1:{}", nearfield_services::free_port()?),
        ],
    )?
    .stdout(Stdio::piped())
    .spawn()?;
    let mut line = String::new();
    if let Some(output) = edge.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    edge.kill()?;
    edge.wait()?;
    ensure!(line.starts_with("listening http://"), "the edge does not serve from its image: {line:?}");
    Ok(())
}

fn in_image(root: &Path, program: &str, arguments: &[&str]) -> Result<Command> {
    ensure!(root.join(program).is_file(), "{} has no {program}", root.display());
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={USER}:{USER}")).arg(root).arg(format!("/{program}")).args(arguments);
    command.stdin(Stdio::null());
    Ok(command)
}

fn short(command: &str) -> String {
    let first: Vec<&str> = command.split_whitespace().take(5).collect();
    first.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_stage_are_read() {
        let file = "FROM a AS tools\nRUN x\nFROM tools AS build\nWORKDIR /s\nCOPY . .\n# why\nRUN a \\\n && b\nFROM scratch\nRUN c\n";
        let steps = steps_of(file, "build").unwrap();
        let [BuildStep::Copy, BuildStep::Run(command)] = &steps[..] else { panic!("{} steps", steps.len()) };
        assert_eq!(command.split_whitespace().collect::<Vec<_>>(), ["a", "&&", "b"]);
        assert!(steps_of(file, "none").is_err());
        assert!(steps_of("FROM a AS build\nADD x y\n", "build").is_err());
    }
}
