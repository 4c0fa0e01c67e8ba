//! The servers, as processes of their own, and what they cost.

use crate::Args;
use crate::shop::{self, Shop};
use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nearfield_engine::{Model, Statistics};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for a server to listen: an edge fetches its model and compiles its core first.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Ticks of the clock that the system counts processors' time in (Linux: always 100).
const TICKS_A_SECOND: f64 = 100.0;

/// A process that listens, and ends with this value.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its metrics are.
    pub(crate) metrics: SocketAddr,
    /// Its folder.
    pub(crate) folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is fine: that is what the drop is for.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Server {
    /// Starts a program in a folder, its output in a file there, and waits until it has said that it is `ready`.
    fn start(
        mut command: Command,
        folder: PathBuf,
        [address, metrics]: [SocketAddr; 2],
        ready: &str,
    ) -> Result<Self> {
        let log = folder.join("log.txt");
        let output = File::create(&log)?;
        command.current_dir(&folder).env("RUST_LOG", "warn");
        command.stdout(Stdio::from(output.try_clone()?)).stderr(Stdio::from(output));
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("{program} does not start"))?;
        let mut server = Self { child, address, metrics, folder };
        let until = Instant::now() + READY_WITHIN;
        loop {
            let said = fs::read_to_string(&log)?;
            if said.contains(ready) && TcpStream::connect(address).is_ok() {
                break;
            }
            let ended = server.child.try_wait()?.is_some();
            ensure!(!ended && Instant::now() < until, "{program} does not listen: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Processors' time of the process until now, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.child.id())
    }

    /// Memory of the process now, in MB.
    pub(crate) fn memory_mb(&self) -> Result<f64> {
        Ok(memory_bytes(self.child.id())? / 1e6)
    }

    /// Returns the value of a metric, by its name and labels as they are exposed; 0 where it is not there yet.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let answer = client.get(format!("http://{}/metrics", self.metrics).parse()?).await?;
        let text = answer.into_body().collect().await?.to_bytes();
        let text = std::str::from_utf8(&text)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(Ok(0.0), str::parse).context("a metric is no number")
    }
}

/// Memory of a process now, in bytes.
pub(crate) fn memory_bytes(pid: u32) -> Result<f64> {
    let text = proc(pid, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    Ok(kib.context("a process's status has its memory")? * 1024.0)
}

/// Processors' time of this process until now, in seconds.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    cpu_seconds(std::process::id())
}

/// Processors' time of the processes that this one has started and seen end, in seconds.
pub(crate) fn ended_cpu_seconds() -> Result<f64> {
    ticks(std::process::id(), [13, 14])
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    ticks(pid, [11, 12])
}

/// The sum of two cells of a process's stat that count ticks of user and system, in seconds.
fn ticks(pid: u32, places: [usize; 2]) -> Result<f64> {
    let text = proc(pid, "stat")?;
    // The name, in parentheses, may hold blanks.
    let (_, cells) = text.rsplit_once(')').context("a process's stat has a name")?;
    let cells: Vec<&str> = cells.split_whitespace().collect();
    let [user, system] = places.map(|at| cells.get(at).and_then(|cell| cell.parse::<f64>().ok()));
    let (user, system) = user.zip(system).context("a process's stat has its time")?;
    Ok((user + system) / TICKS_A_SECOND)
}

fn proc(pid: u32, name: &str) -> Result<String> {
    let file = format!("/proc/{pid}/{name}");
    fs::read_to_string(&file).with_context(|| format!("{file}: the bench reads it on Linux"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, place) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if entry.is_dir() {
            copy(&entry, &place)?;
        } else {
            fs::copy(&entry, &place)?;
        }
    }
    Ok(())
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A trained shop and what serves it.
pub(crate) struct Site<'a> {
    programs: &'a Path,
    guest: &'a Path,
    /// Where everything is kept, as long as this.
    folder: TempDir,
}

impl<'a> Site<'a> {
    /// Trains a shop, and returns what serves it.
    pub(crate) fn open(args: &'a Args, shop: &Shop) -> Result<Self> {
        let site = Self { programs: &args.programs, guest: &args.guest, folder: tempfile::tempdir()? };
        site.train(shop, &args.work)?;
        Ok(site)
    }

    /// Returns what serves a model.
    pub(crate) fn of(args: &'a Args, model: &Model, statistics: &Statistics) -> Result<Self> {
        let site = Self { programs: &args.programs, guest: &args.guest, folder: tempfile::tempdir()? };
        let central = site.folder.path().join("central");
        fs::create_dir_all(&central)?;
        fs::write(central.join("model.pack"), model.to_pack())?;
        fs::write(central.join("statistics.bin"), statistics.to_bytes())?;
        Ok(site)
    }

    /// Gives central the shop's model, trained in `work` where that has none: a training takes minutes.
    fn train(&self, shop: &Shop, work: &Path) -> Result<()> {
        let trained = work.join(format!("central-{}", shop::ITEMS));
        if !trained.is_dir() {
            eprintln!("a model of the shop, once");
            // In its place only when it is whole.
            let unfinished = work.join("unfinished");
            self.run_trainer(shop, &unfinished)?;
            fs::rename(&unfinished, &trained)?;
        }
        copy(&trained, &self.folder.path().join("central"))
    }

    fn run_trainer(&self, shop: &Shop, folder: &Path) -> Result<()> {
        let events = self.folder.path().join("events.csv");
        fs::write(&events, &shop.events)?;
        let out = Command::new(self.programs.join("nearfield-trainer"))
            .args(["train", "--dim", "64", "--events"])
            .arg(&events)
            .arg("--out")
            .arg(folder)
            .output()
            .context("nearfield-trainer does not start")?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }

    /// Starts central.
    pub(crate) fn central(&self) -> Result<Server> {
        // It takes deltas all the time; a publish would take the processors from whatever is measured then.
        self.central_with(&["--publish-every-ms", "86400000", "--publish-deltas", "1000000"])
    }

    /// Starts central for devices that send as fast as they can, and says when it publishes.
    pub(crate) fn central_for_devices(&self, every_ms: u32, deltas: usize) -> Result<Server> {
        let (every_ms, deltas) = (every_ms.to_string(), deltas.to_string());
        let publish = ["--publish-every-ms", &every_ms, "--publish-deltas", &deltas];
        self.central_with(&[&publish[..], &["--syncs-per-token", "0"]].concat())
    }

    /// Starts what any server of this stack could do, see `nearfield-limits`.
    pub(crate) fn limits(&self, answer_bytes: usize) -> Result<Server> {
        let folder = self.folder.path().join("limits");
        fs::create_dir_all(&folder)?;
        let address = free()?;
        let mut command = Command::new(self.programs.join("nearfield-limits"));
        command.args([
            "--listen",
            &address.to_string(),
            "--answer-bytes",
            &answer_bytes.to_string(),
            "--data",
        ]);
        command.arg(folder.join("limits.redb"));
        Server::start(command, folder, [address; 2], "listening ")
    }

    /// Returns the model that was trained.
    pub(crate) fn model(&self) -> Result<Model> {
        Ok(Model::load(&fs::read(self.folder.path().join("central/model.pack"))?)?)
    }

    /// Returns central's public key, in hexadecimal digits.
    pub(crate) fn public_key(&self) -> Result<String> {
        let file = self.folder.path().join("central/keys/online.pub");
        Ok(fs::read_to_string(file)?.trim().to_owned())
    }

    /// Starts central with further arguments.
    fn central_with(&self, more: &[&str]) -> Result<Server> {
        let (address, metrics) = (free()?, free()?);
        let mut command = Command::new(self.programs.join("nearfield-central"));
        command.args(["serve", "--site", "shop", "--trusted", "127.0.0.0/8"]);
        command.args(more).args([
            "--listen",
            &address.to_string(),
            "--metrics",
            &metrics.to_string(),
            "--data",
        ]);
        command.arg(self.folder.path().join("central"));
        Server::start(command, self.folder.path().to_owned(), [address, metrics], "listening ")
    }

    /// Starts an edge whose users are in `users`.
    pub(crate) fn edge(&self, central: &Server, users: &str) -> Result<Server> {
        self.edge_named(users, central, users, &[])
    }

    /// Starts an edge by a name of its own, with further arguments.
    pub(crate) fn edge_named(
        &self,
        name: &str,
        central: &Server,
        users: &str,
        more: &[&str],
    ) -> Result<Server> {
        let folder = self.folder.path().join(format!("edge-{name}"));
        fs::create_dir_all(&folder)?;
        let address = free()?;
        let key = self.public_key()?;
        let mut command = Command::new(self.programs.join("nearfield-edge"));
        command.args(["--insecure", "--site", "shop", "--users", users, "--public-key", &key]);
        command.args(["--central", &format!("http://{}", central.address)]);
        command.args(["--listen", &address.to_string()]).args(more);
        command.arg("--guest").arg(self.guest).arg("--data").arg(&folder);
        Server::start(command, folder, [address; 2], "listening ")
    }

    /// Starts serenade on the same log.
    pub(crate) fn serenade(&self, program: &Path, shop: &Shop) -> Result<Server> {
        let folder = self.folder.path().join("serenade");
        fs::create_dir_all(&folder)?;
        let sessions = folder.join("sessions.tsv");
        fs::write(&sessions, &shop.sessions)?;
        let address = free()?;
        // What its documentation gives as defaults, but for lists of 20; `hyperparam` is read, not used, and must be full.
        let settings = format!(
            r#"[server]
host = "{}"
port = {}

[log]
level = "warn"

[data]
training_data_path = "{}"

[model]
m_most_recent_sessions = 500
neighborhood_size_k = 500
max_items_in_session = 2
num_items_to_recommend = 20
idf_weighting = 1

[logic]
enable_business_logic = false

[hyperparam]
training_data_path = "none"
test_data_path = "none"
validation_data_path = "none"
num_iterations = 1
save_records = false
out_path = "none"
enable_business_logic = false
n_most_recent_sessions_range = "[100, 500]"
neighborhood_size_k_range = "[50, 500]"
last_items_in_session_range = "[1, 2]"
idf_weighting_range = "[0, 1]"
"#,
            address.ip(),
            address.port(),
            sessions.display()
        );
        fs::write(folder.join("serenade.toml"), settings)?;
        let mut command = Command::new(program);
        command.arg("serenade.toml");
        Server::start(command, folder, [address; 2], "start httpd")
    }
}
