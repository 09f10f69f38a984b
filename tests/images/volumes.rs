//! Volumes and disks in sandboxes of images.

use std::fs;

use matchlock_testkit::{Lab, PATIENCE};
use serde_json::json;

use crate::images::{bytes, with_shell};
use crate::stock::{Stock, run};
use matchlock_testkit::image_archive::{Format, Packing};

cases![a_volume_is_kept_guarded_and_copied, a_file_of_the_host_is_a_disk];

/// A home with a small image whose user is 1000:1001, as `app`.
fn lab() -> Lab {
    let lab = Lab::new();
    let archive = bytes(&with_shell(json!({ "User": "app" })), Format::Docker, Packing::Plain);
    lab.matchlock(&["image", "import", "app"]).finish_with(archive).expect(0);
    lab
}

fn volume(lab: &Lab, args: &[&str]) -> String {
    let finished = lab.matchlock(&[&["volume"], args].concat()).finish();
    if finished.code() == 0 { finished.out() } else { finished.err() }
}

fn a_volume_is_kept_guarded_and_copied(_: &Stock) {
    let lab = lab();
    assert_eq!(volume(&lab, &["create", "data", "--size=64"]), "Created volume data (64 MB)\n");
    let disk = "@data:/data:uid=1000,gid=1001";
    let script = "stat -c '%u %g' /data; echo kept > /data/file; cat /data/file; read -r go";
    let argv = ["sh", "-c", script];
    let mut first = run(&lab, "app", &["-i", "--disk", disk], &argv).piped().spawn();
    first.wait_for("1000 1001\nkept\n", PATIENCE);

    // While somebody writes to it, nobody else has it.
    for (second, shown) in
        [("@data:/other", "@data:/other"), ("@data:/other:ro", "@data:/other:ro")]
    {
        let refused = run(&lab, "app", &["--disk", second], &["true"]).finish().expect(125);
        let says = format!("Error: invalid disk mount {shown:?}: volume data is in use by another");
        assert!(refused.err().starts_with(&says), "{}", refused.err());
    }
    for args in [&["rm", "data"][..], &["cp", "data", "copy"]] {
        let said = volume(&lab, args);
        assert!(said.starts_with("Error: volume data is in use by another sandbox"), "{said}");
    }
    assert_eq!(volume(&lab, &["ls"]), "NAME  SIZE\ndata  64.0 MB\n");
    first.write(b"go\n");
    first.finish(PATIENCE).expect(0);

    // Now it is free: for another sandbox, and to be copied; the copy goes its own way.
    assert_eq!(volume(&lab, &["cp", "data", "copy"]), "Copied volume data to copy\n");
    let disks = ["--disk", "@data:/data:ro", "--disk", "@copy:/copy"];
    let script = "cat /data/file /copy/file; echo more >> /copy/file; cat /copy/file; id -u
        echo x 2>/dev/null > /data/file || echo refused";
    let second = run(&lab, "app", &disks, &["sh", "-c", script]).finish().expect(0);
    assert_eq!(second.out(), "kept\nkept\nkept\nmore\n1000\nrefused\n");
    for (name, says) in [("data", "Removed volume data\n"), ("copy", "Removed volume copy\n")] {
        assert_eq!(volume(&lab, &["rm", name]), says);
    }
    assert_eq!(volume(&lab, &["ls", "--json"]), "[]\n");
}

fn a_file_of_the_host_is_a_disk(_: &Stock) {
    let lab = lab();
    volume(&lab, &["create", "made", "--size=64"]);
    let path = lab.home().join("own disk.img");
    let made = lab.home().join(".cache/matchlock/volumes/made.ext4");
    fs::rename(made, &path).expect("rename");
    let at = |options: &str| format!("{}:/mnt/disk{options}", path.display());
    let out = |disk: &str, script: &str| {
        run(&lab, "app", &["-u", "root", "--disk", disk], &["sh", "-c", script]).finish()
    };
    out(&at(""), "echo written > /mnt/disk/file").expect(0);
    let before = fs::read(&path).expect("read");
    let read = out(&at(":ro"), "cat /mnt/disk/file; echo x > /mnt/disk/file || exit 9");
    assert_eq!(read.expect(9).out(), "written\n");
    assert!(fs::read(&path).expect("read") == before, "not a byte has changed");
}
