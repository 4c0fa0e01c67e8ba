//! What is in Java, servers and JMeter, and what Spark needs to speak with one: their jars, copied by Maven as `deploy/services/`
//! names them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nearfield_services::{STREAMS_OFF, jars_folder};

use crate::{
    paths,
    step::{Step, first_line},
    tools,
};

/// The least Java that Kafka runs on.
const JAVA_MIN: u32 = 17;

/// A server in Java.
#[derive(Clone, Copy)]
pub(crate) struct Jars {
    server: &'static str,
    /// What Maven does with the packages.
    goal: &'static str,
}

/// Kafka.
pub(crate) const KAFKA: Jars = Jars { server: "kafka", goal: "dependency:copy-dependencies" };
/// The Apicurio registry, which comes as an archive.
pub(crate) const APICURIO: Jars = Jars { server: "apicurio", goal: "dependency:unpack-dependencies" };

/// JMeter, laid out as its own archive is.
pub(crate) const JMETER: Jars = Jars { server: "jmeter", goal: "package" };
/// What Spark speaks with Kafka by.
pub(crate) const SPARK: Jars = Jars { server: "spark", goal: "dependency:copy-dependencies" };

impl Jars {
    /// Where they are.
    pub(crate) fn folder(self) -> PathBuf {
        jars_folder(self.server)
    }

    /// Copies the jars, unless those that the checked-in file names are there.
    ///
    /// # Errors
    /// When Java or Maven is missing; the message names what to install.
    pub(crate) fn need(self) -> Result<()> {
        need_java()?;
        let folder = jars_folder(self.server);
        let pom = paths::root().join("deploy/services").join(self.server).join("pom.xml");
        let wanted = std::fs::read(&pom).with_context(|| paths::short(&pom))?;
        // The file itself is the mark: it is copied last.
        let mark = folder.join("pom.xml");
        if std::fs::read(&mark).is_ok_and(|copied| copied == wanted) {
            return Ok(());
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let (mvn, folder) = (need_maven()?, std::path::absolute(&folder)?);
        Step::new(format!("{} from Maven", self.server), mvn)
            .args(["-q", "-B", "-f"])
            .args([&pom])
            .args([self.goal, "-DincludeScope=runtime"])
            .args([format!("-DoutputDirectory={}", folder.display())])
            // What Maven notes of its work goes when the folder goes.
            .args([format!("-DmarkersDirectory={}", folder.join("markers").display())])
            .run()?;
        std::fs::write(mark, wanted)?;
        Ok(())
    }
}

/// Gets what the tests of streams need. Returns what to set for the tests where they are to leave streams out.
///
/// # Errors
/// When something that could be had did not come.
pub(crate) fn for_tests() -> Result<Option<(&'static str, &'static str)>> {
    if let Err(missing) = need_java().and_then(|_| need_maven()) {
        eprintln!("SKIPPED: the tests of streams. {missing}");
        return Ok(Some((STREAMS_OFF, "1")));
    }
    KAFKA.need()?;
    APICURIO.need()?;
    Ok(None)
}

/// Returns the version of a Java that is new enough.
///
/// # Errors
/// The message names what to install.
pub(crate) fn need_java() -> Result<String> {
    let found = tools::find_or_install(java, &["openjdk-17-jre-headless"])?;
    let Some((line, version)) = found else {
        bail!(
            "java is missing: install Java {JAVA_MIN} or newer (Debian: `apt-get install openjdk-17-jre-headless`)"
        );
    };
    if version < JAVA_MIN {
        bail!("{line} is too old: install Java {JAVA_MIN} or newer");
    }
    Ok(line)
}

/// Returns Maven.
///
/// # Errors
/// The message names what to install.
pub(crate) fn need_maven() -> Result<PathBuf> {
    tools::find_or_install(|| tools::find("mvn"), &["maven"])?
        .context("mvn is missing: install Maven (Debian: `apt-get install maven`)")
}

/// What Java says of itself, where it is new enough.
pub(crate) fn java_line() -> Option<String> {
    java().filter(|(_, version)| *version >= JAVA_MIN).map(|(line, _)| line)
}

/// The first line that Java says of itself, and its version.
fn java() -> Option<(String, u32)> {
    let line = first_line("java", &["--version"])?;
    let version = line.split(' ').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()?;
    Some((line, version))
}
