//! Every fuzz target over its committed inputs and a fixed sequence of mutations of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use matchlock_fuzz::{TARGETS, Target};

/// Mutated inputs for each target; `MATCHLOCK_FUZZ_RUNS` asks for another number.
const RUNS: u64 = 3000;
/// Where mutations stop to make an input longer, in bytes.
const MAX_LEN: usize = 256 * 1024;

#[test]
fn targets_hold_for_seeds_and_their_mutations() {
    let runs = std::env::var("MATCHLOCK_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&(name, target)) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    println!("{name}");
                    try_inputs(&inputs(name), target, runs.unwrap_or(RUNS));
                }
            });
        }
    });
}

fn try_inputs(inputs: &[Vec<u8>], target: Target, runs: u64) {
    for input in inputs {
        target(input);
    }
    for run in 0..runs {
        let mut random = Random(run);
        let mut input = inputs[random.below(inputs.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, inputs, &mut random);
        }
        target(&input);
    }
}

#[test]
fn every_target_has_a_file_and_every_file_is_a_target() {
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems("fuzz_targets"), names, "files in fuzz_targets/ and lines in TARGETS");
    let manifest = fs::read_to_string(path("Cargo.toml")).expect("the manifest");
    for name in &names {
        let line = format!("path = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&line), "no [[bin]] for {name}");
    }
}

fn path(relative: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn stems(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(path(directory)).expect("the directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect()
}

/// In the order of their names, so that a run can be repeated.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let directory = path("corpus").join(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|_| panic!("no corpus for {name}"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no inputs for {name}");
    files.iter().map(|file| fs::read(file).expect("an input")).collect()
}

fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(7) {
        0 => input.truncate(at),
        1 => input.insert(at, random.byte()),
        2 => input.extend_from_within(at..),
        3 => {
            let other = &others[random.below(others.len())];
            input.splice(at..at, other.iter().copied());
        }
        // A number that says how long something is likes to be at an edge.
        4 => {
            let edge = [0, 1, 0x7f, 0x80, 0xffff, 0x1_0000, 0x7fff_ffff, u32::MAX];
            let value = edge[random.below(edge.len())];
            let bytes =
                if random.below(2) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
            for (byte, new) in input.iter_mut().skip(at).zip(bytes) {
                *byte = new;
            }
        }
        5 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.byte();
            }
        }
    }
    input.truncate(MAX_LEN);
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
