//! Names the guest's parts that the binary embeds. It builds none of them: `cargo xtask guest` does.

use std::path::{Path, PathBuf};
use std::{env, fs};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

const KERNEL: &str = "../../guest/kernel/vmlinux-x86_64.zst";
const DISK_TEMPLATE: &str = "../../guest/rootfs/upper.ext4.zst";
const DISK_TEMPLATE_2G: &str = "../../guest/rootfs/upper-2g.ext4.zst";
const VOLUME_TEMPLATE: &str = "../../guest/rootfs/volume.ext4.zst";

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    println!("cargo::rerun-if-env-changed=MATCHLOCK_INITRAMFS");
    // An editor's check of a fresh clone has no guest yet; such a binary says so when it is run.
    let initramfs = env::var_os("MATCHLOCK_INITRAMFS").map(PathBuf::from);
    let initramfs = initramfs.filter(|path| path.is_file()).unwrap_or_else(|| {
        println!("cargo::warning=no guest agent is embedded: run `cargo xtask guest` first");
        let empty = out.join("no-initramfs");
        fs::write(&empty, []).expect("OUT_DIR is writable");
        empty
    });
    let kernel = manifest.join(KERNEL);
    let mut digest = Sha256::new();
    for (name, path) in [
        ("KERNEL", &kernel),
        ("INITRAMFS", &initramfs),
        ("DISK_TEMPLATE", &manifest.join(DISK_TEMPLATE)),
        ("DISK_TEMPLATE_2G", &manifest.join(DISK_TEMPLATE_2G)),
        ("VOLUME_TEMPLATE", &manifest.join(VOLUME_TEMPLATE)),
    ] {
        embed(name, path, &mut digest);
    }
    let hex = HEXLOWER.encode(&digest.finalize());
    println!("cargo::rustc-env=MATCHLOCK_EMBED_DIGEST={hex}");
    version();
}

fn embed(name: &str, path: &Path, digest: &mut Sha256) {
    println!("cargo::rerun-if-changed={}", path.display());
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    digest.update(u64::try_from(bytes.len()).expect("length").to_le_bytes());
    digest.update(&bytes);
    println!("cargo::rustc-env=MATCHLOCK_EMBED_{name}={}", path.display());
}

/// The commit and the day, as a release build sets them; a build from a clone says "unknown".
fn version() {
    for name in ["MATCHLOCK_COMMIT", "MATCHLOCK_BUILT"] {
        println!("cargo::rerun-if-env-changed={name}");
        let value = env::var(name).unwrap_or_else(|_| "unknown".to_owned());
        println!("cargo::rustc-env={name}={value}");
    }
}
