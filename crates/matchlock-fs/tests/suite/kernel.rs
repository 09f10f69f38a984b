//! The server against the Linux FUSE client of this machine, through /dev/fuse.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use matchlock_fs::{
    CachePolicy, Filter, HostDir, HostDirOptions, HostImage, IdSpace, Limits, Pool,
};

use crate::pump::Mounted;

/// Mounts, or leaves the test with the reason.
macro_rules! mounted {
    ($provider:expr) => {
        match Mounted::new(Arc::new($provider)) {
            Ok(mounted) => mounted,
            Err(reason) => return matchlock_testkit::skip(&reason),
        }
    };
}

fn shell(script: &str, directory: &Path) -> String {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(directory)
        .env("LC_ALL", "C")
        .output()
        .expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn options(stateless: bool) -> HostDirOptions {
    HostDirOptions {
        cache: CachePolicy::SYSTEM,
        filter: Filter::default(),
        cross_mounts: false,
        stateless,
    }
}

/// Names, kinds, modes, owners, sizes, times, links and contents of a tree, as text.
const INVENTORY: &str = "
    find . -printf '%p %y %m %U %G %n %T@ %l' \\( -type d -printf '\\n' -o -printf ' %s\\n' \\) | sort
    find . -type f -print0 | sort -z | xargs -0 -r sha256sum
    ls -lR --time-style=full-iso . | grep -v ^total
    ls -aR .";

fn compare_with_original(original: &Path, stateless: bool) {
    let pool = Pool::new(Limits::for_this_process());
    let provider =
        HostDir::open(original, IdSpace::ROOT, &pool, options(stateless)).expect("opens");
    let mounted = mounted!(provider);
    assert_eq!(shell(INVENTORY, mounted.path()), shell(INVENTORY, original));
    // The second pass is from the client's caches.
    assert_eq!(shell(INVENTORY, mounted.path()), shell(INVENTORY, original));
    let opens = mounted.messages(14);
    if stateless {
        assert!(opens <= 2, "{opens} OPEN messages");
    } else {
        assert!(opens > 2);
    }
}

fn sample(directory: &Path) {
    let script = "
        mkdir -p a/b/c empty many && printf hello > a/b/c/hello && ln a/b/c/hello a/hard
        ln -s b/c a/link && ln -s /etc/shadow a/outside && ln -s nowhere a/dangling
        head -c 3000000 /dev/urandom > big && : > zero && truncate -s 10M sparse && printf x >> sparse
        chmod 4755 zero && mkfifo fifo
        i=0; while [ $i -lt 3000 ]; do : > many/a-rather-long-name-for-a-file-$i; i=$((i+1)); done";
    shell(script, directory);
}

#[test]
fn a_tree_equals_its_original() {
    let directory = tempfile::tempdir().expect("directory");
    sample(directory.path());
    compare_with_original(directory.path(), true);
    compare_with_original(directory.path(), false);
}

#[test]
fn a_system_directory_equals_its_original() {
    compare_with_original(Path::new("/usr/include"), true);
}

#[test]
fn the_host_image_runs_programs() {
    let pool = Pool::new(Limits::for_this_process());
    let tree = HostImage::open(Path::new("/"), &pool, CachePolicy::SYSTEM).expect("image");
    let mounted = mounted!(tree);
    let root = mounted.path();
    let real = Path::new("/");
    let sum = "sha256sum /usr/bin/env /bin/sh /etc/passwd; readlink /bin; ls -la /usr/bin";
    assert_eq!(shell(&format!("chroot . /bin/sh -c '{sum}'"), root), shell(sum, real));
    shell("! test -e etc/shadow && ! ls etc | grep -x shadow", root);
    shell("test -z \"$(find home proc run sys root tmp -mindepth 1)\"", root);
    shell("! touch usr/x && ! rm etc/passwd && ! echo > etc/passwd", root);

    let script =
        "chroot . /bin/sh -c 'sha256sum usr/bin/env; cat etc/passwd; ls no /etc' 2>&1 || :";
    shell(script, root);
    let before = counts(&mounted);
    shell(script, root);
    assert_eq!(counts(&mounted), before, "what was used once needs no message");
}

/// Messages of each operation so far.
fn counts(mounted: &Mounted) -> Vec<(usize, u64)> {
    // FORGET and INTERRUPT come when the kernel likes.
    (1..53)
        .filter(|opcode| ![2, 36, 42].contains(opcode))
        .map(|opcode| (opcode, mounted.messages(opcode)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// As the guest's root: the image below an overlay that takes the writes.
#[test]
fn the_host_image_is_a_lower_layer() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let pool = Pool::new(Limits::for_this_process());
    let tree = HostImage::open(Path::new("/"), &pool, CachePolicy::SYSTEM).expect("image");
    let mounted = mounted!(tree);
    let directory = tempfile::tempdir().expect("directory");
    let path = |name: &str| directory.path().join(name);
    for name in ["upper", "work", "root"] {
        std::fs::create_dir(path(name)).expect("mkdir");
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        mounted.path().display(),
        path("upper").display(),
        path("work").display()
    );
    let options = std::ffi::CString::new(options).expect("text");
    let overlay = mount("overlay", path("root"), "overlay", MountFlags::empty(), &*options);
    if let Err(error) = overlay {
        assert!(matches!(error.raw_os_error(), 1 | 19), "overlay: {error}");
        return matchlock_testkit::skip("no overlayfs");
    }
    let script = "
        chroot . /bin/sh -ec '
            echo guest > /etc/hostname; echo more >> /etc/passwd; rm -r /usr/share/man; mkdir /work
            ln -s x /usr/link; mv /etc/passwd /etc/passwd2; chmod 600 /etc/group; cat /etc/hostname
            find /usr/bin | wc -l; ls -lR /etc > /dev/null 2>&1 || true; test ! -e /usr/share/man; tail -n 1 /etc/passwd2
        '";
    let result = std::panic::catch_unwind(|| shell(script, &path("root")));
    unmount(path("root"), UnmountFlags::DETACH).expect("unmounts");
    let text = result.expect("script");
    assert!(text.starts_with("guest\n") && text.ends_with("more\n"), "{text}");
    assert!(Path::new("/etc/passwd").exists() && !Path::new("/usr/link").exists());
}
