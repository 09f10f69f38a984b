//! Whatever bytes come, no panic, and every reply is well formed.

use std::path::Path;
use std::sync::Arc;

use matchlock_fs::{
    CachePolicy, Filter, HostDir, HostDirOptions, Limits, Opcode, Pool, Provider, Server,
    TreeBuilder,
};
use proptest::prelude::*;

use crate::client::{
    Client, EBADF, EINVAL, EOPNOTSUPP, EROFS, init, message, range, u32_at, u64_at,
};

/// A tree with everything in it: links, directories, a directory of the host with files.
fn provider(directory: &Path) -> Arc<dyn Provider> {
    std::fs::create_dir_all(directory.join("d")).expect("mkdir");
    std::fs::write(directory.join("d/f"), b"content").expect("write");
    std::os::unix::fs::symlink("d/f", directory.join("l")).expect("symlink");
    let pool = Pool::new(Limits { nodes: 8, handles: 4, cached_fds: 2 });
    let options = HostDirOptions {
        cache: CachePolicy::SYSTEM,
        filter: Filter { masks: ["masked"].into_iter().collect(), ..Filter::default() },
        cross_mounts: false,
        stateless: false,
    };
    let mut builder = TreeBuilder::new(CachePolicy::SYSTEM);
    builder.directory(Path::new("/dir"), 0o755).expect("place");
    builder.link(Path::new("/link"), b"dir").expect("place");
    let space = builder.next_space().expect("space");
    let host = HostDir::open(directory, space, &pool, options).expect("opens");
    builder.mount(Path::new("/dir/host"), Arc::new(host)).expect("place");
    Arc::new(builder.build())
}

/// The promise of `Server::handle` about replies.
fn check(request: &[u8], reply: &[u8]) {
    let opcode = if request.len() < 40 { 0 } else { u32_at(request, 4) };
    // INTERRUPT of what is not under way has a reply, if it is well formed.
    let interrupt = opcode == 36 && !reply.is_empty();
    assert!(!interrupt || u32_at(reply, 4).cast_signed() == -11, "EAGAIN or nothing");
    if request.len() < 40 || matches!(opcode, 2 | 41 | 42) || opcode == 36 && !interrupt {
        assert!(reply.is_empty(), "no reply to {opcode}");
        return;
    }
    assert!(reply.len() >= 16);
    assert_eq!(u32_at(reply, 0) as usize, reply.len());
    assert_eq!(u64_at(reply, 8), u64_at(request, 8));
    let error = u32_at(reply, 4).cast_signed();
    // The kernel refuses other numbers (`fuse_dev_do_write`).
    assert!((-511..=0).contains(&error), "{error}");
    assert!(error == 0 || reply.len() == 16);
    assert!(reply.len() <= 16 + (1 << 20));
}

/// Node numbers of both spaces, mostly ones that exist.
fn node() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..6, (1u64 << 48)..(1 << 48) + 8, any::<u64>()]
}

/// Payloads: noise, or noise that begins with small numbers and ends in a name.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop_oneof![0u32..8, any::<u32>()], 0..16);
    let name = prop::sample::select(vec![
        "", "host", "d", "f", "l", "dir", ".", "..", "a/b", "/", "masked", "x\0y",
    ]);
    let named = (words, name, any::<bool>()).prop_map(|(words, name, terminated)| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(name.bytes().chain(terminated.then_some(0)));
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), named]
}

fn typed() -> impl Strategy<Value = Vec<u8>> {
    (0u32..60, any::<u64>(), node(), payload())
        .prop_map(|(opcode, unique, node, payload)| message(opcode, unique, node, &payload))
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let place = any::<prop::sample::Index>();
    let mangled =
        (typed(), place, any::<u8>(), 0usize..4).prop_map(|(mut bytes, at, value, cut)| {
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes.truncate(bytes.len() - cut);
            bytes
        });
    prop_oneof![4 => typed(), 1 => mangled, 1 => prop::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_gets_well_formed_replies(requests in prop::collection::vec(request(), 1..60)) {
        let directory = tempfile::tempdir().expect("directory");
        let server = Server::new(provider(directory.path()));
        let mut reply = Vec::new();
        let start = message(Opcode::Init as u32, 1, 0, &init(7, 41, u64::from(u32::MAX)));
        for request in std::iter::once(start).chain(requests) {
            reply.clear();
            server.handle(&request, &mut reply);
            check(&request, &reply);
        }
    }
}

#[test]
fn names_that_are_no_component_are_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let client = Client::new(provider(directory.path()));
    let host = client.walk("dir/host").expect("found").node;
    for name in ["", ".", "..", "d/f", "/", "../..", "/etc/passwd"] {
        assert_eq!(client.lookup(host, name), Err(EINVAL), "{name}");
    }
    assert_eq!(client.ask(Opcode::Lookup, host, b"unterminated"), Err(EINVAL));
    assert_eq!(client.lookup(host, &"n".repeat(256)), Err(36), "ENAMETOOLONG");
    assert_eq!(client.lookup(host, &"n".repeat(255)), Err(2), "ENOENT");
}

#[test]
fn every_change_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let client = Client::new(provider(directory.path()));
    let file = client.walk("dir/host/d/f").expect("found").node;
    let parent = client.walk("dir/host/d").expect("found").node;
    let named = |words: usize| [&vec![0; words * 4][..], b"new\0other\0"].concat();
    for (opcode, payload) in [
        (Opcode::SetAttr, vec![0; 88]),
        (Opcode::MkNod, named(4)),
        (Opcode::MkDir, named(2)),
        (Opcode::Symlink, named(0)),
        (Opcode::Unlink, named(0)),
        (Opcode::RmDir, named(0)),
        (Opcode::Create, named(4)),
        (Opcode::SetXattr, named(2)),
        (Opcode::RemoveXattr, named(0)),
    ] {
        assert_eq!(client.ask(opcode, parent, &payload), Err(EROFS), "{opcode:?}");
    }
    // Of what is open there is a file that answers; without one there is nothing to write to.
    let handle = client.open(file, 0).expect("opens");
    let write = |handle: u64| [&range(handle, 0, 1)[..], &[0; 4], b"x"].concat();
    let fallocate = [&handle.to_le_bytes()[..], &[0; 24]].concat();
    let truncate = [&(1u64 << 6 | 1 << 3).to_le_bytes()[..], &handle.to_le_bytes(), &[0; 72]];
    let copy = [&range(handle, 0, 0)[..16], &file.to_le_bytes(), &range(handle, 0, 9)[..]].concat();
    assert_eq!(client.ask(Opcode::Write, file, &write(handle)), Err(EROFS));
    assert_eq!(client.ask(Opcode::Fallocate, file, &fallocate), Err(EROFS));
    assert_eq!(client.ask(Opcode::SetAttr, file, &truncate.concat()), Err(EROFS));
    assert_eq!(client.ask(Opcode::CopyFileRange, file, &copy), Err(EROFS));
    assert_eq!(client.ask(Opcode::Write, file, &write(0)), Err(EBADF));
    assert_eq!(client.ask(Opcode::Write, file, &write(handle + 1)), Err(EBADF));
    // As of Linux: a file without a name, which it calls `/`.
    let tmpfile = [&[0; 16][..], b"/\0"].concat();
    for directory in [parent, 1] {
        assert_eq!(client.ask(Opcode::TmpFile, directory, &tmpfile), Err(EOPNOTSUPP));
    }
    // Both sides of a rename or link are given; across providers there is no such thing.
    let rename = [&parent.to_le_bytes()[..], b"f\0g\0"].concat();
    assert_eq!(client.ask(Opcode::Rename, parent, &rename), Err(EROFS));
    assert_eq!(client.ask(Opcode::Rename, 1, &rename), Err(18), "EXDEV");
    for flags in [1u64, 2, 4] {
        let rename = [&parent.to_le_bytes()[..], &flags.to_le_bytes(), b"f\0g\0"].concat();
        assert_eq!(client.ask(Opcode::Rename2, parent, &rename), Err(EROFS), "{flags}");
    }
    for flags in [0o1, 0o2, 0o1000, 0o2000] {
        assert_eq!(client.open(file, flags), Err(EROFS), "{flags:o}");
    }
}
