//! Nothing outside the root is ever opened, however the host's names are laid or moved.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use matchlock_fs::{CachePolicy, Filter, HostDir, HostDirOptions, IdSpace, Limits, Opcode, Pool};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::client::{Client, EACCES, ENOENT, ENOTDIR, ESTALE};

fn client(path: &Path, stateless: bool, cached_fds: usize) -> Client<HostDir> {
    let options = HostDirOptions {
        cache: CachePolicy::SYSTEM,
        filter: Filter::default(),
        cross_mounts: false,
        stateless,
    };
    let pool = Pool::new(Limits { nodes: 100_000, handles: 100, cached_fds });
    Client::new(Arc::new(HostDir::open(path, IdSpace::ROOT, &pool, options).expect("opens")))
}

#[test]
fn links_are_text() {
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path().join("root");
    std::fs::create_dir(&root).expect("mkdir");
    std::fs::write(directory.path().join("outside"), b"secret").expect("write");
    let targets = ["/etc/shadow", "/", "..", "../outside", "nowhere", "chain-0", "."];
    for (number, target) in targets.iter().enumerate() {
        symlink(target, root.join(format!("chain-{number}"))).expect("symlink");
    }
    let client = client(&root, false, 8);
    for (number, target) in targets.iter().enumerate() {
        let link = client.lookup(1, &format!("chain-{number}")).expect("found");
        assert_eq!(link.mode >> 12, 10, "a link");
        assert_eq!(client.readlink(link.node).as_deref(), Ok(*target));
        for name in ["passwd", "outside", "etc", "chain-0"] {
            assert_eq!(client.lookup(link.node, name), Err(ENOTDIR), "{target}/{name}");
        }
        assert_eq!(client.open(link.node, 0), Err(40), "ELOOP");
        assert_eq!(client.list(link.node, 4096, true), Err(ENOTDIR));
    }
}

#[test]
fn special_files_are_seen_and_never_opened() {
    let directory = tempfile::tempdir().expect("directory");
    let make = |name: &str, kind: FileType, device: u64| {
        mknodat(CWD, directory.path().join(name), kind, Mode::from_bits_truncate(0o666), device)
    };
    make("fifo", FileType::Fifo, 0).expect("mkfifo");
    let _socket =
        std::os::unix::net::UnixListener::bind(directory.path().join("socket")).expect("bind");
    // Only root may make these; the other two do without.
    let devices = make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    let client = client(directory.path(), false, 8);
    for name in ["fifo", "socket"].into_iter().chain(devices.is_ok().then_some("null")) {
        let found = client.lookup(1, name).expect("found");
        assert_eq!(client.open(found.node, 0), Err(EACCES), "{name}");
        assert_eq!(client.read(found.node, 0, 0, 10), Err(9), "EBADF");
    }
    let stateless = self::client(directory.path(), true, 8);
    let fifo = stateless.lookup(1, "fifo").expect("found");
    assert_eq!(stateless.read(fifo.node, 0, 0, 10), Err(EACCES));
}

#[test]
fn a_moved_name_is_stale_and_never_another_file() {
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path();
    std::fs::create_dir_all(root.join("d/e")).expect("mkdir");
    std::fs::write(root.join("d/e/f"), b"old").expect("write");
    // Without cached descriptors each access walks anew.
    let client = client(root, true, 0);
    let file = client.walk("d/e/f").expect("found");
    let dir = client.walk("d/e").expect("found");
    std::fs::rename(root.join("d"), root.join("moved")).expect("rename");
    assert_eq!(client.read(file.node, 0, 0, 10), Err(ESTALE));
    assert_eq!(client.getattr(file.node), Err(ESTALE));
    symlink("moved", root.join("d")).expect("symlink");
    assert_eq!(client.lookup(dir.node, "f"), Err(ESTALE), "not through a link");
    assert_eq!(client.walk("moved/e/f").map(|found| found.node), Ok(file.node));
    assert_eq!(client.read(file.node, 0, 0, 10), Ok(b"old".to_vec()), "found anew");
    std::fs::write(root.join("new"), b"new").expect("write");
    std::fs::rename(root.join("new"), root.join("moved/e/f")).expect("rename");
    assert_eq!(client.read(file.node, 0, 0, 10), Err(ESTALE));
    std::fs::remove_dir_all(root.join("moved")).expect("remove");
    assert_eq!(client.list(dir.node, 4096, false), Err(ESTALE));
}

#[test]
fn directories_that_swap_places_make_no_circle() {
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path();
    std::fs::create_dir_all(root.join("a/b")).expect("mkdir");
    let client = client(root, true, 8);
    let a = client.walk("a").expect("found");
    let b = client.walk("a/b").expect("found");
    assert_eq!(client.lookup(b.node, "a"), Err(ENOENT));
    std::fs::rename(root.join("a/b"), root.join("b")).expect("rename");
    std::fs::rename(root.join("a"), root.join("b/a")).expect("rename");
    // The client still has b's descriptor, and so finds a in b while b was last found in a.
    assert_eq!(client.lookup(b.node, "a").map(|found| found.node), Ok(a.node));
    assert_eq!(client.walk("b/a").map(|found| found.node), Ok(a.node));
    assert!(client.getattr(a.node).is_ok() && client.getattr(b.node).is_ok());
    client.forget(a.node, u64::MAX);
    client.forget(b.node, u64::MAX);
    assert_eq!(client.getattr(a.node), Err(ESTALE));
    assert_eq!(client.getattr(b.node), Err(ESTALE));
}

/// A directory inside the root changes places with a link to one outside, and a file with a link and
/// a FIFO, as fast as the host can, while the guest reads.
#[test]
fn a_race_never_leads_outside() {
    let rounds = std::env::var("RACE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds = rounds.unwrap_or(20_000);
    let directory = tempfile::tempdir().expect("directory");
    let (root, outside) = (directory.path().join("root"), directory.path().join("outside"));
    std::fs::create_dir_all(root.join("dir")).expect("mkdir");
    std::fs::create_dir(&outside).expect("mkdir");
    for name in ["f", "g"] {
        std::fs::write(root.join("dir").join(name), b"inside").expect("write");
        std::fs::write(outside.join(name), b"outside").expect("write");
    }
    std::fs::write(root.join("file"), b"inside").expect("write");
    symlink(&outside, root.join("link")).expect("symlink");
    symlink(outside.join("f"), root.join("file-link")).expect("symlink");
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |one: &str, other: &str| {
                let (one, other) = (root.join(one), root.join(other));
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchange");
            };
            while !done.load(Ordering::Relaxed) {
                swap("dir", "link");
                swap("file", "file-link");
                swap("file", "fifo");
            }
        });
        // However the scope is left, the other thread ends.
        let _ended = Ended(&done);
        // One client keeps no descriptors, the other keeps all.
        let clients = [client(&root, true, 0), client(&root, false, 100)];
        let mut reads = 0;
        for round in 0..rounds {
            let client = &clients[round % 2];
            for path in ["dir/f", "dir/g", "link/f", "file", "file-link", "fifo"] {
                reads += usize::from(read_inside(client, path));
            }
        }
        assert!(reads > rounds / 10, "only {reads} reads of {rounds} rounds met a file");
    });
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a path in every way; says whether there was something to read.
fn read_inside(client: &Client<HostDir>, path: &str) -> bool {
    let Ok(found) = client.walk(path) else {
        return false;
    };
    let handle = client.open(found.node, 0);
    let content = client.read(found.node, handle.unwrap_or(0), 0, 100);
    if let Ok(content) = &content {
        assert_eq!(content, b"inside", "{path}");
    }
    if let Ok(target) = client.readlink(found.node) {
        assert!(target.contains("/outside"), "text of our own link");
    }
    if let Ok(handle) = handle {
        client.close(Opcode::Release, found.node, handle).expect("closes");
    }
    content.is_ok()
}

#[test]
fn a_mount_inside_is_an_empty_directory() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let directory = tempfile::tempdir().expect("directory");
    let inside = directory.path().join("mounted");
    std::fs::create_dir(&inside).expect("mkdir");
    if mount("none", &inside, "tmpfs", MountFlags::empty(), None).is_err() {
        return matchlock_testkit::skip("only root can mount");
    }
    std::fs::write(inside.join("f"), b"other file system").expect("write");
    let client = client(directory.path(), true, 8);
    let found = client.lookup(1, "mounted").expect("found");
    let (name, names) = (client.lookup(found.node, "f"), client.names(found.node));
    unmount(&inside, UnmountFlags::DETACH).expect("unmounts");
    assert_eq!(name, Err(ENOENT));
    assert_eq!(names, Ok(Vec::new()));
}
