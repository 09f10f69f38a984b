//! Large transfers by curl.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::gateway::Gateway;
use super::world::{HOST, Way, World};
use crate::bench::series::{Series, round};
use crate::run;

/// The kinds of transfer: name, protocol flag of curl, whether it is an upload.
const KINDS: [(&str, &str, bool); 4] = [
    ("download_h1", "--http1.1", false),
    ("download_h2", "--http2", false),
    ("upload_h1", "--http1.1", true),
    ("upload_h2", "--http2", true),
];

/// Megabytes per second, direct and intercepted, in turns.
pub(super) fn measure(
    world: &World,
    gateway: &Gateway,
    megabytes: u64,
    samples: u32,
) -> Result<Value> {
    let bytes = megabytes * 1_000_000;
    let upload = world.files.path().join("upload");
    File::create(&upload)?.set_len(bytes).context("cannot make the file to upload")?;
    let mut report = serde_json::Map::new();
    for (name, protocol, is_upload) in KINDS {
        let mut rates = [Series::default(), Series::default()];
        let mut cpu = Series::default();
        for sample in 1..=samples {
            eprintln!("bench: {}, {sample}/{samples}", name.replace('_', ", "));
            let before = gateway.process().cpu_time();
            for (way, rates) in [world.direct(), gateway.way(0)].iter().zip(&mut rates) {
                let mut curl = curl(world, way, protocol);
                let curl = if is_upload {
                    upload_to(&mut curl, world, &upload)
                } else {
                    curl.args(["-o", "/dev/null"]).arg(url(world, &format!("/bytes/{bytes}")))
                };
                rates.push(rate(&run::output(curl)?, bytes)?);
            }
            if let Some((before, after)) = before.zip(gateway.process().cpu_time()) {
                cpu.push((after - before) / (bytes as f64 / 1e9));
            }
        }
        let [direct, intercepted] = rates;
        report.insert(
            name.to_owned(),
            json!({
                "direct_mb_per_second": direct.to_json(),
                "intercepted_mb_per_second": intercepted.to_json(),
                "ratio": round(intercepted.median() / direct.median()),
                "ratio_of_pairs": intercepted.over(&direct).to_json(),
                "proxy_cpu_seconds_per_gb": round(cpu.median()),
            }),
        );
    }
    report.insert("megabytes".to_owned(), megabytes.into());
    Ok(report.into())
}

fn curl(world: &World, way: &Way, protocol: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", protocol]);
    curl.args(["--write-out", WRITE_OUT]).arg("--cacert").arg(&way.ca);
    curl.args(["--connect-to", &format!("{HOST}:{}:{}", world.port(), way.address)]);
    curl
}

fn upload_to<'a>(curl: &'a mut Command, world: &World, file: &Path) -> &'a mut Command {
    curl.args(["-o", "/dev/null", "--upload-file"]).arg(file).arg(url(world, "/discard"))
}

fn url(world: &World, path: &str) -> String {
    format!("https://{HOST}:{}{path}", world.port())
}

/// What curl is to say: bytes down, bytes up, and the seconds from the first byte asked for to the
/// last.
pub(super) const WRITE_OUT: &str =
    "%{size_download} %{size_upload} %{time_total} %{time_pretransfer}";

/// Megabytes per second, of what [`WRITE_OUT`] has said; the handshake does not count.
pub(super) fn rate(said: &str, bytes: u64) -> Result<f64> {
    let numbers: Vec<f64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [down, up, total, before] = numbers[..] else {
        anyhow::bail!("curl says {said:?}");
    };
    ensure!(down.max(up) as u64 == bytes, "curl moved {down} and {up} bytes and not {bytes}");
    Ok(bytes as f64 / 1e6 / (total - before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_without_the_handshake() -> Result<()> {
        assert_eq!(rate("2000000 0 1.5 0.5", 2_000_000)?, 2.0);
        assert_eq!(rate("4 2000000 1.5 0.5", 2_000_000)?, 2.0);
        assert!(rate("2000000 0 1.5 0.5", 3_000_000).is_err());
        assert!(rate("", 1).is_err());
        Ok(())
    }
}
