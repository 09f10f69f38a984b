//! What all HTTP/2 connections of a sandbox may hold together.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::bench::{Bench, bounded, eventually};
use super::raw::{self, DATA, END_HEADERS, END_STREAM, HEADERS, frame};

const CONNECTIONS: usize = 128;
const STREAMS: usize = 400;
const OF_ONE: usize = 100;

/// A guest's connection.
struct Client {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

fn start(bench: &Bench, upstream: DuplexStream) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(crate::http::h2::serve(far, Box::new(upstream), bench.exchange()));
    near
}

async fn connect(bench: &Bench, upstream: DuplexStream) -> Client {
    let near = start(bench, upstream);
    let (send, connection) = bounded(h2::client::handshake(near)).await.unwrap();
    Client { send, connection: tokio::spawn(connection) }
}

impl Client {
    async fn ask(&self) -> ResponseFuture {
        let uri = "https://api.example.com/";
        let request = Request::builder().uri(uri).version(http::Version::HTTP_2).body(()).unwrap();
        let mut send = bounded(self.send.clone().ready()).await.unwrap();
        send.send_request(request, true).unwrap().0
    }
}

/// A server that answers no request.
fn silent() -> DuplexStream {
    raw::h2(Vec::new(), 0)
}

fn answer() -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &raw::field(":status", "204"))
}

#[tokio::test]
async fn streams_of_all_connections_are_bounded_and_more_are_refused() {
    let bench = Bench::new();
    let mut clients = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..STREAMS / OF_ONE {
        let client = connect(&bench, silent()).await;
        for _ in 0..OF_ONE {
            waiting.push(client.ask().await);
        }
        clients.push(client);
    }
    eventually("all are judged", || bench.requests().len() == STREAMS).await;
    let one_more = connect(&bench, raw::h2(answer(), 1)).await;
    let error = bounded(one_more.ask().await).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    assert_eq!(bench.requests().len(), STREAMS, "it is not judged");
    // A stream that ends makes room.
    drop(waiting.pop());
    eventually("its end", || bench.responses().len() == 1).await;
    let again = connect(&bench, raw::h2(answer(), 1)).await;
    assert_eq!(bounded(again.ask().await).await.unwrap().status(), 204);
    // So does a connection.
    drop((waiting, clients));
}

#[tokio::test]
async fn the_places_of_streams_that_have_ended_are_given_back() {
    let bench = Bench::new();
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((_, mut respond))) = server.accept().await {
            let response = http::Response::builder().status(204).body(()).unwrap();
            let _: h2::SendStream<Bytes> = respond.send_response(response, true).unwrap();
        }
    });
    let client = connect(&bench, near).await;
    for _ in 0..2 * STREAMS {
        assert_eq!(bounded(client.ask().await).await.unwrap().status(), 204);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_idle_ones_make_room() {
    let bench = Bench::new();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(connect(&bench, silent()).await);
    }
    let one_more = connect(&bench, raw::h2(answer(), 1)).await;
    assert_eq!(bounded(one_more.ask().await).await.unwrap().status(), 204);
    let ended = idle.iter().filter(|client| client.connection.is_finished()).count();
    assert!((1..CONNECTIONS).contains(&ended), "{ended} have ended");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_go_when_it_is_idle_is_cut_off() {
    let bench = Bench::new();
    let (mut guest, far) = tokio::io::duplex(64 * 1024);
    let serving = crate::http::h2::serve(far, Box::new(silent()), bench.exchange());
    let serving = tokio::spawn(serving);
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    guest.write_all(hello).await.unwrap();
    // It reads nothing and answers nothing from here on.
    let ended = tokio::time::timeout(Duration::from_secs(600), serving).await;
    ended.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_body_goes_on_while_others_hold_all_that_may_wait() {
    const FRAMES: usize = 15;
    let bench = Bench::new();
    let queued = Arc::clone(bench.shared.http2().queued());
    let all = u32::try_from(queued.available_permits()).unwrap();
    let _others = queued.acquire_many(all).await.unwrap();
    let data = [7; 4096];
    let mut body = frame(HEADERS, END_HEADERS, 1, &raw::field(":status", "200"));
    for _ in 0..FRAMES {
        body.extend(frame(DATA, 0, 1, &data));
    }
    body.extend(frame(DATA, END_STREAM, 1, &data[..1]));
    let client = connect(&bench, raw::h2(body, 1)).await;
    let response = bounded(client.ask().await).await.unwrap();
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(data) = bounded(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        length += data.len();
    }
    assert_eq!(length, FRAMES * 4096 + 1);
}
