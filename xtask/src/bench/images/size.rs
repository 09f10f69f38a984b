//! What an image takes on the disk: in the registry, as archives, in the store.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bench::matchlock::Matchlock;
use crate::bench::series::round;
use crate::run;

/// Bytes of a unit of `st_blocks` (`stat(2)`).
const SECTOR: u64 = 512;

/// Of the image that is in the store of `home`, alone, and copied to the directory `copied`.
pub(super) fn measure(matchlock: &Matchlock, home: &Path, copied: &Path) -> Result<Value> {
    let manifest = fs::read(copied.join("manifest.json")).context("no manifest")?;
    let manifest: Value = serde_json::from_slice(&manifest).context("not a manifest")?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    let (mut compressed, mut tar) = (0, 0);
    for layer in layers {
        compressed += layer["size"].as_u64().context("no size")?;
        let digest = layer["digest"].as_str().context("no digest")?;
        let (_, hex) = digest.split_once(':').context("no digest")?;
        tar += uncompressed(&copied.join(hex))?;
    }
    let list = run::output(&mut matchlock.command(&["image", "ls", "--json"]))?;
    let list: Value = serde_json::from_str(&list).context("not a list of images")?;
    let shown = list[0]["bytes"].as_u64().context("no image")?;
    let store = allocated(&home.join(".cache/matchlock/images"))?;
    Ok(json!({
        "layers": layers.len(),
        "compressed_bytes": compressed,
        "tar_bytes": tar,
        "image_bytes": shown,
        "store_bytes": store,
        "store_over_tar": ratio(store, tar),
        "store_over_compressed": ratio(store, compressed),
    }))
}

/// Length of what a file of one gzip member holds, below 4 GiB (RFC 1952, section 2.3.1: `ISIZE`).
fn uncompressed(path: &Path) -> Result<u64> {
    let mut file = File::open(path).with_context(|| format!("no {}", path.display()))?;
    let (mut magic, mut length) = ([0; 2], [0; 4]);
    file.read_exact(&mut magic)?;
    ensure!(magic == [0x1f, 0x8b], "{} is no gzip", path.display());
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut length)?;
    Ok(u32::from_le_bytes(length).into())
}

/// Bytes that a directory's files take on the device.
fn allocated(directory: &Path) -> Result<u64> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("no {}", directory.display()))?;
    entries
        .map(|entry| {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                return allocated(&entry.path());
            }
            Ok(entry.metadata()?.blocks() * SECTOR)
        })
        .sum()
}

fn ratio(value: u64, other: u64) -> f64 {
    round(value as f64 / other as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_below_a_directory_are_counted_as_they_lie_on_the_device() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let below = directory.path().join("a/b");
        fs::create_dir_all(&below)?;
        assert_eq!(allocated(directory.path())?, 0);
        fs::write(below.join("file"), vec![1; 100_000])?;
        File::create(below.join("hole"))?.set_len(1 << 30)?;
        let allocated = allocated(directory.path())?;
        assert!((100_000..1_000_000).contains(&allocated), "{allocated}");
        Ok(())
    }

    #[test]
    fn the_length_is_at_the_end_of_gzip() -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, &[0x1f, 0x8b, 8, 0, 0, 0, 0x10, 0x32, 0x54, 0x76])?;
        assert_eq!(uncompressed(file.path())?, 0x7654_3210);
        fs::write(file.path(), b"plain text")?;
        assert!(uncompressed(file.path()).is_err());
        Ok(())
    }
}
