//! INIT, the operations that the client is told to do without, limits and references.

use std::path::Path;
use std::sync::Arc;

use matchlock_fs::{
    CachePolicy, Filter, HostDir, HostDirOptions, IdSpace, Limits, Opcode, Pool, Server,
};

use crate::client::{Client, EBADF, ENOENT, ENOSYS, ESTALE, init, message, u32_at, u64_at};

const PLENTY: Limits = Limits { nodes: 1000, handles: 100, cached_fds: 16 };

fn host_dir(path: &Path, limits: Limits, stateless: bool) -> Arc<HostDir> {
    let options = HostDirOptions {
        cache: CachePolicy::SYSTEM,
        filter: Filter::default(),
        cross_mounts: false,
        stateless,
    };
    let dir = HostDir::open(path, IdSpace::ROOT, &Pool::new(limits), options);
    Arc::new(dir.expect("opens"))
}

fn answer(server: &Server<HostDir>, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, i32> {
    let mut reply = Vec::new();
    server.handle(&message(opcode as u32, 7, 1, payload), &mut reply);
    match u32_at(&reply, 4).cast_signed() {
        0 => Ok(reply.split_off(16)),
        error => Err(-error),
    }
}

#[test]
fn init_comes_first_and_is_negotiated() {
    let directory = tempfile::tempdir().expect("directory");
    let server = Server::new(host_dir(directory.path(), PLENTY, true));
    assert_eq!(answer(&server, Opcode::GetAttr, &[0; 16]), Err(5), "EIO before INIT");
    assert_eq!(answer(&server, Opcode::Init, &init(7, 30, 0)), Err(71), "EPROTO: too old");
    assert_eq!(answer(&server, Opcode::Init, &init(6, 0, 0)), Err(71), "EPROTO: too old");
    // A newer client asks again when it has read our major version.
    let newer = answer(&server, Opcode::Init, &init(8, 0, 0)).expect("reply");
    assert_eq!(u32_at(&newer, 0), 7);
    assert_eq!(answer(&server, Opcode::GetAttr, &[0; 16]), Err(5), "EIO before INIT");

    // Only what was offered is granted; INIT without the second flag word is 16 bytes.
    let short = answer(&server, Opcode::Init, &init(7, 31, 1)[..16]).expect("reply");
    assert_eq!((short.len(), u32_at(&short, 12)), (64, 1));
    let full = answer(&server, Opcode::Init, &init(7, 41, u64::MAX)).expect("reply");
    let flags = u32_at(&full, 12);
    for wanted in [0, 12, 13, 14, 17, 18, 22, 23, 24, 30] {
        assert!(flags & 1 << wanted != 0, "flag {wanted}");
    }
    assert_eq!(u32_at(&full, 20), 1 << 20, "max_write");
    assert_eq!(answer(&server, Opcode::GetAttr, &[0; 16]).map(|attr| attr.len()), Ok(104));
}

#[test]
fn a_stateless_server_wants_no_opens() {
    let directory = tempfile::tempdir().expect("directory");
    let server = Server::new(host_dir(directory.path(), PLENTY, true));
    answer(&server, Opcode::Init, &init(7, 41, u64::MAX)).expect("reply");
    assert_eq!(answer(&server, Opcode::Open, &[0; 8]), Err(ENOSYS));
    assert_eq!(answer(&server, Opcode::OpenDir, &[0; 8]), Err(ENOSYS));
    // A client that does not know this gets its handles.
    answer(&server, Opcode::Init, &init(7, 41, 0)).expect("reply");
    assert_eq!(answer(&server, Opcode::OpenDir, &[0; 8]).map(|opened| opened.len()), Ok(16));
}

#[test]
fn what_is_not_served_is_not_asked_for_again() {
    let directory = tempfile::tempdir().expect("directory");
    let client = Client::new(host_dir(directory.path(), PLENTY, true));
    for opcode in [
        Opcode::ListXattr,
        Opcode::Flush,
        Opcode::Fsync,
        Opcode::FsyncDir,
        Opcode::GetLk,
        Opcode::SetLk,
        Opcode::SetLkw,
        Opcode::Bmap,
        Opcode::Poll,
        Opcode::SetupMapping,
        Opcode::RemoveMapping,
    ] {
        assert_eq!(client.ask(opcode, 1, &[0; 64]), Err(ENOSYS), "{opcode:?}");
    }
    let xattr = [&[0; 8][..], b"user.x\0"].concat();
    assert_eq!(client.ask(Opcode::GetXattr, 1, &xattr), Err(ENOSYS));
}

/// What the client may go on asking for is answered as the system call would be.
#[test]
fn what_other_files_can_do_has_an_error_of_its_own() {
    let directory = tempfile::tempdir().expect("directory");
    let client = Client::new(host_dir(directory.path(), PLENTY, true));
    assert_eq!(client.ask(Opcode::Ioctl, 1, &[0; 32]), Err(25), "ENOTTY");
    assert_eq!(client.ask(Opcode::Access, 1, &[0; 8]), Ok(Vec::new()));
    assert_eq!(client.ask(Opcode::SyncFs, 1, &[0; 8]), Ok(Vec::new()));
    let copy = |space: u64| [&[0; 16][..], &(space << 48 | 1).to_le_bytes(), &[0; 32]].concat();
    assert_eq!(client.ask(Opcode::CopyFileRange, 1, &copy(1)), Err(18), "EXDEV");
    assert_eq!(client.ask(Opcode::CopyFileRange, 1, &copy(0)), Err(21), "EISDIR");
    // Nothing is under way that this could mean: the client asks again or forgets it.
    assert_eq!(client.ask(Opcode::Interrupt, 0, &1000u64.to_le_bytes()), Err(11), "EAGAIN");
}

#[test]
fn statx_tells_what_getattr_tells_and_when_the_file_was_made() {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("f"), b"content").expect("write");
    let client = Client::new(host_dir(directory.path(), PLENTY, false));
    let node = client.lookup(1, "f").expect("found").node;
    let attr = client.ask(Opcode::GetAttr, node, &[0; 16]).expect("attributes");
    let statx = client.ask(Opcode::Statx, node, &[0; 24]).expect("attributes");
    assert_eq!(statx.len(), 32 + 256);
    let (attr, statx) = (&attr[16..], &statx[32..]);
    for (what, of_attr, of_statx) in [("ino", 0, 32), ("size", 8, 40), ("blocks", 16, 48)] {
        assert_eq!(u64_at(attr, of_attr), u64_at(statx, of_statx), "{what}");
    }
    for (seconds, nanos, of_statx) in [(24, 48, 64), (40, 56, 96), (32, 52, 112)] {
        assert_eq!(u64_at(attr, seconds), u64_at(statx, of_statx));
        assert_eq!(u32_at(attr, nanos), u32_at(statx, of_statx + 8));
    }
    for (what, of_attr, of_statx) in
        [("mode", 60, 28), ("nlink", 64, 16), ("uid", 68, 20), ("gid", 72, 24)]
    {
        assert_eq!(u32_at(attr, of_attr), u32_at(statx, of_statx), "{what}");
    }
    let made = std::fs::metadata(directory.path().join("f")).expect("metadata").created();
    let expected = made.ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    assert_eq!(u32_at(statx, 0), if expected.is_some() { 0xfff } else { 0x7ff });
    assert_eq!(u64_at(statx, 80), expected.map_or(0, |made| made.as_secs()));
}

#[test]
fn a_file_that_lost_its_name_lives_while_it_is_open() {
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path();
    std::fs::create_dir(root.join("d")).expect("mkdir");
    std::fs::write(root.join("d/f"), b"content").expect("write");
    let client = Client::new(host_dir(root, PLENTY, false));
    let (dir, file) = (client.walk("d").expect("found"), client.walk("d/f").expect("found"));
    let (handle, listing) =
        (client.open(file.node, 0).expect("opens"), client.opendir(dir.node).expect("opens"));
    std::fs::remove_dir_all(root.join("d")).expect("removes");
    assert_eq!(client.getattr(file.node), Err(ESTALE));
    assert_eq!(client.fgetattr(file.node, handle).map(|attr| attr.size), Ok(7));
    assert_eq!(client.read(file.node, handle, 3, 100), Ok(b"tent".to_vec()));
    assert!(client.fgetattr(dir.node, listing).is_ok());
    assert_eq!(client.list_once(dir.node, listing, 0, 4096, false), Err(ENOENT), "as in Linux");
    // A handle means nothing with another node, nor one of a directory as a file.
    assert_eq!(client.read(dir.node, handle, 0, 1), Err(EBADF));
    assert_eq!(client.read(dir.node, listing, 0, 1), Err(EBADF));
    assert_eq!(client.close(Opcode::Release, dir.node, handle), Err(EBADF));
    assert_eq!(client.close(Opcode::Release, file.node, handle), Ok(()));
    assert_eq!(client.fgetattr(file.node, handle), Err(EBADF));
    assert_eq!(client.close(Opcode::ReleaseDir, dir.node, listing), Ok(()));
}

#[test]
fn references_keep_a_node_and_forget_removes_it() {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::create_dir(directory.path().join("d")).expect("mkdir");
    std::fs::write(directory.path().join("d/f"), b"x").expect("write");
    std::fs::hard_link(directory.path().join("d/f"), directory.path().join("g")).expect("link");
    let client = Client::new(host_dir(directory.path(), PLENTY, true));
    let dir = client.walk("d").expect("found");
    let file = client.lookup(dir.node, "f").expect("found");
    assert_eq!(client.lookup(1, "g").map(|other| other.node), Ok(file.node), "one inode, one node");
    client.lookup(dir.node, "f").expect("found");
    // The directory is kept by what was last found in it.
    client.forget(dir.node, 1);
    assert_eq!(client.getattr(dir.node), Ok(dir));
    client.forget(file.node, 2);
    assert_eq!(client.getattr(file.node), Ok(file));
    client.forget(file.node, 100);
    assert_eq!(client.getattr(file.node), Err(ESTALE));
    assert_eq!(client.getattr(dir.node), Err(ESTALE));
}

#[test]
fn nodes_and_handles_are_bounded() {
    let directory = tempfile::tempdir().expect("directory");
    for name in ["a", "b", "c"] {
        std::fs::write(directory.path().join(name), name).expect("write");
    }
    let limits = Limits { nodes: 2, handles: 2, cached_fds: 1 };
    let client = Client::new(host_dir(directory.path(), limits, false));
    let a = client.lookup(1, "a").expect("found").node;
    let b = client.lookup(1, "b").expect("found").node;
    assert_eq!(client.lookup(1, "c"), Err(12), "ENOMEM");
    // A listing still names what it cannot give a node for.
    let listed = client.list(1, 4096, true).expect("lists");
    let of_c = listed.iter().find(|listed| listed.name == "c").expect("listed");
    assert_eq!(of_c.node, 0);
    client.forget(b, u64::MAX);
    let c = client.lookup(1, "c").expect("found").node;
    assert!(c > b, "node numbers are not used again");

    let first = client.open(a, 0).expect("opens");
    client.open(c, 0).expect("opens");
    assert_eq!(client.open(c, 0), Err(23), "ENFILE");
    assert_eq!(client.read(a, first, 0, 10), Ok(b"a".to_vec()));
    assert_eq!(client.opendir(1), Err(23), "ENFILE");
    client.close(Opcode::Release, a, first).expect("closes");
    assert_eq!(client.read(a, first, 0, 10), Err(EBADF));
    client.open(c, 0).expect("opens");
    // A client that begins anew starts with nothing open and nothing referred to.
    client.ask(Opcode::Init, 0, &init(7, 41, 0)).expect("INIT");
    assert_eq!(client.getattr(a), Err(ESTALE));
    let a = client.lookup(1, "a").expect("found").node;
    client.open(a, 0).expect("opens");
}

#[test]
fn holes_are_told() {
    let directory = tempfile::tempdir().expect("directory");
    let file = std::fs::File::create(directory.path().join("sparse")).expect("create");
    std::os::unix::fs::FileExt::write_at(&file, b"data", 1 << 20).expect("write");
    file.sync_all().expect("sync");
    let client = Client::new(host_dir(directory.path(), PLENTY, true));
    let node = client.lookup(1, "sparse").expect("found").node;
    let seek = |whence: u32, offset: u64| {
        let payload = [&[0; 8][..], &offset.to_le_bytes(), &whence.to_le_bytes(), &[0; 4]].concat();
        client.ask(Opcode::Lseek, node, &payload).map(|at| u64_at(&at, 0))
    };
    assert_eq!(seek(3, 0), Ok(1 << 20), "SEEK_DATA");
    assert_eq!(seek(4, 1 << 20), Ok((1 << 20) + 4), "SEEK_HOLE");
    assert_eq!(seek(3, 1 << 21), Err(6), "ENXIO");
    assert_eq!(seek(0, 0), Err(22), "EINVAL");
    assert_eq!(client.read(node, 0, 1 << 20, 100), Ok(b"data".to_vec()));
    assert_eq!(client.read(node, 0, u64::MAX, 100), Err(22), "EINVAL");
}
