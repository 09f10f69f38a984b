//! What a flow speaks: the first bytes of either side tell.

use std::io;

use bytes::BytesMut;
use matchlock_intercept::speech::{Detected, LONGEST_LINE, Server, Sniffer, of_server};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Who has told what the flow speaks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// The guest.
    Guest(Detected),
    /// The server, which spoke before anything was sent to it, and neither HTTP nor TLS.
    ServerFirst,
    /// Nobody: the server has ended, and nothing of it is for the guest.
    Ended,
}

/// What a flow speaks, and what was read to find out.
#[derive(Debug)]
pub(crate) struct Sniffed {
    pub(crate) spoken: Spoken,
    pub(crate) from_guest: BytesMut,
    pub(crate) from_upstream: BytesMut,
}

/// Reads from both sides until it is clear what the flow speaks. The side that speaks first decides.
pub(crate) async fn sniff(
    guest: &mut (impl AsyncRead + Unpin),
    upstream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Sniffed> {
    let mut from_guest = BytesMut::new();
    let mut from_upstream = BytesMut::new();
    let mut sniffer = Sniffer::default();
    let mut upstream_open = true;
    loop {
        let spoken = tokio::select! {
            biased;
            read = guest.read_buf(&mut from_guest) => match read? {
                0 => Some(Spoken::Guest(sniffer.at_end(&from_guest))),
                _ => sniffer.look(&from_guest).map(Spoken::Guest),
            },
            read = upstream.read_buf(&mut from_upstream), if upstream_open => {
                match (read?, of_server(&from_upstream)) {
                    (_, Some(Server::Own)) => Some(Spoken::ServerFirst),
                    (0, None) if !from_upstream.is_empty() => Some(Spoken::ServerFirst),
                    (0, _) => Some(Spoken::Ended),
                    // What a server of the web says unasked makes no bytes of the guest harmless.
                    (_, Some(Server::Web) | None) => {
                        upstream_open = from_upstream.len() < LONGEST_LINE;
                        None
                    }
                }
            },
        };
        if let Some(spoken) = spoken {
            return Ok(Sniffed { spoken, from_guest, from_upstream });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_server_may_speak_first() {
        let (_guest, mut near_guest) = tokio::io::duplex(64);
        let (mut upstream, mut near_upstream) = tokio::io::duplex(64);
        upstream.write_all(b"220 mail.example.com ESMTP\r\n").await.expect("the pipe is open");
        let sniffed = sniff(&mut near_guest, &mut near_upstream).await.expect("both are readable");
        assert_eq!(sniffed.spoken, Spoken::ServerFirst);
        assert_eq!(&sniffed.from_upstream[..], b"220 mail.example.com ESMTP\r\n");
    }

    #[tokio::test]
    async fn early_words_of_a_web_server_do_not_hide_a_request() {
        for early in [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], b"HTTP/1.1 408 Late\r\n", b"<html>"] {
            for request in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"A\0 / HTTP/1.1\r\n\r\n"] {
                let (mut guest, mut near_guest) = tokio::io::duplex(64);
                let (mut upstream, mut near_upstream) = tokio::io::duplex(64);
                upstream.write_all(early).await.expect("the pipe is open");
                guest.write_all(request).await.expect("the pipe is open");
                let sniffed = sniff(&mut near_guest, &mut near_upstream).await;
                let spoken = sniffed.expect("both are readable").spoken;
                let expected = if request[0] == b'P' { Detected::Http2 } else { Detected::Unknown };
                assert_eq!(spoken, Spoken::Guest(expected), "{}", early.escape_ascii());
            }
        }
    }
}
