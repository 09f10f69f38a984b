//! The FUSE server, as a hostile kernel of a guest sees it.

use std::path::Path;
use std::sync::Arc;

use matchlock_fs::{
    CachePolicy, Filter, HostDir, HostDirOptions, Limits, Pool, Server, Tree, TreeBuilder,
};

/// A session of messages, each with its length in two bytes before it. Two bits of the first byte choose
/// whether the client offers everything or nothing in INIT, and whether the server can do without opens.
pub fn fuse_server(input: &[u8]) {
    let Some((&choice, mut rest)) = input.split_first() else { return };
    let flags = if choice & 1 == 0 { u32::MAX } else { 0 };
    let server = Server::new(Arc::new(tree(choice & 2 != 0)));
    let mut reply = Vec::new();
    let mut answer = |request: &[u8]| {
        reply.clear();
        server.handle(request, &mut reply);
        check(request, &reply);
    };
    answer(&init(flags));
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (request, after) = after.split_at(length);
        rest = after;
        answer(request);
    }
}

/// A directory, a link and, read-only, the sources of this package. Every bound is small enough to meet.
fn tree(stateless: bool) -> Tree {
    let pool = Pool::new(Limits { nodes: 4, handles: 2, cached_fds: 2 });
    let filter = Filter {
        masks: ["masked*", "**/masked"].into_iter().collect(),
        world_readable_only: true,
        refuse_private_keys: true,
        hide_special: true,
    };
    let options =
        HostDirOptions { cache: CachePolicy::SYSTEM, filter, cross_mounts: false, stateless };
    let mut builder = TreeBuilder::new(CachePolicy::SYSTEM);
    builder.directory(Path::new("/d"), 0o755).expect("the tree has a place for it");
    builder.link(Path::new("/l"), b"d").expect("the tree has a place for it");
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let space = builder.next_space().expect("the tree has numbers for it");
    let host = HostDir::open(sources, space, &pool, options).expect("the sources");
    builder.mount(Path::new("/h"), Arc::new(host)).expect("the tree has a place for it");
    builder.build()
}

/// INIT as Linux 6.12 sends it.
fn init(flags: u32) -> Vec<u8> {
    let header = [104, 26, 1, 0, 0, 0, 0, 0, 0, 0];
    let payload = [7, 41, 128 * 1024, flags, 0];
    let words = header.into_iter().chain(payload).flat_map(u32::to_le_bytes);
    words.chain([0; 44]).collect()
}

/// What the kernel insists on (`fuse_dev_do_write`), and our own bound.
fn check(request: &[u8], reply: &[u8]) {
    if reply.is_empty() {
        return;
    }
    let word = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(word(0) as usize, reply.len(), "length");
    assert_eq!(reply[8..16], request[8..16], "unique");
    let error = word(4).cast_signed();
    assert!((-511..=0).contains(&error), "{error} is no error number");
    assert!(error == 0 || reply.len() == 16, "an error has no payload");
    assert!(reply.len() <= 16 + (1 << 20), "{} bytes", reply.len());
}
