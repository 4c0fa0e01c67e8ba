//! A site to try the product on: events, real ones or made ones, a model trained on the first half of them, and
//! central to serve it.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{paths, step::Step, supervise::Service};

/// The site's name, as manifests and deltas have it.
pub(crate) const NAME: &str = "demo";

/// Part of the events that the model learns offline; the shoppers of the page replay the rest.
const UNTIL_FRACTION: &str = "0.5";

/// Builds the programs of such a site, with the features that the tests build them with.
///
/// # Errors
/// When one does not compile.
pub(crate) fn build_programs() -> Result<()> {
    Step::cargo("central, trainer, edge and shop")
        .args(["build", "--workspace", "--exclude", "xtask", "--bin", "nearfield-central"])
        .args(["--bin", "nearfield-trainer", "--bin", "nearfield-edge", "--bin", "nearfield-shop"])
        .run()?;
    Ok(())
}

/// How much a site is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A shop to look at, and a model with chosen hyperparameters.
    Full,
    /// Enough to see lists change, in a few seconds.
    Small,
}

impl Scale {
    /// More arguments of the shop that makes the events.
    fn generate(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::Small => &["--shoppers", "600"],
        }
    }

    /// More arguments of the training.
    fn train(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::Small => &["--dim", "16", "--sweeps", "4"],
        }
    }
}

/// Makes a page's data and a trained model in `state`, unless they are there for these very events: `events`, or
/// ones that are made.
///
/// # Errors
/// When the events cannot be read or written, or a program fails.
pub(crate) fn prepare(state: &Path, events: Option<&Path>, scale: Scale, fresh: bool) -> Result<()> {
    let stamp_file = state.join("stamp.json");
    let stamp = json!({
        "events": events.map(identity).transpose()?,
        "until_fraction": UNTIL_FRACTION,
        "trainer": identity(&paths::binary("nearfield-trainer"))?,
        "central": identity(&paths::binary("nearfield-central"))?,
        "shop": identity(&paths::binary("nearfield-shop"))?,
    })
    .to_string();
    if !fresh && fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
        eprintln!("✓ data and model of the last run (--fresh makes them anew)");
        return Ok(());
    }
    for folder in ["data", "central", "edge"] {
        let folder = state.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
    }

    let data = state.join("data");
    let shop = paths::binary("nearfield-shop");
    let trained_on = match events {
        Some(file) => {
            Step::new("catalogue of the events", &shop)
                .args(["catalogue", "--until-fraction", UNTIL_FRACTION])
                .args(["--events".as_ref(), file.as_os_str(), "--out".as_ref(), data.as_os_str()])
                .run()?;
            file.to_owned()
        }
        None => {
            Step::new("a shop and its shoppers", &shop)
                .args(["generate", "--until-fraction", UNTIL_FRACTION])
                .args(scale.generate())
                .args(["--out".as_ref(), data.as_os_str()])
                .run()?;
            data.join("events.csv.gz")
        }
    };
    let central = paths::binary("nearfield-central");
    let store = state.join("central");
    Step::new("training on the first half", paths::binary("nearfield-trainer"))
        .args(["train", "--until-fraction", UNTIL_FRACTION])
        .args(scale.train())
        .args(["--events".as_ref(), trained_on.as_os_str(), "--out".as_ref(), store.as_os_str()])
        .run()?;
    Step::new("importing the catalogue", &central)
        .args(["catalog", "import", "--site", NAME])
        .args(["--data".as_ref(), store.as_os_str(), "--file".as_ref(), data.join("items.csv").as_os_str()])
        .run()?;
    fs::write(stamp_file, stamp)?;
    Ok(())
}

/// What tells one file from another without reading it: path, length, time of change.
fn identity(file: &Path) -> Result<String> {
    let found = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    let changed =
        found.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} {} {}", file.display(), found.len(), changed.as_millis()))
}

/// Starts central on its three ports (public, admin, metrics), and returns it with its public key.
///
/// # Errors
/// When it does not start.
pub(crate) fn start_central(state: &Path, [public, admin, metrics]: [u16; 3]) -> Result<(Service, String)> {
    let store = state.join("central");
    let local = |port: u16| OsString::from(format!("127.0.0.1:{port}"));
    let central = Service::start(
        "central",
        paths::binary("nearfield-central"),
        arguments([
            "serve".into(),
            "--data".into(),
            store.clone().into(),
            "--listen".into(),
            local(public),
            "--admin".into(),
            local(admin),
            "--metrics".into(),
            local(metrics),
            // One page's fleet may be a whole site's traffic from one address.
            "--trusted".into(),
            "127.0.0.0/8".into(),
            "--site".into(),
            NAME.into(),
        ]),
        &state.join("logs"),
    )?;
    let key_file = store.join("keys/online.pub");
    let key = fs::read_to_string(&key_file).with_context(|| format!("cannot read {}", key_file.display()))?;
    Ok((central, key.trim().to_owned()))
}

/// A program's arguments.
pub(crate) fn arguments<const N: usize>(words: [OsString; N]) -> Vec<OsString> {
    words.into()
}

/// Ports that are free at this moment.
///
/// # Errors
/// When there are none.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until the last is known, so that no two are the same.
    let held: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
