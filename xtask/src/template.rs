//! `cargo xtask template`: the empty ext4 images that become the writable layer of a sandbox.
//!
//! One is small, and the agent grows it to the size of the disk while it is mounted; the other has
//! the size of the default disk, because growing is a tenth of a boot under emulation. Of both, the
//! blocks that are not zero are committed. `guest/rootfs/README.md` gives the reasons for the
//! features that they have and lack.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::guest::write_if_changed;
use crate::run;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

const DIRECTORY: &str = "guest/rootfs";
const MANIFEST: &str = "guest/rootfs/manifest.json";
/// Of the file systems, in bytes.
const BLOCK: usize = 4096;
const MIB: u64 = 1024 * 1024;
const IMAGES: [Image; 3] = [
    // A group made by growing has as many inodes as the first one: one for 16 KiB at every size.
    Image { file: "upper.ext4.zst", size: 16 * MIB, inodes: 8192, kind: Kind::Upper },
    Image { file: "upper-2g.ext4.zst", size: 2048 * MIB, inodes: 131_072, kind: Kind::Upper },
    Image { file: "volume.ext4.zst", size: 16 * MIB, inodes: 8192, kind: Kind::Volume },
];
/// What the agent would make in every new file system: the overlay's upper layer, with the directory
/// that it writes to first, and the overlay's work directory.
const DIRECTORIES: [&str; 4] = ["", "data", "data/etc", "work"];
/// Of a volume, in MiB: the least that mke2fs takes, for the smallest volume is small too.
const JOURNAL: &str = "size=4";
/// Block groups that growth makes in one step.
const FLEX_GROUP: &str = "256";
const FEATURES: &str = "none,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,\
                        extra_isize,ext_attr,dir_index,uninit_bg,meta_bg";
const UUID: &str = "6d617463-686c-6f63-6b00-757070657200";
const HASH_SEED: &str = "6d617463-686c-6f63-6b00-686173680000";

/// A template.
#[derive(Debug, Clone, Copy)]
struct Image {
    file: &'static str,
    /// Of the file system, in bytes.
    size: u64,
    inodes: u32,
    kind: Kind,
}

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The writable layer, which lives as long as its machine.
    Upper,
    /// A volume, which a machine may leave at any time.
    Volume,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Upper => "matchlock-upper",
            Self::Volume => "matchlock-volume",
        }
    }

    /// Directories in it, the root as the first.
    fn directories(self) -> &'static [&'static str] {
        match self {
            Self::Upper => &DIRECTORIES,
            Self::Volume => &[""],
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make the image again instead of checking the committed one.
    #[arg(long)]
    write: bool,
}

/// Makes the images, or checks the committed ones.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(&[Need::E2fsprogs])?;
    if args.write {
        write(workspace)?;
    }
    for image in IMAGES {
        check(&image, workspace.root(), &tool("e2fsck")?)?;
        println!("template: {} is as its manifest says and sound", image.file);
    }
    Ok(())
}

fn write(workspace: &Workspace) -> Result<()> {
    let mut entries = Vec::new();
    for image in IMAGES {
        let content = make(&image)?;
        let packed = zstd::encode_all(content.as_slice(), 19).context("cannot compress")?;
        entries.push(json!({
            "image": image.file,
            "file_system_size": image.size,
            "pieces_size": content.len(),
            "sha256": sha256(&content),
            "compressed_size": packed.len(),
            "compressed_sha256": sha256(&packed),
        }));
        write_if_changed(&workspace.path(DIRECTORY).join(image.file), &packed)?;
        println!("template: wrote {}, {} bytes", image.file, packed.len());
    }
    let manifest = json!({
        "images": entries,
        "features": FEATURES.split(',').skip(1).collect::<Vec<_>>(),
        "uuid": UUID,
        "made_with": version()?,
    });
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    write_if_changed(&workspace.path(MANIFEST), text.as_bytes()).map(drop)
}

/// Makes the image: the same bytes from the same version of `mke2fs`, whenever it is run.
fn make(image: &Image) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("upper.ext4");
    fs::File::create(&path)?.set_len(image.size)?;
    let content = directory.path().join("content");
    for name in image.kind.directories() {
        fs::create_dir(content.join(name))?;
    }
    // The defaults of the distribution must not decide.
    let config = directory.path().join("mke2fs.conf");
    fs::write(
        &config,
        "[defaults]\n[fs_types]\next4 = {\ninode_size = 256\n}\nsmall = {\nblocksize = 4096\n}\n",
    )?;
    let inodes = image.inodes.to_string();
    let extended = format!(
        "hash_seed={HASH_SEED},root_owner=0:0,lazy_itable_init=0,assume_storage_prezeroed=1,nodiscard"
    );
    let mut mke2fs = Command::new(tool("mke2fs")?);
    mke2fs
        .env("MKE2FS_CONFIG", &config)
        .env("E2FSPROGS_FAKE_TIME", "1")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-N", &inodes])
        .args(["-G", FLEX_GROUP])
        .args(["-L", image.kind.label(), "-U", UUID, "-O", FEATURES, "-E", &extended])
        .args(if image.kind == Kind::Volume { &["-J", JOURNAL][..] } else { &[] })
        .arg("-d")
        .arg(&content)
        .arg(&path);
    run::checked(&mut mke2fs)?;
    forget_time(directory.path(), &path, image.kind)?;
    pieces(&fs::File::open(&path)?, image.size)
}

/// The blocks that are not zero: offset, length, content, as the host writes them into a new disk.
fn pieces(file: &fs::File, size: u64) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    let mut block = vec![0; BLOCK];
    let zeros = block.clone();
    for offset in (0..size).step_by(BLOCK) {
        file.read_exact_at(&mut block, offset)?;
        if block != zeros {
            packed.extend(offset.to_le_bytes());
            packed.extend(u32::try_from(BLOCK)?.to_le_bytes());
            packed.extend(&block);
        }
    }
    Ok(packed)
}

/// Writes the pieces into a sparse file.
fn unpack(packed: &[u8], file: &fs::File, size: u64) -> Result<()> {
    file.set_len(size)?;
    for piece in packed.chunks(12 + BLOCK) {
        let (offset, rest) = piece.split_first_chunk::<8>().context("a torn piece")?;
        let (_, content) = rest.split_first_chunk::<4>().context("a torn piece")?;
        file.write_all_at(content, u64::from_le_bytes(*offset))?;
    }
    Ok(())
}

/// Sets the times that mke2fs copied from the directories, of which one cannot be set there.
fn forget_time(directory: &Path, image: &Path, kind: Kind) -> Result<()> {
    let mut script = String::from("set_current_time 19700101000001\n");
    for name in kind.directories() {
        for field in ["atime", "mtime", "ctime", "crtime"] {
            script += &format!("set_inode_field /{name} {field} @1\n");
        }
        for field in ["atime_extra", "mtime_extra", "ctime_extra", "crtime_extra"] {
            script += &format!("set_inode_field /{name} {field} 0\n");
        }
    }
    let commands = directory.join("debugfs.script");
    fs::write(&commands, script)?;
    run::output(Command::new(tool("debugfs")?).arg("-w").arg("-f").arg(&commands).arg(image))
        .map(drop)
}

/// Compares a committed image with the manifest and looks for errors in the file system.
fn check(image: &Image, root: &Path, e2fsck: &Path) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("upper.ext4");
    unpack(&read(image, root)?, &fs::File::create(&path)?, image.size)?;
    run::output(Command::new(e2fsck).arg("-fn").arg(&path))
        .with_context(|| format!("{} is not a sound file system", image.file))
        .map(drop)
}

/// Reads a committed image and compares it with the manifest.
fn read(image: &Image, root: &Path) -> Result<Vec<u8>> {
    let file = image.file;
    let packed =
        fs::read(root.join(DIRECTORY).join(file)).with_context(|| format!("cannot read {file}"))?;
    let manifest =
        fs::read(root.join(MANIFEST)).with_context(|| format!("cannot read {MANIFEST}"))?;
    let manifest: Value = serde_json::from_slice(&manifest).context("malformed manifest")?;
    let entries = manifest["images"].as_array().context("no images in the manifest")?;
    let entry = entries.iter().find(|entry| entry["image"] == file);
    let entry = entry.with_context(|| format!("no entry for {file}"))?;
    let content = zstd::decode_all(packed.as_slice()).context("cannot unpack the image")?;
    ensure!(entry["file_system_size"] == image.size, "{file} has another size");
    ensure!(entry["compressed_sha256"] == sha256(&packed), "compressed_sha256 of {file} differs");
    ensure!(entry["sha256"] == sha256(&content), "sha256 of {file} differs");
    Ok(content)
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
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn the_committed_image_is_the_one_of_its_manifest() -> Result<()> {
        IMAGES.iter().try_for_each(|image| read(image, root()).map(drop))
    }

    #[test]
    fn the_committed_image_is_a_sound_file_system() -> Result<()> {
        let Ok(e2fsck) = tool("e2fsck") else {
            return Ok(());
        };
        IMAGES.iter().try_for_each(|image| check(image, root(), &e2fsck))
    }
}
