//! The guest kernel: `cargo xtask kernel` builds it from the distribution's Linux source package,
//! `cargo xtask kernel --check` verifies what is committed under `guest/kernel/`.
//!
//! The kernel that counts is the *resulting* configuration: Kconfig drops a requested option without
//! a word when a dependency is missing or a name has changed. So the build compares every line of the
//! fragments with the result and fails with a list of what was lost, and a test holds the committed
//! result against the promises.

mod build;
mod config;
mod manifest;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

/// Arguments of `cargo xtask kernel`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which kernel.
    #[arg(long, value_enum, default_value_t = Variant::Guest)]
    pub(crate) variant: Variant,
    /// Do not build: verify that the committed files agree with the manifest and the promises.
    #[arg(long, conflicts_with_all = ["config_only", "jobs"])]
    pub(crate) check: bool,
    /// Make and verify the configuration, but do not compile.
    #[arg(long)]
    pub(crate) config_only: bool,
    /// Parallel compiler jobs; as many as there are processors by default.
    #[arg(long, short)]
    pub(crate) jobs: Option<usize>,
    /// Debian source package to build from.
    #[arg(long, default_value = "linux-source-6.12")]
    pub(crate) source_package: String,
}

/// The kernels that we build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// The kernel of every sandbox, `x86_64`.
    Guest,
    /// The guest kernel plus KVM, for tests: a sandbox under emulation with a real `/dev/kvm` in it.
    KvmHost,
    /// The kernel of every sandbox, `aarch64`.
    GuestAarch64,
}

impl Variant {
    /// All of them, in the order of the manifest.
    pub(crate) const ALL: [Self; 3] = [Self::Guest, Self::KvmHost, Self::GuestAarch64];

    /// Name on the command line and in the manifest.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::KvmHost => "kvm-host",
            Self::GuestAarch64 => "guest-aarch64",
        }
    }

    /// Architecture as Rust and `uname` name it.
    pub(crate) fn arch(self) -> &'static str {
        match self {
            Self::Guest | Self::KvmHost => "x86_64",
            Self::GuestAarch64 => "aarch64",
        }
    }

    /// Fragments, the later ones on top; relative to `guest/kernel/`, as all paths here.
    pub(crate) fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Guest => &["common.fragment", "x86_64.fragment"],
            Self::KvmHost => &["common.fragment", "x86_64.fragment", "testing/kvm-host.fragment"],
            Self::GuestAarch64 => &["common.fragment", "aarch64.fragment"],
        }
    }

    /// The options that this kernel promises to have and not to have.
    pub(crate) fn promises(self) -> &'static [&'static str] {
        match self {
            Self::Guest => &["promises.txt", "promises-x86_64.txt"],
            Self::KvmHost => {
                &["promises.txt", "promises-x86_64.txt", "testing/promises-kvm-host.txt"]
            }
            Self::GuestAarch64 => &["promises.txt"],
        }
    }

    /// The full resulting configuration.
    pub(crate) fn config(self) -> &'static str {
        match self {
            Self::Guest => "x86_64.config",
            Self::KvmHost => "testing/kvm-host-x86_64.config",
            Self::GuestAarch64 => "aarch64.config",
        }
    }

    /// The compressed kernel.
    pub(crate) fn artefact(self) -> &'static str {
        match self {
            Self::Guest => "vmlinux-x86_64.zst",
            Self::KvmHost => "testing/vmlinux-kvm-x86_64.zst",
            Self::GuestAarch64 => "Image-aarch64.zst",
        }
    }

    /// The command that builds it again.
    pub(crate) fn rebuild(self) -> &'static str {
        match self {
            Self::Guest => "cargo xtask kernel",
            Self::KvmHost => "cargo xtask kernel --variant kvm-host",
            Self::GuestAarch64 => "cargo xtask kernel --variant guest-aarch64",
        }
    }
}

/// Runs `cargo xtask kernel`.
///
/// # Errors
/// When a tool is missing or fails, when a requested option did not survive, or, with `--check`,
/// when a committed file disagrees with the manifest.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace_root()?;
    let dir = workspace.join("guest/kernel");
    if args.check {
        let problems = manifest::check(&dir)?;
        if !problems.is_empty() {
            bail!("guest/kernel is inconsistent:\n  {}", problems.join("\n  "));
        }
        println!("guest/kernel: configuration, artefacts, manifest and promises agree");
        return Ok(());
    }
    build::build(args, &dir, &workspace.join("target/kernel"))
}

/// The workspace that this crate was compiled in.
fn workspace_root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("the xtask crate has no parent directory")
}

#[cfg(test)]
mod tests {
    use super::{Variant, config, manifest, workspace_root};

    fn dir() -> std::path::PathBuf {
        workspace_root().unwrap().join("guest/kernel")
    }

    /// The heart of the matter: each promise is held by the configuration that was really built,
    /// and that configuration, the kernel and the manifest belong together.
    #[test]
    fn committed_kernels_keep_every_promise() {
        let problems = manifest::check(&dir()).unwrap();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    /// The promises themselves must not wither: a sample of each group of the specification.
    #[test]
    fn promises_cover_the_specification() {
        let promises = config::read_all(&dir(), Variant::Guest.promises()).unwrap();
        for name in [
            "VIRTIO_MMIO_CMDLINE_DEVICES",
            "VIRTIO_PCI",
            "VIRTIO_BLK",
            "VIRTIO_NET",
            "VIRTIO_VSOCKETS",
            "VIRTIO_CONSOLE",
            "HW_RANDOM_VIRTIO",
            "VIRTIO_BALLOON",
            "VIRTIO_FS",
            "EXT4_FS",
            "EROFS_FS",
            "OVERLAY_FS",
            "TMPFS",
            "FUSE_FS",
            "USER_NS",
            "CFS_BANDWIDTH",
            "MEMCG",
            "CGROUP_PIDS",
            "BLK_DEV_THROTTLING",
            "SECCOMP_FILTER",
            "BPF_SYSCALL",
            "IPV6",
            "NF_TABLES",
            "NFT_NAT",
            "NFT_MASQ",
            "NFT_CT",
            "NFT_FIB_INET",
            "IP_NF_NAT",
            "IP6_NF_NAT",
            "BRIDGE_NETFILTER",
            "BRIDGE",
            "VETH",
            "TUN",
            "IO_URING",
            "PVH",
        ] {
            assert_eq!(promises.get(name), "y", "CONFIG_{name} is not promised");
        }
        for name in ["MODULES", "VSOCKETS_LOOPBACK", "DEVMEM", "KVM"] {
            assert!(promises.mentions(name), "CONFIG_{name} is not forbidden");
            assert_eq!(promises.get(name), "n", "CONFIG_{name} is not forbidden");
        }
    }

    /// A fragment that contradicts a promise could never be built.
    #[test]
    fn fragments_do_not_contradict_the_promises() {
        for variant in Variant::ALL {
            let request = config::read_all(&dir(), variant.fragments()).unwrap();
            let promises = config::read_all(&dir(), variant.promises()).unwrap();
            for (name, value) in promises.iter() {
                if request.mentions(name) {
                    assert_eq!(request.get(name), value, "{}: CONFIG_{name}", variant.name());
                }
            }
        }
    }
}
