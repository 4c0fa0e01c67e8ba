//! The programs that check a deployment: built by Go, or installed by Python, in the versions that
//! `deploy/tools/` pins.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    paths,
    step::{Step, first_line},
};

/// The least Go that the pinned versions are built by.
const GO_MIN: (u32, u32) = (1, 26);

/// A program in Go.
#[derive(Clone, Copy)]
pub(crate) struct GoTool {
    /// Its folder in `deploy/tools/`.
    module: &'static str,
    package: &'static str,
}

/// Renders the chart.
pub(crate) const HELM: GoTool = GoTool { module: "helm", package: "helm.sh/helm/v3/cmd/helm" };
/// Judges what the chart makes.
pub(crate) const KUBE_SCORE: GoTool =
    GoTool { module: "kube-score", package: "github.com/zegl/kube-score/cmd/kube-score" };
/// What takes it in a cluster.
pub(crate) const KUBE_APISERVER: GoTool =
    GoTool { module: "kubernetes", package: "k8s.io/kubernetes/cmd/kube-apiserver" };
/// Calls an edge over gRPC.
pub(crate) const GHZ: GoTool = GoTool { module: "ghz", package: "github.com/bojand/ghz/cmd/ghz" };
/// Speaks with the API server.
pub(crate) const KUBECTL: GoTool = GoTool { module: "kubernetes", package: "k8s.io/kubernetes/cmd/kubectl" };

impl GoTool {
    fn name(self) -> &'static str {
        self.package.rsplit('/').next().unwrap_or(self.package)
    }

    /// Builds it, unless it was built from these very versions.
    ///
    /// # Errors
    /// When Go is missing or too old; the message names what to install.
    pub(crate) fn need(self) -> Result<PathBuf> {
        let module = pins().join(self.module);
        let wanted = std::fs::read(module.join("go.sum")).with_context(|| paths::short(&module))?;
        let folder = paths::target().join("tools");
        let program = folder.join("bin").join(self.name());
        let mark = folder.join(format!("{}.sum", self.name()));
        if program.is_file() && std::fs::read(&mark).is_ok_and(|built| built == wanted) {
            return Ok(program);
        }
        need_go()?;
        std::fs::create_dir_all(folder.join("bin"))?;
        Step::new(format!("{} from source", self.name()), "go")
            .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
            .args([program.as_os_str(), self.package.as_ref()])
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .directory(&module)
            .run()?;
        std::fs::write(mark, wanted)?;
        Ok(program)
    }
}

/// Returns the folders of the modules that bring definitions of custom resources: KEDA's and the
/// prometheus-operator's.
///
/// # Errors
/// When Go is missing or too old, or a module does not come.
pub(crate) fn definitions() -> Result<[PathBuf; 2]> {
    need_go()?;
    let done = Step::new("definitions of custom resources", "go")
        .args(["mod", "download", "-json"])
        .args(["github.com/kedacore/keda/v2", "github.com/prometheus-operator/prometheus-operator"])
        .env("GOTOOLCHAIN", "local")
        .directory(&pins().join("crds"))
        .run()?;
    let text = done.stdout.join("\n");
    let mut folders = serde_json::Deserializer::from_str(&text)
        .into_iter::<Value>()
        .filter_map(Result::ok)
        .filter_map(|module| module["Dir"].as_str().map(PathBuf::from));
    match (folders.next(), folders.next()) {
        (Some(keda), Some(operator)) => {
            Ok([keda.join("config/crd/bases"), operator.join("example/prometheus-operator-crd")])
        }
        _ => bail!("go mod download named no folders"),
    }
}

/// Go, new enough.
///
/// # Errors
/// The message names what to install.
pub(crate) fn need_go() -> Result<String> {
    let (major, minor) = GO_MIN;
    let Some(version) = first_line("go", &["env", "GOVERSION"]) else {
        bail!("go is missing: install Go {major}.{minor} or newer");
    };
    let mut numbers = version.trim_start_matches("go").split('.').map(|part| part.parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(found_major)), Some(Ok(found_minor))) if (found_major, found_minor) >= GO_MIN => Ok(version),
        _ => bail!("{version} is too old: install Go {major}.{minor} or newer"),
    }
}

/// Packages of Python, in an environment of their own.
#[derive(Clone, Copy)]
pub(crate) struct PythonTools {
    /// The file that pins them, in `deploy/`.
    requirements: &'static str,
    /// The folder of the environment, in `target/tools/`.
    environment: &'static str,
}

/// What checks the chart and the compose file.
pub(crate) const CHECKS: PythonTools =
    PythonTools { requirements: "tools/requirements.txt", environment: "python" };
/// locust.
pub(crate) const LOCUST: PythonTools =
    PythonTools { requirements: "load/requirements.txt", environment: "locust" };

impl PythonTools {
    /// Returns a program of theirs.
    ///
    /// # Errors
    /// When Python is missing, or a package does not come.
    pub(crate) fn need(self, program: &str) -> Result<PathBuf> {
        let environment = paths::target().join("tools").join(self.environment);
        let requirements = paths::root().join("deploy").join(self.requirements);
        let wanted = std::fs::read(&requirements).with_context(|| paths::short(&requirements))?;
        let mark = environment.join("requirements.txt");
        if !std::fs::read(&mark).is_ok_and(|installed| installed == wanted) {
            first_line("python3", &["--version"]).context(
                "python3 is missing: install Python 3.10 or newer (Debian: `apt-get install python3-venv`)",
            )?;
            Step::new("a Python environment", "python3").args(["-m", "venv"]).args([&environment]).run()?;
            Step::new(
                format!("Python packages of deploy/{}", self.requirements),
                environment.join("bin/python"),
            )
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .args([&requirements])
            .run()?;
            std::fs::write(mark, wanted)?;
        }
        Ok(environment.join("bin").join(program))
    }
}

fn pins() -> PathBuf {
    Path::new(&paths::root()).join("deploy/tools")
}
