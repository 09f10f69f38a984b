//! FUSE messages, as the virtio-fs queue or a pump hands them over.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use matchlock_fs::{
    CachePolicy, Filter, HostDir, HostDirOptions, Limits, Opcode, Pool, Server, Tree, TreeBuilder,
};

const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// The largest payload that the server announces, in bytes.
const MAX_DATA: usize = 1024 * 1024;

/// A conversation: each message of the input is its length in two bytes, and that many bytes.
/// Every reply has to be one that the kernel takes.
pub fn fuse_server(input: &[u8]) {
    let server = Server::new(tree());
    let mut reply = Vec::new();
    let mut rest = input;
    while let Some((len, tail)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(*len)).min(tail.len());
        let (request, tail) = tail.split_at(len);
        reply.clear();
        server.handle(request, &mut reply);
        check(request, &reply);
        rest = tail;
    }
}

/// Directories, a link, and a directory of the host with files and something masked.
fn tree() -> Arc<Tree> {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        std::fs::create_dir(path.join("d")).expect("mkdir");
        std::fs::write(path.join("d/f"), b"content").expect("write");
        std::fs::write(path.join("masked"), b"secret").expect("write");
        std::os::unix::fs::symlink("d/f", path.join("l")).expect("symlink");
        directory
    });
    let pool = Pool::new(Limits { nodes: 8, handles: 4, cached_fds: 2 });
    let filter = Filter { masks: ["masked"].into_iter().collect(), ..Filter::default() };
    let options = HostDirOptions {
        cache: CachePolicy::SYSTEM,
        filter,
        cross_mounts: false,
        stateless: false,
    };
    let mut builder = TreeBuilder::new(CachePolicy::SYSTEM);
    builder.directory(Path::new("/dir"), 0o755).expect("place");
    builder.link(Path::new("/link"), b"dir").expect("place");
    let space = builder.next_space().expect("a space");
    let host = HostDir::open(directory.path(), space, &pool, options).expect("opens");
    builder.mount(Path::new("/dir/host"), Arc::new(host)).expect("place");
    Arc::new(builder.build())
}

/// What `fuse_dev_do_write` of Linux asks of a reply, and that nothing masked is in it.
fn check(request: &[u8], reply: &[u8]) {
    let silent =
        [Opcode::Forget, Opcode::Interrupt, Opcode::BatchForget].map(|opcode| opcode as u32);
    if reply.is_empty() {
        assert!(
            request.len() < IN_HEADER
                || silent.contains(&word(request, 4))
                || word(request, 4) == 41
        );
        return;
    }
    assert!(request.len() >= IN_HEADER, "a reply to what is no message");
    assert!((OUT_HEADER..=OUT_HEADER + MAX_DATA).contains(&reply.len()));
    assert_eq!(word(reply, 0) as usize, reply.len());
    assert_eq!(reply[8..16], request[8..16], "the reply is to another request");
    let error = word(reply, 4).cast_signed();
    assert!((-511..=0).contains(&error), "{error} is no error number");
    assert!(error == 0 || reply.len() == OUT_HEADER, "an error has no payload");
    assert!(!reply.windows(6).any(|bytes| bytes == b"secret"), "masked content");
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("checked before"))
}
