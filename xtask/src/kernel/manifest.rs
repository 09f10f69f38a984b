//! `guest/kernel/manifest.json`: what the committed kernels are, and the check that they still are.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Variant, config};

/// File name within `guest/kernel/`.
pub(super) const FILE: &str = "manifest.json";

/// Folder of the patches within `guest/kernel/`.
pub(super) const PATCHES: &str = "patches";

/// The manifest.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// One entry for each [`Variant`].
    pub(super) kernels: Vec<Entry>,
}

/// One kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// [`Variant::name`].
    pub(super) variant: String,
    /// Architecture.
    pub(super) arch: String,
    /// Debian source package.
    pub(super) source_package: String,
    /// Its exact version.
    pub(super) source_version: String,
    /// Upstream's version, as the kernel names itself.
    pub(super) upstream_version: String,
    /// Our changes to the source, each with its digest.
    pub(super) patches: Vec<FileDigest>,
    /// Configuration fragments on top of `allnoconfig`, each with its digest.
    pub(super) fragments: Vec<FileDigest>,
    /// The resulting configuration.
    pub(super) config: FileDigest,
    /// The compiled kernel; none where only the configuration is kept.
    pub(super) artefact: Option<Artefact>,
    /// The command that makes it again, bit for bit with the same compiler.
    pub(super) rebuild: String,
    /// Licence of the compiled kernel. Its complete source is the named package plus `patches`.
    pub(super) license: String,
}

/// A compiled kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Artefact {
    /// The compressed file.
    pub(super) file: String,
    /// SHA-256 of the compressed file.
    pub sha256: String,
    /// Size of the compressed file.
    pub(super) bytes: u64,
    /// SHA-256 of the kernel itself.
    pub unpacked_sha256: String,
    /// Size of the kernel itself.
    pub(super) unpacked_bytes: u64,
    /// First line of `gcc --version`.
    pub(super) compiler: String,
    /// First line of `ld --version`.
    pub(super) linker: String,
}

/// A file of `guest/kernel/` and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDigest {
    /// Path relative to `guest/kernel/`.
    pub(super) file: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl FileDigest {
    /// Digests a file of `dir`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn of(dir: &Path, file: &str) -> Result<Self> {
        let bytes = read(dir, file)?;
        Ok(Self { file: file.to_owned(), sha256: sha256(&bytes) })
    }
}

impl Manifest {
    /// Reads the manifest of `dir`.
    ///
    /// # Errors
    /// When it cannot be read or is malformed.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        serde_json::from_slice(&read(dir, FILE)?).with_context(|| format!("in {FILE}"))
    }

    /// Reads the manifest of `dir`, or starts one.
    ///
    /// # Errors
    /// When it is there but cannot be read or is malformed.
    pub(super) fn load_or_default(dir: &Path) -> Result<Self> {
        if dir.join(FILE).exists() { Self::load(dir) } else { Ok(Self::default()) }
    }

    /// Puts an entry in the place of the one of the same variant.
    pub(super) fn put(&mut self, entry: Entry) {
        self.kernels.retain(|old| old.variant != entry.variant);
        self.kernels.push(entry);
        self.kernels.sort_by_key(|entry| {
            Variant::ALL.iter().position(|variant| variant.name() == entry.variant)
        });
    }

    /// Writes the manifest of `dir`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn store(&self, dir: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("cannot encode the manifest")?;
        text.push('\n');
        fs::write(dir.join(FILE), text).with_context(|| format!("cannot write {FILE}"))
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// The patches of `dir`, in the order in which they are applied, relative to `dir`.
///
/// # Errors
/// When the folder cannot be listed.
pub(super) fn patches(dir: &Path) -> Result<Vec<String>> {
    let folder = dir.join(PATCHES);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {PATCHES}"))? {
        let name = entry.with_context(|| format!("cannot list {PATCHES}"))?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".patch")) {
            files.push(format!("{PATCHES}/{name}"));
        }
    }
    files.sort();
    Ok(files)
}

fn read(dir: &Path, file: &str) -> Result<Vec<u8>> {
    fs::read(dir.join(file)).with_context(|| format!("cannot read {file}"))
}

/// Compares `dir` with its manifest and its promises. Needs neither a compiler nor the source.
///
/// # Errors
/// When a file is missing or malformed. What is merely inconsistent is returned, line by line.
pub(super) fn check(dir: &Path) -> Result<Vec<String>> {
    let manifest = Manifest::load(dir)?;
    let mut problems = Vec::new();
    for entry in &manifest.kernels {
        if !Variant::ALL.iter().any(|variant| variant.name() == entry.variant) {
            problems.push(format!("{FILE}: unknown variant {}", entry.variant));
        }
    }
    for variant in Variant::ALL {
        let mut found = manifest.kernels.iter().filter(|entry| entry.variant == variant.name());
        let Some(entry) = found.next() else {
            problems.push(format!("{FILE}: no entry for {}", variant.name()));
            continue;
        };
        if found.next().is_some() {
            problems.push(format!("{FILE}: several entries for {}", variant.name()));
        }
        check_entry(dir, variant, entry, &mut problems)
            .with_context(|| format!("{} of {FILE}", variant.name()))?;
    }
    Ok(problems)
}

fn check_entry(
    dir: &Path,
    variant: Variant,
    entry: &Entry,
    problems: &mut Vec<String>,
) -> Result<()> {
    let name = variant.name();
    let mut complain = |what: String| problems.push(format!("{name}: {what}"));

    for (what, listed, present) in [
        ("patches", &entry.patches, digests(dir, &patches(dir)?)?),
        ("fragments", &entry.fragments, digests(dir, variant.fragments())?),
        ("configuration", &vec![entry.config.clone()], digests(dir, &[variant.config()])?),
    ] {
        if *listed != present {
            complain(format!("the {what} changed since the build: run `{}`", variant.rebuild()));
        }
    }

    let result = config::read(&dir.join(variant.config()))?;
    for lost in config::read_all(dir, variant.fragments())?.unmet_by(&result) {
        complain(format!("requested, but not in the result: {lost}"));
    }
    for broken in config::read_all(dir, variant.promises())?.unmet_by(&result) {
        complain(format!("promised, but not in the result: {broken}"));
    }

    match &entry.artefact {
        Some(artefact) => check_artefact(dir, variant, artefact, &mut complain)?,
        None if variant == Variant::GuestAarch64 => {}
        None => complain("no compiled kernel".to_owned()),
    }
    Ok(())
}

fn check_artefact(
    dir: &Path,
    variant: Variant,
    artefact: &Artefact,
    complain: &mut impl FnMut(String),
) -> Result<()> {
    if artefact.file != variant.artefact() {
        complain(format!("the kernel is {}, not {}", variant.artefact(), artefact.file));
    }
    let packed = read(dir, variant.artefact())?;
    if sha256(&packed) != artefact.sha256 || packed.len() as u64 != artefact.bytes {
        complain(format!("{} is not the file that was built", artefact.file));
    }
    let kernel = zstd::decode_all(packed.as_slice())
        .with_context(|| format!("cannot unpack {}", artefact.file))?;
    if sha256(&kernel) != artefact.unpacked_sha256 || kernel.len() as u64 != artefact.unpacked_bytes
    {
        complain(format!("{} does not unpack to the kernel that was built", artefact.file));
    }
    Ok(())
}

fn digests<S: AsRef<str>>(dir: &Path, files: &[S]) -> Result<Vec<FileDigest>> {
    files.iter().map(|file| FileDigest::of(dir, file.as_ref())).collect()
}
