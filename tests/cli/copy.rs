//! `cp`: files into a sandbox that runs, and out of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use matchlock_testkit::{Finished, Lab, PATIENCE, wait_until};
use rustix::process::Signal;

/// Runs a sandbox in the background for the time of `during`.
fn with_sandbox(during: impl FnOnce(&Lab, &Path)) {
    let lab = Lab::new();
    let started = ["run", "--image", "host", "-d", "--name", "web", "sleep", "infinity"];
    lab.matchlock(&started).finish().expect(0);
    let here = tempfile::tempdir().expect("a directory");
    during(&lab, here.path());
    lab.matchlock(&["rm", "-f", "web"]).finish().expect(0);
}

fn cp(lab: &Lab, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Finished {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    lab.matchlock(&["cp", &text(from.as_ref()), &text(to.as_ref())]).finish()
}

fn sh(lab: &Lab, script: &str) -> String {
    lab.matchlock(&["exec", "web", "sh", "-c", script]).finish().expect(0).out()
}

fn web(path: &str) -> PathBuf {
    format!("web:{path}").into()
}

#[test]
fn trees_files_and_archives_are_copied_both_ways() {
    with_sandbox(|lab, here| {
        a_tree_goes_in_and_comes_back(lab, here);
        the_destination_decides(lab, here);
        archives_are_streams(lab, here);
        errors_say_what_is_wrong(lab, here);
    });
}

fn a_tree_goes_in_and_comes_back(lab: &Lab, here: &Path) {
    let tree = here.join("tree");
    fs::create_dir_all(tree.join("inner/empty")).expect("made");
    fs::write(tree.join("tool"), "#!/bin/sh\necho ran\n").expect("written");
    fs::set_permissions(tree.join("tool"), fs::Permissions::from_mode(0o750)).expect("set");
    // Many windows of it, with a pattern that no block repeats.
    let big: Vec<u8> = (0..9_000_001_u32).map(|n| (n % 251) as u8).collect();
    fs::write(tree.join("inner/big"), &big).expect("written");
    symlink("../tool", tree.join("inner/link")).expect("linked");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 250_000_000);
    let tool = fs::File::open(tree.join("tool")).expect("opened");
    tool.set_modified(long_ago).expect("set");

    let copied = cp(lab, &tree, web("/tmp")).expect(0);
    assert!(copied.err().starts_with("Copied 6 entries, 8.59MiB"), "{}", copied.err());
    assert_eq!(copied.out(), "");
    let script = "cd /tmp/tree && ./tool && readlink inner/link && stat -c '%a %U %Y' tool &&
        ls -d inner/empty && stat -c %s inner/big";
    let seen = sh(lab, script);
    assert_eq!(seen, "ran\n../tool\n750 root 1000000000\ninner/empty\n9000001\n");

    cp(lab, web("/tmp/tree"), here.join("back")).expect(0);
    assert!(fs::read(here.join("back/inner/big")).expect("there") == big);
    let metadata = fs::metadata(here.join("back/tool")).expect("there");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o750);
    assert_eq!(metadata.modified().ok(), Some(long_ago));
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
    let link = fs::read_link(here.join("back/inner/link")).expect("a link");
    assert_eq!(link, PathBuf::from("../tool"));

    // What the guest says of owners and rights does not count here, and devices are left out.
    sh(
        lab,
        "mkdir /tmp/odd && cd /tmp/odd && echo x > suid && chmod 6755 suid && mkfifo pipe &&
        ln -s /etc/passwd out && chown 12:34 suid",
    );
    let copied = cp(lab, web("/tmp/odd"), here).expect(0);
    assert!(copied.err().contains("odd/pipe is no file"), "{}", copied.err());
    let suid = fs::metadata(here.join("odd/suid")).expect("there").permissions().mode();
    assert_eq!(suid & 0o7777, 0o755);
    assert_eq!(fs::read_link(here.join("odd/out")).expect("a link"), PathBuf::from("/etc/passwd"));
}

fn the_destination_decides(lab: &Lab, here: &Path) {
    fs::write(here.join("f"), "1").expect("written");
    cp(lab, here.join("f"), web("/tmp/new")).expect(0);
    cp(lab, here.join("f"), web("tmp/tree/")).expect(0);
    assert_eq!(sh(lab, "cat /tmp/new /tmp/tree/f"), "11");
    // Links of the guest lead within the guest.
    sh(lab, "ln -s /tmp/tree /tmp/shortcut; echo 2 > /tmp/two; ln -s /tmp/two /tmp/to-two");
    cp(lab, here.join("f"), web("/tmp/shortcut/g")).expect(0);
    assert_eq!(sh(lab, "cat /tmp/tree/g"), "1");
    lab.matchlock(&["cp", "-L", "web:/tmp/to-two", here.to_str().expect("UTF-8")])
        .finish()
        .expect(0);
    assert_eq!(fs::read(here.join("to-two")).expect("there"), b"2\n");
    cp(lab, web("/tmp/tree/."), here.join("content")).expect(0);
    assert_eq!(fs::read(here.join("content/g")).expect("there"), b"1");
    // Files of /proc have no size.
    cp(lab, web("/proc/version"), here.join("version")).expect(0);
    assert!(fs::read_to_string(here.join("version")).expect("there").starts_with("Linux version"));
}

fn archives_are_streams(lab: &Lab, here: &Path) {
    let packed = cp(lab, web("/tmp/tree"), "-").expect(0);
    let mut archive = matchlock_image::tar::Archive::new(&packed.stdout[..]);
    let mut names = Vec::new();
    while let Some(entry) = archive.next_entry().expect("an archive") {
        names.push(String::from_utf8(entry.path).expect("text"));
    }
    let wanted = ["tree/", "tree/f", "tree/g", "tree/inner/", "tree/inner/big"];
    assert_eq!(names[..5], wanted);
    sh(lab, "mkdir /tmp/unpacked");
    let unpacking = lab.matchlock(&["cp", "-", "web:/tmp/unpacked"]);
    unpacking.finish_with(packed.stdout).expect(0);
    assert_eq!(
        sh(lab, "cmp /tmp/tree/inner/big /tmp/unpacked/tree/inner/big && echo same"),
        "same\n"
    );
    let json = here.join("json");
    let flag = format!("--json={}", json.display());
    lab.matchlock(&["cp", &flag, "web:/tmp/new", "-"]).finish().expect(0);
    let json = fs::read_to_string(json).expect("there");
    assert!(json.contains("\"bytes\":") && json.contains("\"notes\":[]"), "{json}");
}

fn errors_say_what_is_wrong(lab: &Lab, here: &Path) {
    let said = |finished: Finished, text: &str| {
        let finished = finished.expect(1);
        assert!(finished.err().contains(text), "{text}: {}", finished.err());
    };
    let missing = "copying: /no/such/file: No such file or directory";
    said(cp(lab, web("/no/such/file"), here), missing);
    said(cp(lab, here.join("none"), web("/tmp")), "No such file or directory");
    said(cp(lab, here.join("f"), web("/no/such/dir/")), "/no/such/dir/: No such file or directory");
    said(
        cp(lab, here.join("tree"), web("/etc/passwd")),
        "a directory cannot take the place of a file",
    );
    said(cp(lab, web("/tmp/tree"), here.join("f")), "a directory cannot take the place of a file");
    said(cp(lab, here.join("f"), here), "one of the two paths must be of a sandbox");
    said(cp(lab, web("/a"), web("/b")), "from one sandbox to another");
    said(cp(lab, "nobody:/a", here), "VM not found nobody");
    let small =
        ["cp", "--max-size", "1m", "web:/tmp/tree/inner/big", here.to_str().expect("UTF-8")];
    said(lab.matchlock(&small).finish(), "more bytes than are copied at one time");
    let garbage = lab.matchlock(&["cp", "-", "web:/tmp"]).finish_with(b"no archive".to_vec());
    said(garbage, "the archive cannot be read");
}

#[test]
fn a_copy_that_is_called_off_ends_at_once() {
    with_sandbox(|lab, _| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(1 << 30);
        header.set_mode(0o644);
        archive.append_data(&mut header, "half", &b"begin"[..]).expect("in memory");
        let mut copying = lab.matchlock(&["cp", "-", "web:/tmp"]).piped().spawn();
        copying.write(archive.get_ref());
        wait_until("the copy", PATIENCE, || sh(lab, "ls /tmp").contains("half").then_some(()));
        copying.signal(Signal::INT);
        copying.finish(PATIENCE).expect(130);
    });
}
