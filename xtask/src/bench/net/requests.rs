//! Small things, many times: requests, first events, handshakes.

use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{Client, Http1, Http2};
use super::gateway::Gateway;
use super::world::{HOST, HOSTS, Way, World};
use crate::bench::series::{Series, round};

/// What is asked for: the answer has so many bytes.
const PATH: &str = "/bytes/100";
/// Requests that wait for their answers at once.
const CONCURRENT: u32 = 32;
/// Turns of each kind of request.
const ROUNDS: u32 = 3;
/// First events of each way.
const EVENTS: u32 = 50;

/// Requests per second on connections that are kept.
pub(super) async fn measure(world: &World, gateway: &Gateway, count: u32) -> Result<Value> {
    let ways = [world.direct(), gateway.way(0)];
    let mut report = serde_json::Map::new();
    for (name, version, concurrent) in [
        ("h1_sequential", 1, 1),
        ("h1_concurrent", 1, CONCURRENT),
        ("h2_sequential", 2, 1),
        ("h2_concurrent", 2, CONCURRENT),
    ] {
        eprintln!("bench: requests, {}", name.replace('_', ", "));
        let mut rates = [Series::default(), Series::default()];
        for _ in 0..ROUNDS {
            for (way, rates) in ways.iter().zip(&mut rates) {
                let rate = match version {
                    1 => http1(world, way, count, concurrent).await,
                    _ => http2(world, way, count, concurrent).await,
                };
                rates.push(rate.with_context(|| format!("{name}, {}", way.name))?);
            }
        }
        let [direct, intercepted] = rates;
        report.insert(
            name.to_owned(),
            json!({
                "at_once": concurrent,
                "direct_per_second": direct.to_json(),
                "intercepted_per_second": intercepted.to_json(),
                "ratio": round(intercepted.median() / direct.median()),
            }),
        );
    }
    report.insert("requests".to_owned(), count.into());
    Ok(report.into())
}

/// Requests per second, on one connection for each that may be open at once.
async fn http1(world: &World, way: &Way, count: u32, concurrent: u32) -> Result<f64> {
    let client = Client::new(way.clone(), "http/1.1")?;
    let mut connections = Vec::new();
    for _ in 0..concurrent {
        let mut connection = Http1::open(&client, HOST, world.port()).await?;
        connection.get(PATH).await?;
        connections.push(connection);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        tasks.spawn(async move {
            for _ in 0..count / concurrent {
                connection.get(PATH).await?;
            }
            anyhow::Ok(())
        });
    }
    finish(tasks, count / concurrent * concurrent, start).await
}

/// Requests per second, on one connection.
async fn http2(world: &World, way: &Way, count: u32, concurrent: u32) -> Result<f64> {
    let client = Client::new(way.clone(), "h2")?;
    let mut connection = Http2::open(&client, HOST, world.port()).await?;
    connection.get(PATH).await?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..concurrent {
        let mut connection = connection.clone();
        tasks.spawn(async move {
            for _ in 0..count / concurrent {
                connection.get(PATH).await?;
            }
            anyhow::Ok(())
        });
    }
    finish(tasks, count / concurrent * concurrent, start).await
}

async fn finish(mut tasks: JoinSet<Result<()>>, count: u32, start: Instant) -> Result<f64> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// From the moment that the server may send the first event to its arrival.
pub(super) async fn first_event(world: &World, gateway: &Gateway) -> Result<Value> {
    eprintln!("bench: first events");
    let mut times = [Series::default(), Series::default()];
    let mut connections = Vec::new();
    for way in [world.direct(), gateway.way(0)] {
        let client = Client::new(way, "http/1.1")?;
        connections.push(Http1::open(&client, HOST, world.port()).await?);
    }
    for _ in 0..EVENTS {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            connection.send("/sse?n=1&wait").await?;
            connection.until(b"\r\n\r\n").await?;
            let start = Instant::now();
            world.origin.release(1);
            connection.until(b"\"text\":\"foo\"}\n\n").await?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            // The last chunk, so that the connection can be used again.
            connection.until(b"0\r\n\r\n").await?;
        }
    }
    let [direct, intercepted] = times;
    Ok(json!({
        "events": EVENTS,
        "direct_ms": direct.summary(),
        "intercepted_ms": intercepted.summary(),
        "added_ms": round(intercepted.median() - direct.median()),
    }))
}

/// Connection and handshake with each of many hosts, which are visited twice.
pub(super) async fn handshakes(world: &World, gateway: &Gateway) -> Result<Value> {
    eprintln!("bench: handshakes");
    let mut visits = Vec::new();
    for _ in 0..2 {
        let mut times = [Series::default(), Series::default()];
        for (index, host) in world.hosts.iter().enumerate().skip(1) {
            for (way, times) in [world.direct(), gateway.way(index)].into_iter().zip(&mut times) {
                let client = Client::new(way, "h2")?;
                let start = Instant::now();
                let session = client.connect(host).await?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
                drop(session);
            }
        }
        visits.push(times);
    }
    let visit = |[direct, intercepted]: &[Series; 2]| {
        json!({
            "direct_ms": direct.summary(),
            "intercepted_ms": intercepted.summary(),
            "added_ms": round(intercepted.median() - direct.median()),
        })
    };
    let visits: Vec<_> = visits.iter().map(visit).collect();
    Ok(json!({ "hosts": HOSTS, "first_visit": visits[0], "second_visit": visits[1] }))
}
