//! What comes out of a registry and into a guest is what was in the archive.

use std::collections::BTreeSet;
use std::fs;

use matchlock_testkit::Lab;

use crate::stock::{Stock, program, python, run};

cases![every_file_of_a_pulled_image_is_as_it_was_pushed];

/// What the sandbox has of its own: names and addresses, and its authority of certificates.
const OWN: [&str; 8] = [
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/matchlock-ca.crt",
    "/usr/local/share/ca-certificates/matchlock-ca.crt",
    // Directories whose times that has changed.
    "/etc",
    "/etc/ssl/certs",
];

fn every_file_of_a_pulled_image_is_as_it_was_pushed(stock: &Stock) {
    let archive = stock.odd();
    let image = stock.registry().push(&archive, "odd:1");
    let lab = Lab::new();
    let script = fs::read_to_string(program("listing.py")).expect("read");
    // Pulled by `run` itself.
    // Without a network there is no authority, and so no trust store that has it.
    let seen = run(&lab, &image, &["--no-network"], &["python3", "-c", &script]);
    let seen = seen.finish().expect(0);
    let built = format!("Built rootfs from {image} (");
    assert!(seen.err().lines().any(|line| line.starts_with(&built)), "{}", seen.err());
    let (expected, seen) = (python("expected.py", &[&archive]), seen.out());
    let mounts: Vec<&str> =
        seen.lines().filter_map(|line| line.strip_prefix("pruned b'")).collect();
    let mounts: Vec<&str> = mounts.iter().map(|path| path.trim_end_matches('\'')).collect();
    let is_compared = |line: &&str| {
        let path = line.rsplit_once(" b'").map_or("", |(_, path)| path.trim_end_matches('\''));
        let below = |mount: &&str| {
            path.strip_prefix(*mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !line.starts_with("pruned") && !OWN.contains(&path) && !mounts.iter().any(below)
    };
    let expected: BTreeSet<&str> = expected.lines().filter(is_compared).collect();
    let seen: BTreeSet<&str> = seen.lines().filter(is_compared).collect();
    assert!(expected.len() > 5_000, "{} files", expected.len());
    let missing: Vec<_> = expected.difference(&seen).take(20).collect();
    let other: Vec<_> = seen.difference(&expected).take(20).collect();
    assert!(missing.is_empty() && other.is_empty(), "missing: {missing:#?}\nelse: {other:#?}");
    // All of the odd ones were among them.
    for name in ["mode 4755", "capability", "third name", "sparse", "caf", "/etc/motd/file"] {
        assert!(seen.iter().any(|line| line.contains(name)), "{name}");
    }
    assert!(!seen.iter().any(|line| line.ends_with("b'/etc/issue'")), "a whiteout");
}
