//! Disks of the user's: volumes and files of the host.

use std::fs;
use std::path::Path;
use std::time::Duration;

use matchlock_core::volume::{Access, VolumeName, Volumes, attach_file};
use matchlock_core::{CoreError, DescribeChain, DiskSize, ExtraDisk, Sandbox, SandboxConfig};
use tempfile::TempDir;

use crate::lab::{ARTEFACTS, Lab, config};
use crate::run::sh;

cases![
    a_volume_keeps_what_was_written_to_the_next_machine,
    a_volume_survives_a_machine_that_was_killed,
    several_read_a_volume_and_none_can_write_it,
    a_disk_without_a_file_system_is_an_error_before_any_program,
    more_disks_than_fit_are_an_error_before_the_boot,
];

const GRACE: Duration = Duration::from_secs(1);

/// A cache with a volume of 1 GiB.
fn volumes() -> (TempDir, Volumes, VolumeName) {
    let cache = tempfile::tempdir().expect("a directory");
    let volumes = Volumes::in_cache(cache.path());
    let name: VolumeName = "data".parse().expect("a name");
    let size = DiskSize::new(1024).expect("a size");
    volumes.create(&name, size, &ARTEFACTS.volume_template).expect("created");
    (cache, volumes, name)
}

fn with(disks: Vec<ExtraDisk>) -> SandboxConfig {
    SandboxConfig { disks, network: None, ..config() }
}

/// A machine with the volume on `/mnt/data`.
async fn boot(lab: &Lab, volumes: &Volumes, name: &VolumeName, access: Access) -> Sandbox {
    let disk = volumes.attach(name, access).expect("free");
    let owner = (access == Access::ReadWrite).then_some((1234, 5678));
    let disk = ExtraDisk::new(disk, "/mnt/data".parse().expect("valid"), owner).expect("valid");
    lab.own(with(vec![disk])).await.expect("a sandbox")
}

async fn a_volume_keeps_what_was_written_to_the_next_machine(lab: &Lab) {
    let (_cache, volumes, name) = volumes();
    let first = boot(lab, &volumes, &name, Access::ReadWrite).await;
    let script =
        "stat -c '%u:%g' /mnt/data; echo kept >/mnt/data/file; df -m --output=size /mnt/data";
    let seen = sh(script).text(&first).await;
    let (owner, size) = (seen.lines().next(), seen.lines().last().unwrap_or_default().trim());
    assert_eq!(owner, Some("1234:5678"));
    let size: u64 = size.parse().expect("a number");
    assert!((900..=1024).contains(&size), "grown to {size} MiB");
    assert!(volumes.attach(&name, Access::ReadOnly).is_err(), "somebody writes to it");
    first.stop(GRACE).await;
    let second = boot(lab, &volumes, &name, Access::ReadWrite).await;
    assert_eq!(sh("cat /mnt/data/file").text(&second).await, "kept");
    second.stop(GRACE).await;
    let volume = volumes.list().expect("listed").remove(0);
    let state =
        std::process::Command::new("/usr/sbin/e2fsck").arg("-fn").arg(&volume.path).output();
    let state = state.expect("e2fsck runs");
    assert!(state.status.success(), "{}", String::from_utf8_lossy(&state.stdout));
}

async fn a_volume_survives_a_machine_that_was_killed(lab: &Lab) {
    let (_cache, volumes, name) = volumes();
    let first = boot(lab, &volumes, &name, Access::ReadWrite).await;
    sh("echo kept >/mnt/data/file; sync; echo lost >/mnt/data/other").text(&first).await;
    first.end().await;
    let disk = volumes.attach(&name, Access::ReadOnly).expect("free");
    let disk = ExtraDisk::new(disk, "/mnt/data".parse().expect("valid"), None).expect("valid");
    let error = lab.own(with(vec![disk])).await.expect_err("the journal has to be replayed");
    let text = DescribeChain(&error).to_string();
    assert!(text.contains("attach it once for writing"), "{text}");
    let second = boot(lab, &volumes, &name, Access::ReadWrite).await;
    assert_eq!(sh("cat /mnt/data/file").text(&second).await, "kept");
    second.stop(GRACE).await;
}

async fn several_read_a_volume_and_none_can_write_it(lab: &Lab) {
    let (_cache, volumes, name) = volumes();
    let writer = boot(lab, &volumes, &name, Access::ReadWrite).await;
    sh("echo shared >/mnt/data/file").text(&writer).await;
    writer.stop(GRACE).await;
    let path = volumes.list().expect("listed").remove(0).path;
    let before = fs::read(&path).expect("read");
    let one = boot(lab, &volumes, &name, Access::ReadOnly).await;
    let other = boot(lab, &volumes, &name, Access::ReadOnly).await;
    for sandbox in [&one, &other] {
        assert_eq!(sh("cat /mnt/data/file").text(sandbox).await, "shared");
        let refused = sh("echo x >/mnt/data/file").on(sandbox).await.err();
        assert!(refused.contains("Read-only file system"), "{refused}");
        // The device itself takes nothing, whatever the guest's kernel would try.
        assert_eq!(sh("cat /sys/block/vdb/ro").text(sandbox).await, "1");
    }
    one.stop(GRACE).await;
    other.stop(GRACE).await;
    assert!(fs::read(&path).expect("read") == before, "not a byte has changed");
}

/// A file of the host's with nothing in it.
fn empty(directory: &Path, name: &str, access: Access) -> ExtraDisk {
    let path = directory.join(name);
    fs::write(&path, vec![0; 1 << 20]).expect("written");
    let disk = attach_file(&path, access).expect("free");
    ExtraDisk::new(disk, format!("/mnt/{name}").parse().expect("valid"), None).expect("valid")
}

async fn a_disk_without_a_file_system_is_an_error_before_any_program(lab: &Lab) {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = empty(directory.path(), "blank", Access::ReadWrite);
    let error = lab.own(with(vec![disk])).await.expect_err("no file system");
    assert!(matches!(error, CoreError::GuestSetup(_)), "{error:?}");
    let text = DescribeChain(&error).to_string();
    assert!(text.contains("/mnt/blank") && text.contains("no ext4 file system"), "{text}");
}

async fn more_disks_than_fit_are_an_error_before_the_boot(lab: &Lab) {
    let directory = tempfile::tempdir().expect("a directory");
    let disks = (0..9).map(|n| empty(directory.path(), &n.to_string(), Access::ReadOnly)).collect();
    let error = lab.own(with(disks)).await.expect_err("too many");
    assert!(matches!(error, CoreError::Vmm(_)), "{error:?}");
    let text = DescribeChain(&error).to_string();
    assert!(text.contains("room for 8 devices"), "{text}");
}
