//! What an open flow costs in memory.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::client::{Client, Http1};
use super::gateway::Gateway;
use super::world::{HOST, World};
use crate::bench::procfs::Process;
use crate::bench::series::round;

/// Memory of a fresh proxy before and with so many connections, each of which has had an answer and
/// is kept: two TLS sessions, two sockets and an exchange.
pub(super) async fn measure(world: &World, flows: u32) -> Result<Value> {
    eprintln!("bench: memory with {flows} open flows");
    let gateway = Gateway::start(world)?;
    let client = Client::new(gateway.way(0), "http/1.1")?;
    // What is made once, by the first flow, is no cost of a flow.
    let mut open = vec![visited(&client, world).await?];
    let before = own(gateway.process())?;
    for _ in 0..flows {
        open.push(visited(&client, world).await?);
    }
    let with = own(gateway.process())?;
    drop(open);
    Ok(json!({
        "flows": flows,
        "proxy_kib": before,
        "proxy_with_flows_kib": with,
        "kib_per_flow": round((with - before) / f64::from(flows)),
    }))
}

async fn visited(client: &Client, world: &World) -> Result<Http1> {
    let mut connection = Http1::open(client, HOST, world.port()).await?;
    connection.get("/bytes/100").await?;
    Ok(connection)
}

/// Resident memory in KiB, without what is shared.
fn own(process: Process) -> Result<f64> {
    process.memory()?["own_rss"].as_f64().context("no resident memory")
}
