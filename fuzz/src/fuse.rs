//! The FUSE server, as a hostile kernel of a guest sees it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use matchlock_fs::{
    CachePolicy, Filter, HostDir, HostDirOptions, Limits, Message, Pool, Server, Service, Tree,
    TreeBuilder,
};

mod odd;

/// Longer than any of the messages takes; who waits so long has found a message that is never answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session of messages, each with its length in two bytes before it. Bits of the first byte choose whether
/// the client offers everything or nothing in INIT, whether the server can do without opens, and whether
/// each message waits for the answer to the one before or all are under way at once.
pub fn fuse_server(input: &[u8]) {
    let Some((&choice, mut rest)) = input.split_first() else { return };
    let flags = if choice & 1 == 0 { u32::MAX } else { 0 };
    let mut messages = vec![init(flags)];
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (request, after) = after.split_at(length);
        rest = after;
        messages.push(request.to_vec());
    }
    let server = Server::new(Arc::new(tree(choice & 2 != 0)));
    if choice & 4 == 0 { one_by_one(&server, &messages) } else { at_once(server, messages) }
}

fn one_by_one(server: &Server<Tree>, messages: &[Vec<u8>]) {
    let mut reply = Vec::new();
    for request in messages {
        reply.clear();
        server.handle(request, &mut reply);
        check(request, &reply);
    }
}

/// Every message is answered once, in whatever order, and what waits ends with the service.
fn at_once(server: Server<Tree>, mut messages: Vec<Vec<u8>>) {
    let service = Service::new(server);
    let (sender, answers) = channel();
    messages.truncate(300);
    for (number, bytes) in messages.iter().enumerate() {
        let sender = Some(sender.clone());
        service.submit(Sent { number, bytes: bytes.clone(), sender });
        if number == 0 {
            // INIT; nothing is sent before its answer.
            let (_, reply) = answers.recv_timeout(PATIENCE).expect("an answer to INIT");
            check(bytes, &reply.expect("it is answered"));
        }
    }
    drop(sender);
    drop(service);
    let mut answered = HashMap::new();
    while answered.len() + 1 < messages.len() {
        let (number, reply) = answers.recv_timeout(PATIENCE).expect("an answer to each");
        check(&messages[number], &reply.unwrap_or_default());
        assert!(answered.insert(number, ()).is_none(), "answered twice");
    }
}

/// A message that sends its reply on, or that it was dropped.
struct Sent {
    number: usize,
    bytes: Vec<u8>,
    sender: Option<Sender<(usize, Option<Vec<u8>>)>>,
}

impl Message for Sent {
    fn head(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(40)]
    }

    fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend_from_slice(&self.bytes);
        Ok(())
    }

    fn answer(mut self, reply: &[u8]) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send((self.number, Some(reply.to_vec())));
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            assert!(!std::thread::panicking(), "a handler panicked");
            let _ = sender.send((self.number, None));
        }
    }
}

/// A directory, a link, the sources of this package, read-only, and a provider that says yes to everything
/// and waits now and then. Every bound is small enough to meet.
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
    let space = builder.next_space().expect("the tree has numbers for it");
    let odd = odd::Odd::new(space, stateless);
    builder.mount(Path::new("/o"), Arc::new(odd)).expect("the tree has a place for it");
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
    assert!(request.len() >= 40, "who did not send a header gets no reply");
    let word = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(word(0) as usize, reply.len(), "length");
    assert_eq!(reply[8..16], request[8..16], "unique");
    let error = word(4).cast_signed();
    assert!((-511..=0).contains(&error), "{error} is no error number");
    assert!(error == 0 || reply.len() == 16, "an error has no payload");
    assert!(reply.len() <= 16 + (1 << 20), "{} bytes", reply.len());
}
