//! The suite `package`: the npm package as it is published, exercised in its hosts against a real central.

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    paths,
    site::{self, Scale},
    step::Step,
    supervise::Service,
    tools, wasm,
};

/// The step that runs the suite, and the central that must live until it has run.
pub(crate) struct Prepared {
    pub(crate) step: Step,
    _central: Service,
}

/// Prepares the suite for Node and Chromium, or for `all` hosts, in any case without browsers where `no_browser`.
///
/// # Errors
/// When a host is missing and cannot be installed, or central does not start.
pub(crate) fn prepare(all: bool, no_browser: bool) -> Result<Prepared> {
    let checks = paths::root().join("tests/package");
    tools::npm_ci(&paths::package())?;
    if all {
        tools::npm_ci(&checks)?;
    } else {
        tools::npm_ci_without_optional(&checks)?;
    }
    site::build_programs()?;
    let state = paths::target().join("nearfield/package");
    site::prepare(&state, None, Scale::Small, true)?;
    let ports = site::free_ports()?;
    let (central, public_key) = site::start_central(&state, ports)?;
    let config = json!({
        "endpoint": format!("http://127.0.0.1:{}", ports[0]),
        "publicKey": public_key,
        "site": site::NAME,
    });
    let mut step = Step::new("the npm package in its hosts", "node")
        .args(["--test", "--test-force-exit", "--test-reporter=spec", "hosts.test.mjs"])
        .directory(&checks)
        .env("NEARFIELD_SITE", config.to_string());
    if !no_browser {
        step = step.env("NEARFIELD_CHROMIUM", tools::CHROMIUM.need()?);
    }
    if all {
        let digest =
            std::fs::read_to_string(paths::golden_digest()).context("cannot read the golden digest")?;
        step = step
            .env("NEARFIELD_ALL", "1")
            .env("NEARFIELD_GOLDEN", wasm::build_golden()?)
            .env("NEARFIELD_DIGEST", digest.trim());
        if !no_browser {
            step = step.env("NEARFIELD_FIREFOX", tools::FIREFOX.need()?);
        }
    }
    Ok(Prepared { step, _central: central })
}
