//! `cargo xtask bench live`: sandboxes that run.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bench::boot::host;
use crate::bench::deliver;
use crate::bench::matchlock::Matchlock;
use crate::bench::procfs::Process;
use crate::bench::series::{Series, round};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{build, run};

const QEMU: &str = "qemu-system-x86_64";

/// How long what is idle is watched.
const IDLE: Duration = Duration::from_secs(10);

/// Bytes of a stream that is measured.
const STREAM: usize = 256 << 20;

/// Rows of the list that is measured.
const ROWS: u32 = 1000;

/// Programs of the guest's own that are started one after the other.
const FORKS: u32 = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Programs that are started from outside; a tenth as many ends of a sandbox.
    #[arg(short = 'n', long, default_value_t = 50)]
    samples: u32,
    /// Idle sandboxes at once; 0 leaves this out.
    #[arg(long, default_value_t = 50)]
    idle: u32,
    /// Memory of each of those, in MB.
    #[arg(long, default_value_t = 128)]
    memory: u32,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave the choice of the accelerator to matchlock instead of demanding software emulation.
    #[arg(long)]
    any_accelerator: bool,
    /// Write the report to this file.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(&[Need::Qemu, Need::Python])?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::run(workspace)?,
    };
    let home = tempfile::tempdir().context("no directory")?;
    let matchlock = Matchlock::new(binary, args.any_accelerator).at_home(home.path().to_owned());
    let sandbox = Sandbox::start(&matchlock, &[])?;
    let id = newest(&matchlock)?;
    eprintln!("bench: an idle sandbox");
    let idle = sandbox.idle()?;
    eprintln!("bench: programs from outside and inside");
    let exec = exec(&matchlock, &id, args.samples)?;
    eprintln!("bench: streams");
    let streams = json!({
        "bytes": STREAM,
        "out_mib_per_s": stream_out(&matchlock, &id)?,
        "in_mib_per_s": stream_in(&matchlock, &id)?,
    });
    sandbox.end()?;
    eprintln!("bench: ends of sandboxes");
    let mut teardown = Series::default();
    for _ in 0..(args.samples / 10).max(1) {
        teardown.push(Sandbox::start(&matchlock, &[])?.end()?);
    }
    let many = (args.idle > 0).then(|| many(&matchlock, args.idle, args.memory)).transpose()?;
    eprintln!("bench: a list of {ROWS}");
    let list = list(&matchlock, home.path(), args.samples)?;
    let report = json!({
        "benchmark": "live",
        "samples": args.samples,
        "host": host(),
        "exec": exec,
        "streams": streams,
        "list": list,
        "teardown_ms": teardown.to_json(),
        "idle": idle,
        "many": many,
    });
    print_table(&report);
    deliver(&report, args.output.as_deref())
}

/// A sandbox that waits for its standard input to end.
struct Sandbox {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Sandbox {
    fn start(matchlock: &Matchlock, flags: &[&str]) -> Result<Self> {
        let words = ["-i", "--", "sh", "-c", "echo ready; exec cat"];
        let words: Vec<_> = flags.iter().chain(&words).copied().collect();
        let mut child = matchlock
            .sandbox("host", &words)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
        ensure!(line.trim_end() == "ready", "the sandbox did not get ready, it said {line:?}");
        Ok(Self { child, stdin })
    }

    /// What it takes of the host beside the guest's memory: the supervisor, and its monitor.
    fn processes(&self) -> Result<[Process; 2]> {
        let supervisor = Process(self.child.id());
        Ok([supervisor, supervisor.child(QEMU)?])
    }

    fn idle(&self) -> Result<Value> {
        let processes = self.processes()?;
        let used = || processes.map(|process| process.cpu_time().unwrap_or_default());
        let before = used();
        thread::sleep(IDLE);
        let after = used();
        let percent = |at: usize| round((after[at] - before[at]) / IDLE.as_secs_f64() * 100.0);
        let [supervisor, monitor] = processes;
        Ok(json!({
            "supervisor": { "cpu_percent": percent(0), "kib": supervisor.memory()? },
            "monitor": { "cpu_percent": percent(1), "kib": monitor.memory()? },
        }))
    }

    /// Ends its command; returns the milliseconds until nothing is left of it.
    fn end(mut self) -> Result<f64> {
        let start = Instant::now();
        drop(self.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the sandbox failed ({status})");
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

fn newest(matchlock: &Matchlock) -> Result<String> {
    let listed = run::output(&mut matchlock.command(&["list", "-q", "--running"]))?;
    Ok(listed.lines().next().context("no sandbox is listed")?.to_owned())
}

/// The milliseconds that a call takes, whose output is read to its end.
fn timed(mut command: Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// In turns: the client alone, a program from outside, programs that the guest starts itself.
fn exec(matchlock: &Matchlock, id: &str, samples: u32) -> Result<Value> {
    let script = format!(
        "b=$(date +%s%N); i=0; while [ $i -lt {FORKS} ]; do /bin/true; i=$((i+1)); done; \
         echo $(($(date +%s%N) - b))"
    );
    let (mut client, mut outside, mut inside) = <(Series, Series, Series)>::default();
    for sample in 0..samples {
        client.push(timed(matchlock.command(&["version"]))?);
        outside.push(timed(matchlock.command(&["exec", id, "--", "/bin/true"]))?);
        // Each takes as long as a hundred of the others.
        if sample % 10 == 0 {
            let mut own = matchlock.command(&["exec", id, "--", "sh", "-c", &script]);
            let nanoseconds: f64 = run::output(&mut own)?.trim().parse().context("no number")?;
            inside.push(nanoseconds / 1e6 / f64::from(FORKS));
        }
    }
    let over_guest = outside.median() - inside.median();
    Ok(json!({
        "client_start_ms": client.summary(),
        "outside_ms": outside.summary(),
        "inside_ms": inside.to_json(),
        "over_guest_ms": round(over_guest),
        "over_guest_and_client_ms": round(over_guest - client.median()),
    }))
}

fn mib_per_s(start: Instant) -> f64 {
    round(STREAM as f64 / f64::from(1 << 20) / start.elapsed().as_secs_f64())
}

fn stream_out(matchlock: &Matchlock, id: &str) -> Result<f64> {
    let bytes = STREAM.to_string();
    let words = ["exec", id, "--", "head", "-c", &bytes, "/dev/zero"];
    let start = Instant::now();
    let mut child = matchlock.command(&words).spawn()?;
    let (mut chunk, mut read) = (vec![0; 1 << 20], 0);
    let mut stdout = child.stdout.take().context("no pipe")?;
    while let more @ 1.. = stdout.read(&mut chunk)? {
        read += more;
    }
    ensure!(child.wait()?.success() && read == STREAM, "{read} bytes came");
    Ok(mib_per_s(start))
}

fn stream_in(matchlock: &Matchlock, id: &str) -> Result<f64> {
    let words = ["exec", "-i", id, "--", "sh", "-c", "cat >/dev/null"];
    let start = Instant::now();
    let mut child = matchlock.command(&words).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no pipe")?;
    let chunk = vec![0; 1 << 20];
    for _ in 0..STREAM / chunk.len() {
        stdin.write_all(&chunk)?;
    }
    drop(stdin);
    ensure!(child.wait()?.success(), "the program failed");
    Ok(mib_per_s(start))
}

/// Copies of a row that is there. Whatever columns it has, these make it one of its own.
const FILL: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.row_factory = sqlite3.Row
row = dict(database.execute('SELECT * FROM vms LIMIT 1').fetchone())
for number in range(int(sys.argv[2])):
    row.update(id=f'vm-{number:08x}', name=None, status='stopped', pid=0, owner_json='null')
    columns, marks = ','.join(row), ','.join('?' * len(row))
    database.execute(f'INSERT INTO vms ({columns}) VALUES ({marks})', list(row.values()))
database.commit()
";

fn list(matchlock: &Matchlock, home: &Path, samples: u32) -> Result<Value> {
    let sandbox = Sandbox::start(matchlock, &["--rm=false"])?;
    let id = newest(matchlock)?;
    let database = home.join(".matchlock/state.db");
    let mut fill = Command::new("python3");
    fill.args(["-c", FILL]).arg(database).arg((ROWS - 1).to_string());
    run::checked(&mut fill)?;
    let mut times = Series::default();
    for _ in 0..samples {
        times.push(timed(matchlock.command(&["list"]))?);
    }
    let listed = run::output(&mut matchlock.command(&["list", "-q"]))?.lines().count();
    // It stays when its command ends.
    run::output(&mut matchlock.command(&["kill", &id]))?;
    drop(sandbox);
    Ok(json!({ "rows": listed, "ms": times.summary() }))
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // An end of its input is its end; it stays only if it hangs.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Many that wait: what each takes beside its guest's memory.
fn many(matchlock: &Matchlock, count: u32, memory: u32) -> Result<Value> {
    let memory = memory.to_string();
    let mut sandboxes = Vec::new();
    let start = Instant::now();
    for number in 1..=count {
        eprintln!("bench: idle sandbox {number} of {count}");
        sandboxes.push(Sandbox::start(matchlock, &["--memory", &memory, "--cpus", "1"])?);
    }
    let started = start.elapsed();
    let (mut supervisors, mut monitors) = <(Series, Series)>::default();
    let processes: Vec<_> = sandboxes.iter().map(Sandbox::processes).collect::<Result<Vec<_>>>()?;
    let cpu = || processes.iter().flatten().filter_map(|process| process.cpu_time()).sum::<f64>();
    let before = cpu();
    thread::sleep(IDLE);
    let cpu_percent = (cpu() - before) / IDLE.as_secs_f64() * 100.0 / f64::from(count);
    for [supervisor, monitor] in &processes {
        for (series, process) in [(&mut supervisors, supervisor), (&mut monitors, monitor)] {
            let memory = process.memory()?;
            // Shared libraries and the binary are in memory once, however many use them.
            let own = memory["pss"].as_f64().zip(memory["pss_shared_memory"].as_f64());
            let own = own.map(|(all, shared)| all - shared);
            series.push(own.or(memory["own_rss"].as_f64()).unwrap_or_default());
        }
    }
    drop(processes);
    for sandbox in sandboxes {
        sandbox.end()?;
    }
    Ok(json!({
        "count": count,
        "guest_memory_mb": memory.parse::<u32>().ok(),
        "started_in_s": round(started.as_secs_f64()),
        "cpu_percent_each": round(cpu_percent),
        "supervisor_kib": supervisors.summary(),
        "monitor_kib": monitors.summary(),
    }))
}

fn print_table(report: &Value) {
    let row = |name: &str, value: &Value, unit: &str| eprintln!("{name:<52} {value:>10} {unit}");
    eprintln!();
    row("exec ID true, the whole client, median", &report["exec"]["outside_ms"]["median"], "ms");
    row("  over a fork and exec of the guest's own", &report["exec"]["over_guest_ms"], "ms");
    row("  and over the start of the client", &report["exec"]["over_guest_and_client_ms"], "ms");
    row("output of a program", &report["streams"]["out_mib_per_s"], "MiB/s");
    row("input of a program", &report["streams"]["in_mib_per_s"], "MiB/s");
    row("list of 1,000, median", &report["list"]["ms"]["median"], "ms");
    row("end of a sandbox, median", &report["teardown_ms"]["median"], "ms");
    let idle = &report["idle"];
    row("supervisor: CPU when idle", &idle["supervisor"]["cpu_percent"], "%");
    row("supervisor: anonymous and file memory", &idle["supervisor"]["kib"]["own_rss"], "KiB");
    row("monitor: CPU when idle", &idle["monitor"]["cpu_percent"], "%");
    row("monitor: memory beside the guest's", &idle["monitor"]["kib"]["own_rss"], "KiB");
    let many = &report["many"];
    if many.is_object() {
        row("idle sandboxes at once", &many["count"], "");
        row("  supervisor of each, its share, median", &many["supervisor_kib"]["median"], "KiB");
        row("  monitor of each, its share, median", &many["monitor_kib"]["median"], "KiB");
        row("  CPU of each", &many["cpu_percent_each"], "%");
    }
}
