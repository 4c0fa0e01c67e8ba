//! `cargo xtask demo`: builds all, makes or reads the events, trains, and serves the shop with central
//! and an edge host beside it. `--check` visits it with a real browser.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use nearfield_services::Server;

use crate::{
    jars, paths,
    site::{self, Scale},
    step::{Spinner, Step},
    supervise::{Change, Service},
    tools, wasm,
};

/// First of the demo's four ports: shop, central, central's admin listener, edge.
const PORT: u16 = 7800;

/// What the demo runs on.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Real events (.csv or .csv.gz with user,item,timestamp) instead of generated ones
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Send the page's events through a Kafka to the edge as well, and show its list beside the device's
    #[arg(long)]
    kafka: bool,
    /// Visit the demo with a headless browser, print what it saw, and exit 0 or 1
    #[arg(long)]
    check: bool,
    /// First of five ports in a row: shop, central, admin, edge, metrics of central [default: 7800; free ones with --check]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
    /// Make the data and train anew, and forget what the fleet has taught central
    #[arg(long)]
    fresh: bool,
}

struct Ports {
    shop: u16,
    central: u16,
    admin: u16,
    edge: u16,
    metrics: u16,
}

/// What can be wrong before anything is built: ports, the file of events, the browser.
struct Plan {
    ports: Ports,
    kafka: bool,
    events: Option<PathBuf>,
    chromium: Option<PathBuf>,
}

impl Plan {
    fn new(options: &Options) -> Result<Self> {
        let ports = match options.port {
            None if options.check => {
                let [shop, central, admin, edge, metrics] = site::free_ports()?;
                Ports { shop, central, admin, edge, metrics }
            }
            first => ports_from(first.unwrap_or(PORT))?,
        };
        let events = options.events.as_deref().map(absolute).transpose()?;
        let chromium = if options.check { Some(tools::CHROMIUM.need()?) } else { None };
        if options.kafka {
            jars::KAFKA.need()?;
        }
        Ok(Self { ports, kafka: options.kafka, events, chromium })
    }
}

/// Runs the demo until Ctrl-C, or until the visit of `--check` ends.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let plan = Plan::new(options)?;
    wasm::build()?;
    site::build_programs()?;
    run_built(options, plan)
}

/// Runs the demo from modules and programs that are built.
fn run_built(options: &Options, plan: Plan) -> Result<ExitCode> {
    let Plan { ports, kafka, events, chromium } = plan;
    tools::npm_ci(&paths::root().join("www"))?;

    // A check starts from nothing, and leaves the state of the demo alone.
    let state = if options.check { paths::demo().join("check") } else { paths::demo() };
    site::prepare(&state, events.as_deref(), Scale::Full, options.fresh || options.check)?;

    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // It ends last.
    let broker = if kafka { Some(start_kafka(&state)?) } else { None };
    let mut services = start(&state, &ports, broker.as_ref())?;
    let shop = format!("http://127.0.0.1:{}/", ports.shop);
    println!();
    println!("  Nearfield's demo shop:  {shop}");
    println!(
        "  central http://127.0.0.1:{}/metrics   edge http://127.0.0.1:{}/metrics",
        ports.metrics, ports.edge
    );
    println!("  logs    {}", paths::short(&state.join("logs")));
    println!();

    match chromium {
        Some(chromium) => {
            tools::npm_ci(&paths::browser())?;
            visit(&state, &ports, kafka, &chromium, &mut services, &stop)
        }
        None => {
            println!("Ctrl-C ends it.");
            if !options.no_open {
                open(&shop);
            }
            while !stop.load(Ordering::Relaxed) {
                look_after(&mut services)?;
                std::thread::sleep(Duration::from_millis(100));
            }
            println!("\nending");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The visit on generated data, as one test, from modules and programs that are built.
///
/// # Errors
/// When the demo cannot be started, or the visit saw something else than it should.
pub(crate) fn check() -> Result<()> {
    let options = Options { check: true, ..Options::default() };
    if run_built(&options, Plan::new(&options)?)? == ExitCode::SUCCESS {
        Ok(())
    } else {
        bail!("the visit of the demo failed")
    }
}

fn absolute(file: &Path) -> Result<PathBuf> {
    file.canonicalize().with_context(|| format!("--events {}", file.display()))
}

/// Five ports in a row, each of them free.
fn ports_from(first: u16) -> Result<Ports> {
    let port = |offset: u16| -> Result<u16> {
        let port =
            first.checked_add(offset).with_context(|| format!("--port {first}: at most {}", u16::MAX - 4))?;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(port),
            Err(error) => bail!("port {port} cannot be used ({error}); choose others with --port N"),
        }
    };
    Ok(Ports { shop: port(0)?, central: port(1)?, admin: port(2)?, edge: port(3)?, metrics: port(4)? })
}

/// The topic of the page's events.
const TOPIC: &str = "demo.events";

/// Starts a Kafka with the topics that the edge needs; it keeps what it has in the demo's state.
fn start_kafka(state: &Path) -> Result<Server> {
    let spinner = Spinner::start("Kafka");
    let server = Server::kafka_in(&state.join("kafka"));
    spinner.end(server.is_ok());
    let server = server?;
    Step::new("topics", paths::binary("nearfield-edge"))
        .args(["create-topics", "--kafka", &server.endpoint(), "--kafka-topic", TOPIC, "--partitions", "4"])
        .run()?;
    Ok(server)
}

/// Starts central, then the edge host and the shop, which need its public key.
fn start(state: &Path, ports: &Ports, kafka: Option<&Server>) -> Result<Vec<Service>> {
    let logs = state.join("logs");
    let central_url = format!("http://127.0.0.1:{}", ports.central);
    let edge_url = format!("http://127.0.0.1:{}", ports.edge);
    let (central, key) = site::start_central(state, [ports.central, ports.admin, ports.metrics])?;
    let mut edge_arguments = site::arguments([
        "--insecure".into(),
        "--central".into(),
        central_url.clone().into(),
        "--public-key".into(),
        key.clone().into(),
        "--site".into(),
        site::NAME.into(),
        "--listen".into(),
        format!("127.0.0.1:{}", ports.edge).into(),
        "--data".into(),
        state.join("edge").into(),
        "--guest".into(),
        paths::guest().into(),
    ]);
    if let Some(kafka) = kafka {
        let words = ["--consume", "kafka", "--events", "kafka", "--kafka-topic", TOPIC, "--kafka"];
        edge_arguments.extend(words.map(Into::into));
        edge_arguments.push(kafka.endpoint().into());
        // The page asks the edge itself.
        edge_arguments.push("--allow-origin".into());
        edge_arguments.push(format!("http://127.0.0.1:{}", ports.shop).into());
    }
    let edge = Service::start("edge", paths::binary("nearfield-edge"), edge_arguments, &logs)?;
    let root = paths::root();
    let mut shop_arguments = site::arguments([
        "serve".into(),
        "--www".into(),
        root.join("www").into(),
        "--package".into(),
        paths::package_dist().into(),
        "--data".into(),
        state.join("data").into(),
        "--vendor".into(),
        root.join("www/node_modules").into(),
        "--endpoint".into(),
        central_url.into(),
        "--public-key".into(),
        key.into(),
        "--site".into(),
        site::NAME.into(),
        "--edge".into(),
        edge_url.into(),
        "--listen".into(),
        format!("127.0.0.1:{}", ports.shop).into(),
    ]);
    if kafka.is_some() {
        shop_arguments.push("--streams".into());
    }
    let shop = Service::start("shop", paths::binary("nearfield-shop"), shop_arguments, &logs)?;
    // Dropped in this order: the page goes first, central last.
    Ok(vec![shop, edge, central])
}

fn look_after(services: &mut [Service]) -> Result<()> {
    for service in services {
        match service.look_after()? {
            Some(Change::Died(line) | Change::Restarted(line)) => println!("  {line}"),
            None => {}
        }
    }
    Ok(())
}

/// Runs the browser's visit while the services are looked after, since it kills one of them.
fn visit(
    state: &Path,
    ports: &Ports,
    kafka: bool,
    chromium: &Path,
    services: &mut [Service],
    stop: &AtomicBool,
) -> Result<ExitCode> {
    let central = services.last().context("central is not running")?;
    let config = json!({
        "shop": format!("http://127.0.0.1:{}/", ports.shop),
        "central": format!("http://127.0.0.1:{}", ports.central),
        "edge": format!("http://127.0.0.1:{}", ports.edge),
        "kafka": kafka,
        "centralPidFile": central.pid_file(),
        "chromium": chromium,
        "profile": state.join("profile"),
        "screenshots": paths::demo().join("screenshots"),
        "package": paths::package_dist(),
    });
    let mut child = Command::new("node")
        .arg(paths::browser().join("visit.mjs"))
        .env("NEARFIELD_VISIT", config.to_string())
        .stdin(Stdio::null())
        .spawn()
        .context("cannot run node")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if stop.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            bail!("interrupted");
        }
        look_after(services)?;
        std::thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        eprintln!("the logs of central, edge and shop are in {}", paths::short(&state.join("logs")));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the address in the person's browser, where there is one.
fn open(address: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let has_screen = cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if has_screen && tools::find(opener).is_some() {
        // The address is on the screen already; a browser that does not start is no failure of the demo.
        drop(Command::new(opener).arg(address).stdout(Stdio::null()).stderr(Stdio::null()).spawn());
    }
}
