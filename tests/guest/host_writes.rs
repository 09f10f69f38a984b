//! Writes of the guest stay in the guest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::host_image::served;
use crate::lab::Lab;
use crate::run::{argv, sh};

cases![
    nothing_that_root_of_the_guest_does_reaches_the_host,
    a_directory_of_the_host_can_be_renamed_and_removed_in_the_guest,
    another_sandbox_sees_nothing_of_it,
];

/// Everything of a file that could be changed.
fn state(path: &Path) -> (Vec<u8>, u32, u32, u32, i64, i64, u64) {
    let meta = fs::symlink_metadata(path).expect("still there");
    let content = fs::read(path).unwrap_or_default();
    (content, meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.ctime(), meta.nlink())
}

/// What the guest does to a file, and how it then looks to it.
const DEEDS: [(&str, &str, &str); 9] = [
    ("overwritten", "echo guest >$0", "cat $0"),
    ("extended", "echo guest >>$0", "tail -n1 $0"),
    ("truncated", "truncate -s 0 $0; echo guest >>$0", "cat $0"),
    ("removed", "rm $0", "test -e $0 || echo guest"),
    ("renamed", "mv $0 $0.new; echo guest >>$0.new", "test -e $0 || tail -n1 $0.new"),
    ("mode", "chmod 0604 $0", "test $(stat -c %a $0) = 604 && echo guest"),
    ("owner", "chown 4242:4343 $0", "test $(stat -c %u:%g $0) = 4242:4343 && echo guest"),
    ("times", "touch -d @1000 $0", "test $(stat -c %Y $0) = 1000 && echo guest"),
    ("linked", "ln $0 $0.hard; echo guest >>$0.hard", "tail -n1 $0"),
];

async fn nothing_that_root_of_the_guest_does_reaches_the_host(lab: &Lab) {
    let Some(served) = served() else { return };
    for (name, ..) in DEEDS {
        fs::write(served.path().join(name), "host\n").expect("write");
    }
    let sandbox = lab.plain().await;
    for (name, deed, look) in DEEDS {
        let path = served.path().join(name);
        let before = state(&path);
        let text = path.to_str().expect("UTF-8");
        argv(["sh", "-ec", deed, text]).text(sandbox).await;
        // From another program, after the first has ended.
        assert_eq!(argv(["sh", "-c", look, text]).text(sandbox).await, "guest", "{name}");
        assert_eq!(state(&path), before, "{name}");
    }
    let listed = fs::read_dir(&served).expect("a directory").count();
    assert_eq!(listed, DEEDS.len(), "no new file on the host");
}

async fn a_directory_of_the_host_can_be_renamed_and_removed_in_the_guest(lab: &Lab) {
    let Some(served) = served() else { return };
    let inner = served.path().join("directory/inner");
    fs::create_dir_all(&inner).expect("mkdir");
    fs::write(inner.join("file"), "host").expect("write");
    let directory = served.path().to_str().expect("UTF-8");
    let script = "mv directory moved && cat moved/inner/file && rm -r moved && ls -A";
    let text = sh(script).dir(directory).text(lab.plain().await).await;
    assert_eq!(text, "host");
    assert_eq!(fs::read(inner.join("file")).expect("still there"), b"host");
}

async fn another_sandbox_sees_nothing_of_it(lab: &Lab) {
    sh("echo guest >/usr/share/ml-written").text(lab.plain().await).await;
    let seen = sh("cat /usr/share/ml-written 2>&1; :").text(lab.privileged().await).await;
    assert!(seen.contains("No such file"), "{seen}");
    assert!(!Path::new("/usr/share/ml-written").exists(), "on the host");
}
