//! The floor: the kernel of a sandbox in the machine of a sandbox, without anything of ours but
//! the agent, which says that it runs and powers off.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::bench::procfs::Process;
use crate::workspace::Workspace;

const KERNEL: &str = "guest/kernel/vmlinux-x86_64.zst";

/// A machine that boots the kernel to its first program and ends.
#[derive(Debug)]
pub(super) struct BareMachine {
    qemu: PathBuf,
    arguments: Vec<String>,
    _files: tempfile::TempDir,
}

impl BareMachine {
    /// Copies the machine of a running sandbox: the same arguments without the devices of which
    /// the other end is the supervisor. So the two cannot drift apart.
    pub(super) fn like(vmm: Process, workspace: &Workspace) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let kernel = files.path().join("vmlinux");
        unpack(&workspace.path(KERNEL), &kernel)?;
        let initramfs = files.path().join("initramfs.cpio");
        unpack(&workspace.initramfs(), &initramfs)?;
        let arguments = bare(&vmm.arguments()?, &kernel, &initramfs)?;
        Ok(Self { qemu: vmm.executable()?, arguments, _files: files })
    }

    /// Boots once; returns the milliseconds from before the start of the process to after its end.
    pub(super) fn boot(&self, run: u32) -> Result<f64> {
        let token = format!("bench-{}-{run}", std::process::id());
        let arguments = self.arguments.iter().map(|argument| argument.replace(TOKEN, &token));
        let mut command = Command::new(&self.qemu);
        command.args(arguments).env_clear().stdin(Stdio::null());
        let start = Instant::now();
        let output = command.output().context("cannot run QEMU")?;
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        let console = String::from_utf8_lossy(&output.stdout);
        if !console.contains(&format!("matchlock-probe-ok {token}")) {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!(
                "the bare machine did not reach the agent ({}): {console}{errors}",
                output.status
            );
        }
        Ok(elapsed)
    }
}

const TOKEN: &str = "PROBE_TOKEN";

fn bare(arguments: &[String], kernel: &Path, initramfs: &Path) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter().skip(1).peekable();
    while let Some(option) = rest.next() {
        let value = rest.next_if(|next| !next.starts_with('-')).map(String::as_str);
        let value = match (option.as_str(), value) {
            ("-add-fd" | "-blockdev", _) => continue,
            // It speaks over one of the sockets that are left out.
            ("-mon", _) => continue,
            ("-device", Some(device))
                if device.starts_with("vhost-user-") || device.starts_with("virtio-blk-") =>
            {
                continue;
            }
            ("-chardev", Some(chardev)) if chardev.starts_with("socket,") => continue,
            ("-kernel", _) => Some(kernel.display().to_string()),
            ("-initrd", _) => Some(initramfs.display().to_string()),
            ("-append", Some(cmdline)) => Some(format!("{cmdline} matchlock.probe={TOKEN}")),
            (_, value) => value.map(str::to_owned),
        };
        let inherits = value.iter().any(|value| value.contains("fd=") || value.contains("/fd/"));
        ensure!(!inherits, "{option} {value:?} names a descriptor of the supervisor's");
        kept.push(option.clone());
        kept.extend(value);
    }
    Ok(kept)
}

fn unpack(from: &Path, to: &Path) -> Result<()> {
    let packed = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    zstd::stream::copy_decode(packed, File::create(to)?)
        .with_context(|| format!("cannot unpack {}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &[&str]) -> Vec<String> {
        text.iter().map(|&argument| argument.to_owned()).collect()
    }

    #[test]
    fn the_bare_machine_lacks_only_the_devices_of_the_supervisor() -> Result<()> {
        let arguments = strings(&[
            "qemu",
            "-nodefaults",
            "-m",
            "512M",
            "-kernel",
            "/proc/self/fd/5",
            "-initrd",
            "/proc/self/fd/6",
            "-append",
            "quiet",
            "-add-fd",
            "fd=7,set=1",
            "-blockdev",
            "x",
            "-device",
            "virtio-blk-device,drive=d",
            "-chardev",
            "socket,id=v,fd=8",
            "-device",
            "vhost-user-vsock-device,chardev=v",
            "-device",
            "virtio-rng-device",
        ]);
        let kept = bare(&arguments, Path::new("k"), Path::new("i"))?;
        let wanted = strings(&[
            "-nodefaults",
            "-m",
            "512M",
            "-kernel",
            "k",
            "-initrd",
            "i",
            "-append",
            "quiet matchlock.probe=PROBE_TOKEN",
            "-device",
            "virtio-rng-device",
        ]);
        assert_eq!(kept, wanted);
        let inherited = strings(&["qemu", "-netdev", "stream,fd=9"]);
        assert!(bare(&inherited, Path::new("k"), Path::new("i")).is_err());
        Ok(())
    }
}
