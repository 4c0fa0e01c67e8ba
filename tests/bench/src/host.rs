//! The hosts that answer: this process, wasmtime inside it, and child processes that speak lines of JSON.

use crate::cases::Case;
use crate::work::{Operation, Work};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

/// A list of rows; of the module and the native code with the bits of their scores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct List {
    /// Rows, best first.
    pub(crate) rows: Vec<u32>,
    /// Bits of the scores, where the host shows them.
    #[serde(default)]
    pub(crate) bits: Vec<u32>,
}

/// Somewhere that methods can be timed.
pub(crate) trait Host {
    /// Opens a case and forgets the one before.
    fn open(&mut self, case: &Case) -> Result<()>;
    /// Returns microseconds a call: one figure for each call, or one for the batch of what is too short or has no
    /// tail (fold_in, stream, load).
    fn time(&mut self, method: &str, from: usize, calls: usize) -> Result<Vec<f64>>;
    /// Does an operation and returns the sum of its results.
    fn run(&mut self, operation: Operation, from: usize, calls: usize) -> Result<u32>;
    /// Returns one list.
    fn list(&mut self, method: &str, person: usize) -> Result<List>;
    /// Returns which share of the factors' bytes the last list read, where the host can tell.
    fn read(&self) -> Option<f64> {
        None
    }
}

fn time(host: &mut impl Host, method: &str, from: usize, calls: usize) -> Result<Vec<f64>> {
    let mut timed = |operation, from, calls: usize| -> Result<f64> {
        let start = Instant::now();
        std::hint::black_box(host.run(operation, from, calls)?);
        Ok(start.elapsed().as_secs_f64() * 1e6 / calls as f64)
    };
    let operation = match method {
        "cold" | "warm" => {
            timed(if method == "cold" { Operation::Chill } else { Operation::Warm }, from, calls)?;
            return (from..from + calls).map(|at| timed(Operation::Recommend, at, 1)).collect();
        }
        "observe" => return (from..from + calls).map(|at| timed(Operation::Observe, at, 1)).collect(),
        "fold_in" => Operation::FoldIn,
        "stream" => Operation::Stream,
        "load" => Operation::Load,
        _ => bail!("no method {method}"),
    };
    Ok(vec![timed(operation, from, calls)?])
}

fn prepare(host: &mut impl Host, method: &str, person: usize) -> Result<()> {
    host.run(if method == "cold" { Operation::Chill } else { Operation::Warm }, person, 1)?;
    host.run(Operation::Recommend, person, 1)?;
    Ok(())
}

/// This process.
#[derive(Default)]
pub(crate) struct Native(Work);

impl Host for Native {
    fn open(&mut self, case: &Case) -> Result<()> {
        self.0 =
            Work::open(case.read("model.pack")?, &case.read("visitors.bin")?).map_err(anyhow::Error::msg)?;
        Ok(())
    }

    fn time(&mut self, method: &str, from: usize, calls: usize) -> Result<Vec<f64>> {
        time(self, method, from, calls)
    }

    fn run(&mut self, operation: Operation, from: usize, calls: usize) -> Result<u32> {
        Ok((from..from + calls).fold(0, |sum: u32, turn| sum.wrapping_add(self.0.run(operation, turn))))
    }

    fn list(&mut self, method: &str, person: usize) -> Result<List> {
        prepare(self, method, person)?;
        let (rows, bits) = self.0.list().into_iter().unzip();
        Ok(List { rows, bits })
    }

    fn read(&self) -> Option<f64> {
        Some(self.0.read())
    }
}

fn fault(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("wasmtime: {error:#}")
}

/// The module in wasmtime.
pub(crate) struct Wasmtime {
    module: Module,
    store: Store<()>,
    instance: Option<Instance>,
}

impl Wasmtime {
    /// Compiles the module.
    pub(crate) fn new(module: &Path) -> Result<Self> {
        let engine = Engine::default();
        let bytes = std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
        let module = Module::new(&engine, bytes).map_err(fault)?;
        Ok(Self { module, store: Store::new(&engine, ()), instance: None })
    }

    fn call<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(&mut self, name: &str, with: P) -> Result<R> {
        let instance = self.instance.context("no case is open")?;
        let function: TypedFunc<P, R> = instance.get_typed_func(&mut self.store, name).map_err(fault)?;
        function.call(&mut self.store, with).map_err(fault)
    }

    fn memory(&mut self) -> Result<Memory> {
        let instance = self.instance.context("no case is open")?;
        instance.get_memory(&mut self.store, "memory").context("the module has no memory")
    }

    fn give(&mut self, bytes: &[u8]) -> Result<()> {
        let at: u32 = self.call("nb_input", bytes.len() as u32)?;
        self.memory()?.write(&mut self.store, at as usize, bytes)?;
        Ok(())
    }
}

impl Host for Wasmtime {
    fn open(&mut self, case: &Case) -> Result<()> {
        self.store = Store::new(self.module.engine(), ());
        self.instance = Some(Instance::new(&mut self.store, &self.module, &[]).map_err(fault)?);
        self.give(&case.read("model.pack")?)?;
        self.call::<(), ()>("nb_pack", ())?;
        self.give(&case.read("visitors.bin")?)?;
        let refused: i32 = self.call("nb_open", ())?;
        if refused == 0 { Ok(()) } else { bail!("the module refuses the case {}", case.name) }
    }

    fn time(&mut self, method: &str, from: usize, calls: usize) -> Result<Vec<f64>> {
        time(self, method, from, calls)
    }

    fn run(&mut self, operation: Operation, from: usize, calls: usize) -> Result<u32> {
        self.call("nb_run", (operation as u32, from as u32, calls as u32))
    }

    fn list(&mut self, method: &str, person: usize) -> Result<List> {
        prepare(self, method, person)?;
        let at: u32 = self.call("nb_list", ())?;
        let memory = self.memory()?;
        let words = memory.data(&self.store)[at as usize..].as_chunks::<4>().0;
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        let length = words.next().context("the list is cut off")? as usize;
        let words: Vec<u32> = words.take(2 * length).collect();
        let (rows, bits) = words.as_chunks::<2>().0.iter().map(|pair| (pair[0], pair[1])).unzip();
        Ok(List { rows, bits })
    }
}

/// A child that answers one line of JSON with another.
pub(crate) struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the program.
    pub(crate) fn start(name: &str, program: &Path, arguments: &[&Path]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let output = BufReader::new(child.stdout.take().context("the child has no output")?);
        Ok(Self { name: name.to_owned(), input: child.stdin.take(), child, output })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask<R: for<'a> Deserialize<'a>>(&mut self, request: &Value) -> Result<R> {
        let input = self.input.as_mut().context("the child has no input")?;
        writeln!(input, "{request}").with_context(|| format!("{} has gone", self.name))?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let mut reply: Value =
            serde_json::from_str(&line).with_context(|| format!("{} answers {line:?}", self.name))?;
        match reply.get("error") {
            Some(error) => bail!("{}: {error}", self.name),
            None => Ok(serde_json::from_value(reply["ok"].take())?),
        }
    }
}

impl Host for Process {
    fn open(&mut self, case: &Case) -> Result<()> {
        let request = json!({"do": "open", "folder": case.folder, "dim": case.dim, "peers": case.peers});
        self.ask::<Value>(&request).map(|_| ())
    }

    fn time(&mut self, method: &str, from: usize, calls: usize) -> Result<Vec<f64>> {
        self.ask(&json!({"do": "time", "method": method, "from": from, "calls": calls}))
    }

    fn run(&mut self, operation: Operation, from: usize, calls: usize) -> Result<u32> {
        self.ask(&json!({"do": "run", "operation": operation as u32, "from": from, "calls": calls}))
    }

    fn list(&mut self, method: &str, person: usize) -> Result<List> {
        self.ask(&json!({"do": "list", "method": method, "person": person}))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends the child.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
