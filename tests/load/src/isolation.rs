//! What the sandbox costs: the same steps on the same bytes, through wasmtime and natively, one after the other; every
//! answer is the same to the byte.

use crate::abi::{ListRequest, StateName, Step, Stepped};
use crate::core::Core;
use crate::shop::Shop;
use anyhow::{Context, Result, anyhow, ensure};
use nearfield_edge::host::sandbox::{Export, Guest, Limits, Sandbox, message};
use nearfield_engine::{Event, Kind};
use std::borrow::Cow;
use std::time::Instant;

/// People whose states are warm.
const PEOPLE: usize = 200;
/// Memory for what is derived from them, in both.
const WARM_BYTES: u64 = 128 << 20;

/// The time of one kind of step.
pub(crate) struct Isolation {
    /// What the steps do.
    pub(crate) what: &'static str,
    /// Median without a sandbox, in microseconds.
    pub(crate) native_us: f64,
    /// Median in the sandbox, in microseconds.
    pub(crate) sandbox_us: f64,
}

struct Person {
    state: Vec<u8>,
    name: StateName,
}

/// Times steps of warm users.
pub(crate) fn measure(wasm: &[u8], pack: &[u8], shop: &Shop, rounds: usize) -> Result<Vec<Isolation>> {
    let failed = |error| anyhow!("the sandbox: {error}");
    let mut guest =
        Sandbox::compile(wasm, Limits::default(), None).map_err(failed)?.instantiate().map_err(failed)?;
    let mut native = Core::default();
    let info: crate::abi::ModelInfo = guest.load(pack).map_err(failed)?;
    let mut output = Vec::new();
    native.pack_begin(&message(&(pack.len() as u64))).map_err(|refused| anyhow!(refused.message))?;
    native.pack_push(pack).map_err(|refused| anyhow!(refused.message))?;
    native.pack_finish(&mut output).map_err(|refused| anyhow!(refused.message))?;
    ensure!(info.rows as usize > PEOPLE, "the model is the shop's");
    guest.bytes(Export::Warm, &message(&WARM_BYTES)).map_err(failed)?;
    native.warm(&message(&WARM_BYTES)).map_err(|refused| anyhow!(refused.message))?;

    let mut now_ms = 1_800_000_000_000;
    let mut people: Vec<Person> = (0..PEOPLE)
        .map(|at| Person { state: Vec::new(), name: StateName { user: at as u64, version: [0; 16] } })
        .collect();
    let mut pair = Pair { guest: &mut guest, native: &mut native };
    for (at, person) in people.iter_mut().enumerate() {
        let past: Vec<&str> = shop.people[at].iter().map(String::as_str).collect();
        pair.step(person, &past, true, now_ms)?;
    }
    let mut all = Vec::new();
    for (what, learns, lists) in
        [("events", true, false), ("recommendations", false, true), ("observe", true, true)]
    {
        let (mut natively, mut inside) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            for (at, person) in people.iter_mut().enumerate() {
                now_ms += 1000;
                let item = shop.item(at, round * 7 + 1);
                let items: &[&str] = if learns { &[item] } else { &[] };
                let (native_us, sandbox_us) = pair.step(person, items, lists, now_ms)?;
                natively.push(native_us);
                inside.push(sandbox_us);
            }
        }
        all.push(Isolation { what, native_us: median(natively), sandbox_us: median(inside) });
    }
    Ok(all)
}

struct Pair<'a> {
    guest: &'a mut Guest,
    native: &'a mut Core,
}

impl Pair<'_> {
    /// Steps a person in both; returns the microseconds of each.
    fn step(&mut self, person: &mut Person, items: &[&str], lists: bool, now_ms: u64) -> Result<(f64, f64)> {
        let event = |item: &&str| Event::new(Kind::View, *item, now_ms);
        let mut next_version = [0; 16];
        next_version[..8].copy_from_slice(&now_ms.to_le_bytes());
        next_version[8..].copy_from_slice(&(person.name.user + 1).to_le_bytes());
        let step = Step {
            now_ms,
            name: person.name,
            next_version,
            state: &person.state,
            events: Cow::Owned(items.iter().map(event).collect()),
            list: lists.then(ListRequest::default),
            ..Step::default()
        };
        let input = message(&step);
        let started = Instant::now();
        let mut output = Vec::new();
        self.native.step(&input, &mut output).map_err(|refused| anyhow!(refused.message))?;
        let native_us = started.elapsed().as_secs_f64() * 1e6;
        let started = Instant::now();
        let answer =
            self.guest.bytes(Export::Step, &input).map_err(|error| anyhow!("the sandbox: {error}"))?;
        let sandbox_us = started.elapsed().as_secs_f64() * 1e6;
        ensure!(answer == output, "a step gives the same bytes in and out of the sandbox");
        let stepped: Stepped = postcard::from_bytes(&answer).context("a step's answer")?;
        if let Some(state) = stepped.state {
            person.state = state;
            person.name.version = next_version;
        }
        Ok((native_us, sandbox_us))
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
