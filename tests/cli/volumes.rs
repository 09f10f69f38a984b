//! `volume`, and what `--disk` refuses.

use std::fs;
use std::os::unix::fs::MetadataExt;

use matchlock_testkit::Lab;
use serde_json::Value;

use crate::support::sh;

#[test]
fn the_life_of_a_volume() {
    let lab = Lab::new();
    let volume = |args: &[&str]| {
        let args: Vec<&str> = ["volume"].iter().chain(args).copied().collect();
        let finished = lab.matchlock(&args).finish().expect(0);
        assert_eq!(finished.err(), "", "{args:?}");
        finished.out()
    };
    assert_eq!(volume(&["ls"]), "NAME  SIZE\n");
    assert_eq!(volume(&["ls", "--json"]), "[]\n");
    assert_eq!(volume(&["create", "data", "--size", "16m"]), "Created volume data (16 MB)\n");
    let path = lab.home().join(".cache/matchlock/volumes/data.ext4");
    let meta = fs::metadata(&path).expect("the disk");
    assert_eq!(meta.len(), 16 << 20);
    assert!(meta.blocks() * 512 < 4 << 20, "sparse");
    let created: Value =
        serde_json::from_str(&volume(&["create", "--json", "large"])).expect("JSON");
    let large = lab.home().join(".cache/matchlock/volumes/large.ext4");
    let expected = serde_json::json!({
        "name": "large", "size": "10240.0 MB", "path": large.display().to_string(),
    });
    assert_eq!(created, expected);
    assert_eq!(volume(&["cp", "data", "copy"]), "Copied volume data to copy\n");
    let bytes = |name: &str| fs::read(path.with_file_name(name)).expect("read");
    assert!(bytes("data.ext4") == bytes("copy.ext4"));
    assert_eq!(volume(&["ls"]), "NAME   SIZE\ncopy   16.0 MB\ndata   16.0 MB\nlarge  10240.0 MB\n");
    let list: Value = serde_json::from_str(&volume(&["list", "--json"])).expect("JSON");
    assert_eq!(list[2], expected);
    assert_eq!(volume(&["rm", "data"]), "Removed volume data\n");
    assert_eq!(volume(&["remove", "copy"]), "Removed volume copy\n");
    assert!(!path.exists());
}

#[test]
fn bad_names_and_sizes() {
    let lab = Lab::new();
    lab.matchlock(&["volume", "create", "there", "--size=16"]).finish().expect(0);
    let cases: [(&[&str], &str); 16] = [
        (&["create", ""], "invalid volume name \"\""),
        (&["create", "a/b"], "invalid volume name \"a/b\""),
        (&["create", ".."], "invalid volume name \"..\""),
        (&["create", "-x"], "unknown flag: -x"),
        (&["create", "there"], "named volume already exists: there"),
        (&["create"], "accepts 1 arg(s), received 0"),
        (&["create", "a", "--size", "0"], "--size must be "),
        (&["create", "a", "--size", "-1"], "invalid --size \"-1\": use "),
        (&["create", "a", "--size", "15m"], "--size must be "),
        (&["create", "a", "--size", "9000000000000000000"], "--size must be "),
        (&["rm", "absent"], "named volume not found: absent"),
        (&["rm", "../there"], "invalid volume name \"../there\""),
        (&["cp", "absent", "b"], "named volume not found: absent"),
        (&["cp", "there", "there"], "named volume already exists: there"),
        (&["cp", "there"], "accepts 2 arg(s), received 1"),
        (&["ls", "x"], "accepts 0 arg(s), received 1"),
    ];
    for (args, says) in cases {
        let args: Vec<&str> = ["volume"].iter().chain(args).copied().collect();
        let finished = lab.matchlock(&args).finish().expect(1);
        let err = finished.err();
        assert!(err.starts_with(&format!("Error: {says}")), "{args:?}: {err}");
        assert_eq!(finished.out(), "", "{args:?}");
    }
    let list = lab.matchlock(&["volume", "ls"]).finish().expect(0);
    assert_eq!(list.out(), "NAME   SIZE\nthere  16.0 MB\n");
}

#[test]
fn disks_that_cannot_be_had() {
    let lab = Lab::new();
    lab.matchlock(&["volume", "create", "data", "--size=16"]).finish().expect(0);
    let home = lab.home().display().to_string();
    let cases = [
        ("data", "invalid disk mount \"data\": expected host_path:guest_mount[:ro]".to_owned()),
        ("@gone:/d", "invalid disk mount \"@gone:/d\": named volume not found: gone".to_owned()),
        ("@../x:/d", "invalid disk mount \"@../x:/d\": invalid volume name \"../x\"".to_owned()),
        ("@data:d", "invalid disk mount \"@data:d\": the guest mount \"d\" must be".to_owned()),
        ("@data:/proc", "invalid disk mount \"@data:/proc\": ".to_owned()),
        ("@data:/d:rw", "invalid disk mount \"@data:/d:rw\": unknown option \"rw\"".to_owned()),
        ("/no/disk:/d", "invalid disk mount \"/no/disk:/d\": ".to_owned()),
        (&format!("{home}:/d"), format!("invalid disk mount \"{home}:/d\": ")),
        ("@data:/a,@data:/b", "invalid disk mount \"@data:/b\": volume data is in use".to_owned()),
    ];
    for (disk, says) in cases {
        let finished = lab.run(&["--disk", disk], &["true"]).finish().expect(125);
        let err = finished.err();
        assert!(err.starts_with(&format!("Error: {says}")), "{disk}: {err}");
    }
}

#[test]
fn what_is_written_to_a_volume_is_there_in_the_next_sandbox() {
    let lab = Lab::new();
    lab.matchlock(&["volume", "create", "data", "--size=16"]).finish().expect(0);
    let write = sh(&lab, &["--disk", "@data:/mnt/data"], "echo kept > /mnt/data/file; exit 3");
    write.finish().expect(3);
    // Read-only: the first machine has left nothing that would have to be repaired.
    let read = sh(&lab, &["--disk", "@data:/mnt/data:ro"], "cat /mnt/data/file; > /mnt/data/other");
    let read = read.finish();
    assert_ne!(read.code(), 0, "it cannot be written");
    assert_eq!(read.out(), "kept\n", "{}", read.err());
    // One that is cut off at any moment leaves it fit to be used again.
    let flags = ["--disk", "@data:/mnt/data", "--timeout=1", "--graceful-shutdown=0s"];
    sh(&lab, &flags, "echo more >> /mnt/data/file; sleep 600").finish().expect(124);
    let again = sh(&lab, &["--disk", "@data:/mnt/data"], "head -n1 /mnt/data/file").finish();
    assert_eq!(again.expect(0).out(), "kept\n");
}
