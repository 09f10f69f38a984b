//! The framing between host and agent, and that of control sockets, in both directions.

use std::fmt::Debug;

use matchlock_api::control::{ClientFrame, ServerFrame, receive};
use matchlock_proto::{AgentFrame, Decoder, FileEntry, HostFrame, WireError, WireMessage};

/// What the host makes of bytes that a hostile guest sends in the agent's place.
pub fn proto_host(input: &[u8]) {
    let _ = decode::<AgentFrame>(input);
    let mut rest = input;
    while let Ok(Some(entry)) = FileEntry::take(&mut rest) {
        let mut again = Vec::new();
        entry.encode(&mut again);
        assert_eq!(FileEntry::take(&mut again.as_slice()), Ok(Some(entry)));
    }
}

/// What the agent makes of bytes on its port.
pub fn proto_agent(input: &[u8]) {
    let _ = decode::<HostFrame>(input);
}

/// What both ends of a control socket make of bytes, and a server of the messages among them.
pub fn control_frame(input: &[u8]) {
    let _ = decode::<ServerFrame>(input);
    for frame in decode::<ClientFrame>(input) {
        if let ClientFrame::Message(json) = frame {
            // Without a panic, and with an answer to each.
            let _ = receive(&json).map_err(|refusal| refusal.to_message());
        }
    }
}

/// The first byte chooses how the rest is cut into pieces.
fn decode<M: WireMessage + PartialEq + Debug>(input: &[u8]) -> Vec<M> {
    let Some((&size, stream)) = input.split_first() else {
        return Vec::new();
    };
    let at_once = read::<M>(std::iter::once(stream));
    let in_pieces = read::<M>(stream.chunks(usize::from(size) + 1));
    assert_eq!(at_once, in_pieces, "how the bytes arrive changes what they mean");

    let mut again = Vec::new();
    for message in &at_once.0 {
        message.encode(&mut again);
    }
    let (messages, end) = read::<M>(std::iter::once(again.as_slice()));
    assert_eq!(messages, at_once.0, "a message changes when it is encoded");
    assert_eq!(end, None);
    messages
}

fn read<'a, M: WireMessage>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<M>, Option<WireError>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
