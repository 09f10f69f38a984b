//! The inputs of a target that are kept in the repository.
//!
//! `seed-*` files were written by hand and stay. `kept-*` files are what a fuzzer found: inputs that
//! cover code which no shorter one covers, spread over all lengths. They are within a bound, for they
//! are there to start from and not to be complete.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::files;
use super::session::Session;

/// Bytes of a target's kept inputs together.
const BYTES: u64 = 48 * 1024;

/// Kept inputs of a target.
const FILES: usize = 96;

/// How the names of kept inputs start.
const PREFIX: &str = "kept-";

/// What is kept.
#[derive(Debug)]
pub(super) struct Kept {
    files: usize,
    bytes: u64,
    /// Inputs that cover something of their own.
    of: usize,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, of } = self;
        write!(f, "{files} inputs of {of} are kept, {bytes} bytes")
    }
}

/// Replaces the kept inputs of a target.
pub(super) fn renew(session: &Session<'_>) -> Result<Kept> {
    let minimal = tempfile::tempdir().context("no directory for the inputs")?;
    session.minimise(minimal.path())?;
    let found = files(minimal.path())?;
    let directory = session.committed();
    let mut seeds = BTreeSet::new();
    for (_, path) in files(&directory)? {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            fs::remove_file(&path)?;
        } else {
            seeds.insert(fs::read(&path)?);
        }
    }
    let mut kept = Kept { files: 0, bytes: 0, of: found.len() };
    // The shortest alone would be a few bytes each, of which none gets far.
    for (length, path) in found.iter().step_by(found.len().div_ceil(FILES).max(1)) {
        if kept.bytes + length > BYTES {
            break;
        }
        let input = fs::read(path)?;
        if !seeds.contains(&input) {
            keep(&input, &directory)?;
            kept.files += 1;
            kept.bytes += length;
        }
    }
    Ok(kept)
}

/// Writes an input under a name that its content makes.
fn keep(input: &[u8], directory: &Path) -> Result<()> {
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(input));
    let path = directory.join(format!("{PREFIX}{}", digest.get(..12).unwrap_or(&digest)));
    fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))
}
