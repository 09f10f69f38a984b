//! What a guest is told of tunnels, frame by frame (RFC 9113 section 6.5, RFC 8441 section 3).

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

use super::bench::{Bench, bounded};

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const ACK: u8 = 1;
/// `SETTINGS_ENABLE_CONNECT_PROTOCOL` with the value 1.
const TUNNELS: [u8; 6] = [0, 8, 0, 0, 0, 1];

async fn send(guest: &mut DuplexStream, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    bounded(guest.write_all(&frame)).await.unwrap();
}

/// Kind, flags, stream and payload of the next frame.
async fn receive(guest: &mut DuplexStream) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    bounded(guest.read_exact(&mut head)).await.expect("the connection stands");
    let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let mut payload = vec![0; length];
    bounded(guest.read_exact(&mut payload)).await.expect("the frame is whole");
    (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

/// `GET /status/204` in HPACK without a table (RFC 7541 section 6.2).
fn request() -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(4, "/status/204"), (1, "api.example.com")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.bytes());
    }
    block
}

#[tokio::test]
async fn a_guest_that_is_slow_to_take_our_settings_keeps_its_connection() {
    let bench = Bench::new();
    let (mut guest, far) = tokio::io::duplex(64 * 1024);
    let upstream = TcpStream::connect(bench.origin.http()).await.unwrap();
    tokio::spawn(crate::http::h2::serve(far, Box::new(upstream), bench.exchange()));
    guest.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    send(&mut guest, SETTINGS, 0, 0, &[]).await;
    // With the second answer at the latest the server has told that it has tunnels.
    let mut questions = Vec::new();
    for stream in [1, 3, 5] {
        send(&mut guest, HEADERS, 5, stream, &request()).await;
        loop {
            match receive(&mut guest).await {
                (HEADERS, _, answered, _) if answered == stream => break,
                (PING, 0, _, payload) => questions.push(payload),
                (SETTINGS, 0, _, payload) => assert!(!payload.ends_with(&TUNNELS)),
                _ => {}
            }
        }
    }
    send(&mut guest, SETTINGS, ACK, 0, &[]).await;
    loop {
        for question in questions.drain(..) {
            send(&mut guest, PING, ACK, 0, &question).await;
        }
        match receive(&mut guest).await {
            (PING, 0, _, payload) => questions.push(payload),
            (SETTINGS, 0, _, payload) => break assert_eq!(payload, TUNNELS),
            _ => {}
        }
    }
}
