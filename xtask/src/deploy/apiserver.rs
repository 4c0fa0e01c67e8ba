//! A real kube-apiserver, with the custom resources of KEDA and of the prometheus-operator, takes every rendering.
//!
//! It runs with an etcd of its own, on loopback, and nothing is ever scheduled: `--dry-run=server` goes through
//! decoding, defaulting, admission and validation, and stops before the object is kept.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nearfield_services::{Server, free_port};

use super::{
    chart,
    tools::{KUBE_APISERVER, KUBECTL, definitions},
};
use crate::{paths, step::Step, tools};

/// Longest wait for the server to be ready (choice: it takes some three seconds).
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The custom resources that the chart makes.
const DEFINED_BY_KEDA: [&str; 1] = ["keda.sh_scaledobjects.yaml"];
const DEFINED_BY_OPERATOR: [&str; 2] =
    ["monitoring.coreos.com_servicemonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml"];

/// Lets it take every rendering, in a namespace of the level `restricted`.
///
/// # Errors
/// When it refuses one, or takes one that is wrong on purpose.
pub(super) fn check() -> Result<()> {
    let [keda, operator] = definitions()?;
    let server = ApiServer::start()?;
    let definitions = DEFINED_BY_KEDA
        .iter()
        .map(|file| keda.join(file))
        .chain(DEFINED_BY_OPERATOR.iter().map(|file| operator.join(file)));
    for file in definitions {
        let title = format!("definition {}", file.file_stem().unwrap_or_default().to_string_lossy());
        server.kubectl(&title)?.args(["create", "--filename"]).args([&file]).run()?;
    }
    server
        .kubectl("definitions established")?
        .args(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"])
        .run()?;
    server.kubectl("namespace shop")?.args(["create", "namespace", "shop"]).run()?;
    // Its strictest level: whatever a pod would violate is a warning, and a warning is an error.
    server
        .kubectl("the level restricted")?
        .args(["label", "namespace", "shop", "pod-security.kubernetes.io/warn=restricted"])
        .run()?;
    let renderings = chart::renderings()?;
    for rendering in &renderings {
        let name = rendering.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        server.kubectl(&format!("kube-apiserver takes {name}"))?.args(apply(rendering)).run()?;
    }
    let wrong = paths::target().join("deploy/control.yaml");
    let text = std::fs::read_to_string(&renderings[0])?.replacen(
        "terminationGracePeriodSeconds: 60",
        "terminationGracePeriodSeconds: -1",
        1,
    );
    std::fs::write(&wrong, text)?;
    let output = server.command()?.args(apply(&wrong)).output()?;
    std::fs::remove_file(wrong)?;
    if output.status.success() {
        bail!("kube-apiserver took a negative terminationGracePeriodSeconds");
    }
    Ok(())
}

fn apply(file: &Path) -> Vec<String> {
    [
        "apply",
        "--namespace=shop",
        "--dry-run=server",
        "--validate=strict",
        "--warnings-as-errors",
        "--filename",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([file.display().to_string()])
    .collect()
}

/// A kube-apiserver that ends with this value.
struct ApiServer {
    child: Child,
    config: PathBuf,
    _etcd: Server,
}

impl ApiServer {
    fn start() -> Result<Self> {
        let program = KUBE_APISERVER.need()?;
        tools::find_or_install(|| tools::find("etcd"), &["etcd-server"])?
            .context("etcd is missing: run `apt-get install etcd-server` as root")?;
        let etcd = Server::etcd().context("etcd did not start")?;
        let folder = paths::target().join("deploy/apiserver");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let [key, tokens, config] =
            ["service-accounts.key", "tokens.csv", "kubeconfig"].map(|name| folder.join(name));
        Step::new("a key for service accounts", "openssl")
            .args(["genrsa", "-out"])
            .args([&key, Path::new("2048")])
            .run()?;
        std::fs::write(&tokens, "check,check,1,system:masters\n")?;
        let port = free_port()?;
        std::fs::write(
            &config,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: check\n\
                 clusters: [{{name: check, cluster: {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}}}]\n\
                 users: [{{name: check, user: {{token: check}}}}]\n\
                 contexts: [{{name: check, context: {{cluster: check, user: check}}}}]\n"
            ),
        )?;
        let log = File::create(folder.join("log"))?;
        let child = Command::new(program)
            .arg(format!("--etcd-servers=http://{}", etcd.endpoint()))
            .args(["--bind-address=127.0.0.1", &format!("--secure-port={port}")])
            .arg(format!("--cert-dir={}", folder.join("certificates").display()))
            .arg(format!("--token-auth-file={}", tokens.display()))
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .args([
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=AlwaysAllow",
            ])
            // Nobody makes the accounts' objects here, which is a controller's work.
            .args(["--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("kube-apiserver cannot be run")?;
        let mut server = Self { child, config, _etcd: etcd };
        server.wait(&folder)?;
        Ok(server)
    }

    fn wait(&mut self, folder: &Path) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        while !self.command()?.args(["get", "--raw", "/readyz"]).output()?.status.success() {
            if self.child.try_wait()?.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(10).collect();
                bail!("kube-apiserver is not ready; its log ends, last line first:\n{}", last.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(KUBECTL.need()?);
        command.arg("--kubeconfig").arg(&self.config).stdin(Stdio::null());
        Ok(command)
    }

    fn kubectl(&self, title: &str) -> Result<Step> {
        Ok(Step::new(title, KUBECTL.need()?).args([Path::new("--kubeconfig"), &self.config]))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
