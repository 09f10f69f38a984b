//! What a stored image adds to a start: `true` in a sandbox of it, against one of the host's
//! directories, in turns.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::matchlock::Matchlock;
use crate::bench::series::{Series, round};

pub(super) fn measure(matchlock: &Matchlock, image: &str, samples: u32) -> Result<Value> {
    // The first runs fill caches, the kernel's and our own.
    matchlock.run_true("host")?;
    matchlock.run_true(image)?;
    let (mut host, mut stored) = (Series::default(), Series::default());
    for sample in 1..=samples {
        let (host_ms, _) = matchlock.run_true("host")?;
        let (image_ms, _) = matchlock.run_true(image)?;
        eprintln!("bench: {sample}/{samples}: host {host_ms:.0} ms, image {image_ms:.0} ms");
        host.push(host_ms);
        stored.push(image_ms);
    }
    Ok(json!({
        "samples": samples,
        "host_ms": host.to_json(),
        "image_ms": stored.to_json(),
        "added_ms": {
            "of_medians": round(stored.median() - host.median()),
            "of_pairs": stored.minus(&host).to_json(),
        },
    }))
}
