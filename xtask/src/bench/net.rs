//! `cargo xtask bench net`: what interception costs, against the same client direct to the same
//! server.
//!
//! The proxy is a process of its own, a release build, so that its memory and its CPU time are its
//! own too. Direct and intercepted measurements take turns.

mod bulk;
mod client;
mod gateway;
mod guest;
mod memory;
mod requests;
mod table;
mod world;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use self::gateway::Gateway;
use self::world::World;
use crate::bench::boot::host;
use crate::bench::deliver;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{build, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure from a real guest too.
    #[arg(long)]
    vm: bool,
    /// Write the JSON to this file instead of to standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Pairs of each transfer.
    #[arg(short = 'n', long, default_value_t = 3)]
    samples: u32,
    /// Megabytes (10^6 bytes) of each transfer.
    #[arg(long, default_value_t = 1000)]
    size: u64,
    /// Megabytes of each transfer from a guest.
    #[arg(long, default_value_t = 64)]
    vm_size: u64,
    /// Requests of each kind.
    #[arg(long, default_value_t = 2000)]
    requests: u32,
    /// Connections that are open at once when memory is measured.
    #[arg(long, default_value_t = 1000)]
    flows: u32,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Measure with this build of the client, the server and the proxy, optimised or not.
    #[arg(long, hide = true)]
    as_built: bool,
    /// Be the proxy of a measurement.
    #[arg(long, hide = true)]
    gateway: bool,
}

/// Measures and prints; has a release build of this program do that.
pub(super) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.gateway {
        return gateway::serve();
    }
    setup::ensure(&[Need::Curl])?;
    let binary = match &args.binary {
        Some(binary) => Some(fs::canonicalize(binary).context("there is no such binary")?),
        None if args.vm => Some(build::run(workspace)?),
        None => None,
    };
    if args.as_built { measure(args, binary) } else { in_release(workspace, args, binary) }
}

/// The same again, optimised.
fn in_release(workspace: &Workspace, args: &Args, binary: Option<PathBuf>) -> Result<()> {
    eprintln!("bench: building the client, the server and the proxy with optimisation");
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--release", "--package", "xtask", "--"]);
    cargo.args(["bench", "net", "--as-built"]);
    for (flag, value) in [
        ("--samples", u64::from(args.samples)),
        ("--size", args.size),
        ("--vm-size", args.vm_size),
        ("--requests", args.requests.into()),
        ("--flows", args.flows.into()),
    ] {
        cargo.args([flag, &value.to_string()]);
    }
    if args.vm {
        cargo.arg("--vm");
    }
    if let Some(json) = &args.json {
        cargo.arg("--json").arg(std::path::absolute(json)?);
    }
    if let Some(binary) = binary {
        cargo.arg("--binary").arg(binary);
    }
    run::checked(&mut cargo)
}

fn measure(args: &Args, binary: Option<PathBuf>) -> Result<()> {
    let world = World::start()?;
    let gateway = Gateway::start(&world)?;
    let runtime = client::runtime()?;
    let requests = runtime.block_on(requests::measure(&world, &gateway, args.requests))?;
    let events = runtime.block_on(requests::first_event(&world, &gateway))?;
    let handshakes = runtime.block_on(requests::handshakes(&world, &gateway))?;
    let bulk = bulk::measure(&world, &gateway, args.size, args.samples)?;
    drop(gateway);
    let memory = runtime.block_on(memory::measure(&world, args.flows))?;
    let guest = match binary.filter(|_| args.vm) {
        Some(binary) => Some(guest::measure(&world, &binary, args.vm_size)?),
        None => None,
    };
    let report = json!({
        "benchmark": "net",
        "optimised": !cfg!(debug_assertions),
        "host": host(),
        "curl": curl_version(),
        "bulk": bulk,
        "requests": requests,
        "first_event": events,
        "handshakes": handshakes,
        "memory": memory,
        "guest": guest,
    });
    table::print(&report);
    deliver(&report, args.json.as_deref())
}

fn curl_version() -> Option<String> {
    let text = run::output(Command::new("curl").arg("--version")).ok()?;
    text.lines().next().map(str::to_owned)
}
