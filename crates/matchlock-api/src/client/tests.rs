use super::*;

use tokio::io::AsyncReadExt as _;

use crate::control::{self, Asked};
use crate::error::{ErrorCode, ErrorKind};
use crate::files::Empty;
use crate::message::ControlCall;
use crate::rpc::{Refusal, result_message};

/// A client, and the server's end of its connection.
fn pair() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    (Connection::over(ours), theirs)
}

/// What is asked.
async fn hear(stream: &mut UnixStream) -> Asked {
    match read_one(stream).await {
        Ok(ClientFrame::Message(json)) => control::receive(&json).expect("a call").1,
        other => panic!("{other:?}"),
    }
}

async fn put(stream: &mut UnixStream, frames: &[ServerFrame]) {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    stream.write_all(&bytes).await.expect("write");
}

fn done<M: Method>(result: &M::Result) -> ServerFrame {
    ServerFrame::Message(result_message::<M>(&ID, result))
}

fn shell() -> RunParams {
    RunParams { argv: vec![crate::control::Arg::Text("sh".into())], ..RunParams::default() }
}

#[tokio::test]
async fn what_follows_the_answer_of_dial_is_the_connection_s() {
    let (connection, mut stream) = pair();
    let serving = async {
        let asked = hear(&mut stream).await;
        assert_eq!(asked, Asked::Control(ControlCall::Dial(DialParams { port: 80 })));
        let mut bytes = Vec::new();
        done::<control_method::Dial>(&Empty {}).encode(&mut bytes);
        // In one piece, so that a client which reads on would lose it.
        bytes.extend_from_slice(b"hello");
        stream.write_all(&bytes).await.expect("write");
        let mut said = [0; 3];
        stream.read_exact(&mut said).await.expect("read");
        assert_eq!(&said, b"you");
    };
    let using = async {
        let mut stream = connection.dial(80).await.expect("dial");
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.expect("read");
        assert_eq!(&heard, b"hello");
        stream.write_all(b"you").await.expect("write");
    };
    tokio::join!(serving, using);
}

#[tokio::test]
async fn a_program_has_its_streams_and_then_its_status() {
    let (connection, mut stream) = pair();
    let serving = async {
        hear(&mut stream).await;
        put(&mut stream, &[ServerFrame::Ready, ServerFrame::Stdout(b"out".to_vec())]).await;
        let ended = ExitResult { exit_code: 7, duration_ms: 1 };
        let last = done::<control_method::Run>(&ended);
        put(&mut stream, &[ServerFrame::Stderr(b"err".to_vec()), last]).await;
    };
    let using = async {
        let (mut program, mut streams) = connection.run(shell()).await.expect("run");
        assert!(streams.stdin.is_none());
        assert_eq!(streams.stdout.collect().await, b"out");
        assert_eq!(streams.stderr.collect().await, b"err");
        assert_eq!(program.wait().await.expect("its status").exit_code, 7);
    };
    tokio::join!(serving, using);
}

#[tokio::test]
async fn a_server_cannot_send_more_than_it_was_granted() {
    let (connection, mut stream) = pair();
    let serving = async {
        hear(&mut stream).await;
        put(&mut stream, &[ServerFrame::Ready]).await;
        let mut bytes = Vec::new();
        for _ in 0..=matchlock_wire::INITIAL_WINDOW as usize / matchlock_wire::MAX_DATA {
            ServerFrame::Stdout(vec![0; matchlock_wire::MAX_DATA]).encode(&mut bytes);
        }
        // The client may hang up before it has all.
        drop(stream.write_all(&bytes).await);
    };
    let using = async {
        // Held, and not read: nothing is granted.
        let (mut program, _streams) = connection.run(shell()).await.expect("run");
        assert!(matches!(program.wait().await, Err(ClientError::Protocol(None))));
    };
    tokio::join!(serving, using);
}

#[tokio::test]
async fn an_error_is_the_servers_and_a_lost_connection_is_another() {
    let ((first, mut stream), (second, other)) = (pair(), pair());
    let serving = async {
        hear(&mut stream).await;
        let error = RpcError::new(ErrorCode::Exec, ErrorKind::NotFound, "no such program");
        let refusal = Refusal { id: Some(ID), error };
        put(&mut stream, &[ServerFrame::Message(refusal.to_line())]).await;
        drop(other);
    };
    let using = async {
        let refused = first.run(shell()).await.expect_err("refused");
        assert_eq!(refused.to_string(), "no such program");
        let lost = second.run(shell()).await.expect_err("lost");
        assert!(matches!(lost, ClientError::Lost(_)), "{lost:?}");
    };
    tokio::join!(serving, using);
}
