//! `cargo xtask image`: images of the distribution's packages, for which no registry is asked.
//!
//! A root file system is made once, by `mmdebstrap` from the mirror that APT has on this machine.
//! All images are cut out of it: the one that is imported, and those that the tests and the
//! benchmarks read from `target/images` ([`TestImage`]). The same versions of the packages give the
//! same bytes.

mod layers;
mod rootfs;
mod small;

use std::fs;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use matchlock_testkit::TestImage;
use matchlock_testkit::image_archive::{Format, ImageArchive, Packing};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::rootfs::{PACKAGES, RootFs};
use crate::workspace::Workspace;
use crate::{build, run};

/// Where the images are; the tests look there too.
const DIRECTORY: &str = "target/images";
/// File beside the images that says what they were made of.
const KEY: &str = "key";
/// Whatever makes the images: they are made again when it changes.
const SOURCES: [&str; 5] = [
    include_str!("image.rs"),
    include_str!("image/layers.rs"),
    include_str!("image/rootfs.rs"),
    include_str!("image/small.rs"),
    include_str!("../../crates/matchlock-testkit/src/image_archive.rs"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the imported image.
    #[arg(long, default_value = "debian:local")]
    tag: String,
    /// Import with this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Make the archives, and import nothing.
    #[arg(long, conflicts_with_all = ["tag", "binary"])]
    no_import: bool,
}

/// Makes the images, as far as they are missing, and imports the one of Debian.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    make(workspace)?;
    if args.no_import {
        return Ok(());
    }
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::run(workspace)?,
    };
    let archive = directory(workspace).join(TestImage::Debian.file_name());
    let archive =
        fs::File::open(&archive).with_context(|| format!("cannot open {}", archive.display()))?;
    run::checked(Command::new(binary).args(["image", "import", &args.tag]).stdin(archive))
}

/// Makes the images, as far as they are missing; returns their directory.
pub(crate) fn make(workspace: &Workspace) -> Result<PathBuf> {
    let directory = directory(workspace);
    let suite = rootfs::suite()?;
    let key = key(&suite);
    let complete = TestImage::ALL.iter().all(|i| directory.join(i.file_name()).is_file());
    if complete && fs::read_to_string(directory.join(KEY)).is_ok_and(|old| old == key) {
        eprintln!("image: {} is up to date", directory.display());
        return Ok(directory);
    }
    let start = Instant::now();
    let rootfs = RootFs::make(&suite)?;
    eprintln!("image: packages of {suite} installed in {:.1} s", start.elapsed().as_secs_f64());
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    for image in TestImage::ALL {
        write(image, &rootfs, &directory)?;
    }
    fs::write(directory.join(KEY), key).context("cannot write the key of the images")?;
    eprintln!("image: complete in {:.1} s", start.elapsed().as_secs_f64());
    Ok(directory)
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.path(DIRECTORY)
}

/// Digest of all that decides what the images are, but for the versions of the packages.
fn key(suite: &str) -> String {
    let mut hasher = Sha256::new();
    let inputs = [suite, std::env::consts::ARCH];
    for input in inputs.iter().chain(&PACKAGES).chain(&SOURCES) {
        hasher.update(input.len().to_le_bytes());
        hasher.update(input);
    }
    HEXLOWER.encode(&hasher.finalize())
}

fn write(image: TestImage, rootfs: &RootFs, directory: &Path) -> Result<()> {
    let start = Instant::now();
    let (layers, config, format, packing) = match image {
        TestImage::Debian => {
            (layers::by_package(rootfs)?, shell("bash"), Format::Docker, Packing::Plain)
        }
        TestImage::TenLayers => {
            (layers::by_size(rootfs)?, shell("bash"), Format::Oci, Packing::Gzip)
        }
        TestImage::ManyLayers => {
            (small::many_layers(rootfs.busybox()?), shell("sh"), Format::Oci, Packing::Gzip)
        }
        TestImage::Scratch => (
            vec![small::scratch(rootfs.busybox()?)],
            small::config(),
            Format::Docker,
            Packing::Plain,
        ),
    };
    let (count, unpacked) = (layers.len(), layers.iter().map(Vec::len).sum::<usize>());
    let temporary = tempfile::Builder::new()
        .tempfile_in(directory)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    ImageArchive::new(layers)
        .config(config)
        .write(BufWriter::new(temporary.as_file()), format, packing, &tag(image))
        .context("cannot write an archive")?;
    let size = temporary.as_file().metadata()?.len();
    // A temporary file is its owner's alone.
    temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    temporary.persist(directory.join(image.file_name())).context("cannot write an archive")?;
    eprintln!(
        "image: {}, {count} layers, {} of tar in {} of archive, in {:.1} s",
        image.file_name(),
        megabytes(unpacked as u64),
        megabytes(size),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn tag(image: TestImage) -> String {
    format!("{}:local", image.name())
}

/// How an image with a shell is run (OCI image spec, `config.md`).
fn shell(command: &str) -> Value {
    json!({
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
        ],
        "Cmd": [command],
        "WorkingDir": "/root",
    })
}

/// Of 10⁶ bytes.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
