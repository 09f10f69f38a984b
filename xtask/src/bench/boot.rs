//! `cargo xtask bench boot`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bench::bare::BareMachine;
use crate::bench::matchlock::Matchlock;
use crate::bench::procfs::Process;
use crate::bench::series::{Series, round};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{build, run};

const QEMU: &str = "qemu-system-x86_64";
/// How long the idle supervisor is watched.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pairs of a bare boot and a sandbox.
    #[arg(short = 'n', long, default_value_t = 10)]
    samples: u32,
    /// Sandboxes to start at once; 0 leaves this out.
    #[arg(long, default_value_t = 8)]
    together: u32,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave the choice of the accelerator to matchlock instead of demanding software emulation.
    #[arg(long)]
    any_accelerator: bool,
}

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(&[Need::Qemu])?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::run(workspace)?,
    };
    let matchlock = Matchlock::new(binary, args.any_accelerator);
    eprintln!("bench: an idle sandbox");
    let (bare, supervisor) = watch_idle(&matchlock, workspace)?;
    let pairs = Pairs::measure(&bare, &matchlock, args.samples)?;
    let together = (args.together > 0).then(|| start_together(&matchlock, args.together));
    let report = json!({
        "benchmark": "boot",
        "samples": args.samples,
        "host": host(),
        "accelerator": pairs.accelerator,
        "bare_ms": pairs.bare.to_json(),
        "run_ms": pairs.run.to_json(),
        "ratio": {
            "of_medians": round(pairs.run.median() / pairs.bare.median()),
            "of_pairs": pairs.run.over(&pairs.bare).to_json(),
        },
        "phases_ms": pairs.phases.iter()
            .map(|(name, series)| (name.clone(), json!(round(series.median()))))
            .collect::<serde_json::Map<_, _>>(),
        "supervisor_kib": supervisor.memory,
        "supervisor_idle_cpu_percent": supervisor.idle_cpu_percent,
        "together": together,
    });
    print_table(&report);
    println!("{report:#}");
    let failed = report["together"]["failed"].as_u64().unwrap_or(0);
    ensure!(failed == 0, "{failed} of the sandboxes that were started at once failed");
    Ok(())
}

/// A sandbox that waits for its standard input to end.
struct Idle {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Idle {
    fn start(matchlock: &Matchlock) -> Result<Self> {
        let mut command =
            matchlock.sandbox("host", &["-i", "--", "sh", "-c", "echo ready; exec cat"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
        ensure!(line.trim_end() == "ready", "the sandbox did not get ready, it said {line:?}");
        Ok(Self { child, stdin })
    }

    fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the idle sandbox failed ({status})");
        Ok(())
    }
}

#[derive(Debug)]
struct Supervisor {
    memory: Value,
    idle_cpu_percent: Option<f64>,
}

fn watch_idle(matchlock: &Matchlock, workspace: &Workspace) -> Result<(BareMachine, Supervisor)> {
    let idle = Idle::start(matchlock)?;
    let process = Process(idle.child.id());
    let bare = BareMachine::like(process.child(QEMU)?, workspace)?;
    let before = process.cpu_time();
    thread::sleep(IDLE);
    let used = before.zip(process.cpu_time()).map(|(before, after)| after - before);
    let idle_cpu_percent = used.map(|used| round(used / IDLE.as_secs_f64() * 100.0));
    let memory = process.memory()?;
    idle.end()?;
    Ok((bare, Supervisor { memory, idle_cpu_percent }))
}

/// Bare boots and sandboxes, in turns.
#[derive(Debug, Default)]
struct Pairs {
    bare: Series,
    run: Series,
    phases: BTreeMap<String, Series>,
    accelerator: Value,
}

impl Pairs {
    fn measure(bare: &BareMachine, matchlock: &Matchlock, samples: u32) -> Result<Self> {
        let mut pairs = Self::default();
        for sample in 1..=samples {
            let bare_ms = bare.boot(sample)?;
            let (run_ms, account) = matchlock.run_true("host")?;
            eprintln!("bench: {sample}/{samples}: bare {bare_ms:.0} ms, run {run_ms:.0} ms");
            pairs.bare.push(bare_ms);
            pairs.run.push(run_ms);
            for (name, value) in account["phases_ms"].as_object().into_iter().flatten() {
                let series = pairs.phases.entry(name.clone()).or_default();
                series.push(value.as_f64().unwrap_or_default());
            }
            pairs.accelerator = account["accelerator"].clone();
        }
        Ok(pairs)
    }
}

fn start_together(matchlock: &Matchlock, count: u32) -> Value {
    eprintln!("bench: {count} sandboxes at once");
    let start = Instant::now();
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let matchlock = matchlock.clone();
            thread::spawn(move || matchlock.run_true("host").map(|(elapsed, _)| elapsed))
        })
        .collect();
    let mut walls = Series::default();
    let mut errors = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(Ok(elapsed)) => walls.push(elapsed),
            Ok(Err(error)) => errors.push(format!("{error:#}")),
            Err(_) => errors.push("a thread panicked".to_owned()),
        }
    }
    json!({
        "count": count,
        "failed": errors.len(),
        "errors": errors,
        "wall_ms": walls.to_json(),
        "all_ms": round(start.elapsed().as_secs_f64() * 1e3),
    })
}

/// What is measured on.
pub(super) fn host() -> Value {
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse::<f64>().ok());
    let qemu = run::find_program(QEMU).and_then(|qemu| version(&qemu));
    json!({ "cpus": cpus, "load_average": load, "qemu": qemu })
}

fn version(program: &Path) -> Option<String> {
    let text = run::output(Command::new(program).arg("--version")).ok()?;
    text.lines().next().map(str::to_owned)
}

fn print_table(report: &Value) {
    let row = |name: &str, value: &Value, unit: &str| eprintln!("{name:<44} {value:>10} {unit}");
    eprintln!();
    row("bare boot to the first program and off, median", &report["bare_ms"]["median"], "ms");
    row("matchlock run --image host -- true, median", &report["run_ms"]["median"], "ms");
    row("ratio of the medians", &report["ratio"]["of_medians"], "");
    for (name, value) in report["phases_ms"].as_object().into_iter().flatten() {
        row(&format!("  {name}"), value, "ms");
    }
    row("supervisor: anonymous and file memory", &report["supervisor_kib"]["own_rss"], "KiB");
    row("supervisor: CPU when idle", &report["supervisor_idle_cpu_percent"], "%");
    let together = &report["together"];
    if together.is_object() {
        row("started at once", &together["count"], "");
        row("  of these failed", &together["failed"], "");
        row("  slowest", &together["wall_ms"]["max"], "ms");
    }
}
