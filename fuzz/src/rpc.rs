//! Lines of JSON-RPC, as a hostile client sends them.

use matchlock_api::line::{Line, LineDecoder};
use matchlock_api::rpc::{Incoming, ServerMessage, receive};

/// A small bound, so that lines beyond it are tried too.
const MAX: usize = 4096;

/// The first byte chooses how the rest is cut into pieces. How the lines arrive changes nothing, what is
/// understood is understood again when it is written, and a refusal is a line that a client reads.
pub fn rpc_line(input: &[u8]) {
    let Some((&size, stream)) = input.split_first() else {
        return;
    };
    let at_once = messages(std::iter::once(stream));
    let in_pieces = messages(stream.chunks(usize::from(size) + 1));
    assert_eq!(at_once, in_pieces, "how the bytes arrive changes what they mean");
    for message in at_once {
        match message {
            Incoming::Call { request, .. } => {
                let line = request.to_line();
                let Incoming::Call { request: again, .. } = receive(Line::Whole(&line)) else {
                    panic!("{}", line.escape_ascii());
                };
                assert_eq!((again.id, again.call.name()), (request.id, request.call.name()));
            }
            Incoming::Input(input) => {
                assert_eq!(receive(Line::Whole(&input.to_line())), Incoming::Input(input));
            }
            Incoming::Refused(refusal) => {
                let line = refusal.to_line();
                assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                let read = ServerMessage::parse(line.trim_ascii_end());
                assert!(matches!(read, Ok(ServerMessage::Error { .. })), "{}", line.escape_ascii());
            }
            Incoming::Dropped(_) => {}
        }
    }
}

fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Incoming> {
    let mut decoder = LineDecoder::new(MAX);
    let mut all = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(line) = decoder.next() {
            all.push(receive(line));
        }
    }
    all.extend(decoder.finish().map(receive));
    all
}
