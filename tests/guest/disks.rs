//! Disks of the user's: volumes and files of the host.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use matchlock_core::volume::{Access, Attached, VolumeName, Volumes, attach_file};
use matchlock_core::{
    Attachments, CoreError, DescribeChain, DiskSize, DiskSource, DiskSpec, SandboxHandle,
    SandboxSpec,
};
use tempfile::TempDir;

use crate::lab::{ARTEFACTS, Lab, Wanted, spec};
use crate::run::sh;

cases![
    a_volume_keeps_what_was_written_to_the_next_machine,
    a_volume_survives_a_machine_that_was_killed,
    several_read_a_volume_and_none_can_write_it,
    a_disk_without_a_file_system_is_an_error_before_any_program,
    disks_beyond_the_devices_of_a_machine_share_some,
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

fn with(disks: Vec<(DiskSpec, Attached)>) -> Wanted {
    let (specs, disks) = disks.into_iter().unzip();
    let spec = SandboxSpec { disks: specs, network: None, ..spec() };
    Wanted { spec, with: Attachments { disks, ..Attachments::default() } }
}

/// A disk on a directory, which takes its name from nowhere else.
fn on(target: &str, disk: Attached, owner: Option<(u32, u32)>) -> (DiskSpec, Attached) {
    let source = DiskSource::File(target.into());
    let target = target.parse().expect("a directory");
    (DiskSpec { source, target, access: disk.access(), owner }, disk)
}

/// A machine with the volume on `/mnt/data`.
async fn boot(lab: &Lab, volumes: &Volumes, name: &VolumeName, access: Access) -> SandboxHandle {
    let disk = volumes.attach(name, access).expect("free");
    let owner = (access == Access::ReadWrite).then_some((1234, 5678));
    let disk = on("/mnt/data", disk, owner);
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
    let disk = on("/mnt/data", disk, None);
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
fn empty(directory: &Path, name: &str, access: Access) -> (DiskSpec, Attached) {
    let path = directory.join(name);
    fs::write(&path, vec![0; 1 << 20]).expect("written");
    let disk = attach_file(&path, access).expect("free");
    on(&format!("/mnt/{name}"), disk, None)
}

async fn a_disk_without_a_file_system_is_an_error_before_any_program(lab: &Lab) {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = empty(directory.path(), "blank", Access::ReadWrite);
    let error = lab.own(with(vec![disk])).await.expect_err("no file system");
    assert!(matches!(*error, CoreError::GuestSetup(_)), "{error:?}");
    let text = DescribeChain(&error).to_string();
    assert!(text.contains("/mnt/blank") && text.contains("no ext4 file system"), "{text}");
}

async fn disks_beyond_the_devices_of_a_machine_share_some(lab: &Lab) {
    const EACH: usize = 12;
    let directory = tempfile::tempdir().expect("a directory");
    let seed = directory.path().join("seed");
    fs::create_dir(&seed).expect("created");
    let disks = (0..2 * EACH).map(|number| {
        // Every other one for writing, each of another size, and not of whole pages.
        fs::write(seed.join("number"), format!("{number}\n")).expect("written");
        let path = directory.path().join(format!("{number}.ext4"));
        let file = fs::File::create(&path).expect("created");
        file.set_len((4 << 20) + 512 * number as u64).expect("resized");
        tool("/usr/sbin/mke2fs", &["-q", "-t", "ext4", "-d"], &[&seed, &path]);
        let access = if number % 2 == 0 { Access::ReadWrite } else { Access::ReadOnly };
        let disk = attach_file(&path, access).expect("free");
        on(&format!("/mnt/{number}"), disk, None)
    });
    let sandbox = lab.own(with(disks.collect())).await.expect("a sandbox");
    let numbers: Vec<String> = (0..2 * EACH).map(|number| number.to_string()).collect();
    let script = "for n in $(seq 0 23); do cat /mnt/$n/number; done";
    assert_eq!(sh(script).text(&sandbox).await, numbers.join("\n"));
    let script = "for n in $(seq 0 23); do echo new $n >/mnt/$n/written && echo $n; done; sync; \
                  for n in $(seq 0 2 22); do echo lost >/mnt/$n/late; done";
    let ended = sh(script).on(&sandbox).await;
    let writable: Vec<&str> = numbers.iter().step_by(2).map(String::as_str).collect();
    assert_eq!(ended.out().trim_end(), writable.join("\n"));
    assert_eq!(ended.err().matches("Read-only file system").count(), EACH, "{}", ended.err());
    // The devices are read-only, not only the mounts.
    let script = "cat /sys/block/vd[bc]/ro /sys/block/vdc/vdc12/ro; ls -d /sys/block/vd* | wc -l";
    assert_eq!(sh(script).text(&sandbox).await, "0\n1\n1\n3");
    // Without any warning: what was synced is there.
    sandbox.end().await;
    for number in 0..2 * EACH {
        let path = directory.path().join(format!("{number}.ext4"));
        if number % 2 == 0 {
            // Replays the journal, and repairs nothing else.
            tool("/usr/sbin/e2fsck", &["-p"], &[&path]);
        }
        let written = tool("/usr/sbin/debugfs", &["-R", "cat /written"], &[&path]);
        let expected = if number % 2 == 0 { format!("new {number}\n") } else { String::new() };
        assert_eq!(written, expected, "disk {number}");
    }
}

/// What a tool says that must succeed; e2fsck(8) may have replayed a journal.
fn tool(program: &str, options: &[&str], paths: &[&Path]) -> String {
    let output = Command::new(program).args(options).args(paths).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{program} {paths:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
