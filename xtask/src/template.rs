//! `cargo xtask template`: the empty ext4 image that becomes the writable layer of a sandbox.
//!
//! The image is small, so that it can be committed and unpacked in no time; the agent grows it to
//! the size of the disk while it is mounted. `guest/rootfs/README.md` gives the reasons for the
//! features that it has and lacks.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::guest::write_if_changed;
use crate::run;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

const IMAGE: &str = "guest/rootfs/upper.ext4.zst";
const MANIFEST: &str = "guest/rootfs/manifest.json";
const SIZE: u64 = 16 * 1024 * 1024;
/// Inodes of one block group. A group made by growing has as many as the first one, so this gives
/// one inode for 16 KiB at every size.
const INODES: u32 = 8192;
/// Block groups that growth makes in one step.
const FLEX_GROUP: &str = "256";
const FEATURES: &str = "none,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,\
                        extra_isize,ext_attr,dir_index,uninit_bg,meta_bg";
const UUID: &str = "6d617463-686c-6f63-6b00-757070657200";
const HASH_SEED: &str = "6d617463-686c-6f63-6b00-686173680000";
const LABEL: &str = "matchlock-upper";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make the image again instead of checking the committed one.
    #[arg(long)]
    write: bool,
}

/// Makes the image, or checks the committed one.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(&[Need::E2fsprogs])?;
    if args.write {
        write(workspace)?;
    }
    let image = read(workspace.root())?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("upper.ext4");
    fs::write(&path, &image)?;
    run::output(Command::new(tool("e2fsck")?).arg("-fn").arg(&path))
        .context("the image is not a sound file system")?;
    println!("template: {IMAGE} is as its manifest says and sound");
    Ok(())
}

fn write(workspace: &Workspace) -> Result<()> {
    let image = make()?;
    let packed = zstd::encode_all(image.as_slice(), 19).context("cannot compress the image")?;
    let manifest = json!({
        "image": "upper.ext4.zst",
        "size": SIZE,
        "sha256": sha256(&image),
        "compressed_size": packed.len(),
        "compressed_sha256": sha256(&packed),
        "features": FEATURES.split(',').skip(1).collect::<Vec<_>>(),
        "uuid": UUID,
        "made_with": version()?,
    });
    write_if_changed(&workspace.path(IMAGE), &packed)?;
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    write_if_changed(&workspace.path(MANIFEST), text.as_bytes())?;
    println!("template: wrote {IMAGE}, {} bytes", packed.len());
    Ok(())
}

/// Makes the image: the same bytes from the same version of `mke2fs`, whenever it is run.
fn make() -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("upper.ext4");
    fs::File::create(&path)?.set_len(SIZE)?;
    // The defaults of the distribution must not decide.
    let config = directory.path().join("mke2fs.conf");
    fs::write(
        &config,
        "[defaults]\n[fs_types]\next4 = {\ninode_size = 256\n}\nsmall = {\nblocksize = 4096\n}\n",
    )?;
    let inodes = INODES.to_string();
    let extended = format!(
        "hash_seed={HASH_SEED},root_owner=0:0,lazy_itable_init=0,assume_storage_prezeroed=1,nodiscard"
    );
    let mut mke2fs = Command::new(tool("mke2fs")?);
    mke2fs
        .env("MKE2FS_CONFIG", &config)
        .env("E2FSPROGS_FAKE_TIME", "1")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-N", &inodes])
        .args(["-G", FLEX_GROUP])
        .args(["-L", LABEL, "-U", UUID, "-O", FEATURES, "-E", &extended])
        .arg(&path);
    run::checked(&mut mke2fs)?;
    Ok(fs::read(&path)?)
}

/// Reads the committed image and compares it with the manifest.
fn read(root: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(root.join(IMAGE)).with_context(|| format!("cannot read {IMAGE}"))?;
    let manifest =
        fs::read(root.join(MANIFEST)).with_context(|| format!("cannot read {MANIFEST}"))?;
    let manifest: Value = serde_json::from_slice(&manifest).context("malformed manifest")?;
    let image = zstd::decode_all(packed.as_slice()).context("cannot unpack the image")?;
    ensure!(image.len() as u64 == SIZE, "the image has another size than {SIZE}");
    ensure!(manifest["compressed_sha256"] == sha256(&packed), "compressed_sha256 differs");
    ensure!(manifest["sha256"] == sha256(&image), "sha256 differs");
    Ok(image)
}

fn version() -> Result<String> {
    let output = Command::new(tool("mke2fs")?).arg("-V").stdout(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn tool(name: &str) -> Result<std::path::PathBuf> {
    run::find_program(name).with_context(|| format!("{name} is not installed"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn the_committed_image_is_the_one_of_its_manifest() -> Result<()> {
        read(root()).map(drop)
    }

    #[test]
    fn the_committed_image_is_a_sound_file_system() -> Result<()> {
        let Ok(e2fsck) = tool("e2fsck") else {
            return Ok(());
        };
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("upper.ext4");
        fs::write(&path, read(root())?)?;
        run::output(Command::new(e2fsck).arg("-fn").arg(&path)).map(drop)
    }
}
