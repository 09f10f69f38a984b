//! The control socket of a sandbox with a scripted guest.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use matchlock_api::client::ClientError;
use matchlock_api::control::{Arg, RunParams, SOCKET, TtySize};
use matchlock_api::{HostsParams, NoParams, control_method, method};
use matchlock_core::control::connect;
use matchlock_core::vmm::Fake;
use matchlock_core::{Attachments, ExecFailure, ExitStatus, SandboxHandle};
use matchlock_proto::{AgentFrame, HostFrame, INITIAL_WINDOW, Request, StreamId, WindowSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use support::{Peer, left, report, serve, spec, start};

/// For what must happen soon.
const SOON: Duration = Duration::from_secs(30);

/// A guest that boots and hands everything else to `handle`.
fn guest(handle: impl Fn(Request, Peer) + Clone + Send + Sync + 'static) -> Fake {
    serve(move |request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Shutdown { .. } => drop(peer.send(&AgentFrame::Done)),
        request => handle(request, peer),
    })
}

async fn sandbox(home: &Path, vmm: &Fake) -> (SandboxHandle, PathBuf) {
    let sandbox = start(spec(), Attachments::default(), home, vmm).await.expect("start");
    let directory = home.join(".matchlock/vms").join(sandbox.id().as_str());
    (sandbox, directory)
}

fn shell(stdin: bool) -> RunParams {
    RunParams { argv: vec![Arg::Text("sh".into())], stdin, ..RunParams::default() }
}

/// A program that writes what it reads, and then ends with status 3.
fn echo(request: Request, mut peer: Peer) {
    let Request::Exec(request) = request else { panic!("{request:?}") };
    assert_eq!(request.argv, [b"sh"]);
    peer.send(&AgentFrame::Started);
    while let Some(frame) = peer.receive() {
        match frame {
            HostFrame::Stdin(data) => {
                peer.send(&AgentFrame::Stdout(data));
            }
            // It reads no more than it may write.
            HostFrame::Credit(StreamId::Stdout, bytes) => {
                peer.send(&AgentFrame::Credit(StreamId::Stdin, bytes));
            }
            HostFrame::StdinEof => {
                peer.send(&AgentFrame::Stderr(b"done".to_vec()));
                peer.send(&AgentFrame::Exited(ExitStatus::Code(3)));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_program_has_its_input_its_output_and_its_status() {
    let home = tempfile::tempdir().expect("tempdir");
    let (sandbox, directory) = sandbox(home.path(), &guest(echo)).await;
    let connection = connect(&directory).await.expect("connect");
    let (mut program, streams) = connection.run(shell(true)).await.expect("run");
    // Several windows of it, so that credit flows on both connections.
    let sent: Vec<u8> = (0..3 * INITIAL_WINDOW).map(|n| n as u8).collect();
    let (mut stdout, mut stderr) = (streams.stdout, streams.stderr);
    let stdin = streams.stdin.expect("input");
    let sending = async {
        stdin.send(&sent).await.expect("send");
        drop(stdin);
    };
    let ((), out, err) = tokio::join!(sending, stdout.collect(), stderr.collect());
    assert!(out == sent, "{} of {} bytes", out.len(), sent.len());
    assert_eq!(err, b"done");
    assert_eq!(program.wait().await.expect("status").exit_code, 3);
    sandbox.end().await;
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn who_hangs_up_cancels_the_program() {
    let home = tempfile::tempdir().expect("tempdir");
    let (tell, told) = mpsc::channel();
    let vmm = guest(move |_, mut peer| {
        peer.send(&AgentFrame::Started);
        assert_eq!(peer.receive(), None, "the host closes the connection");
        tell.send(()).expect("the test waits");
    });
    let (sandbox, directory) = sandbox(home.path(), &vmm).await;
    let connection = connect(&directory).await.expect("connect");
    drop(connection.run(shell(false)).await.expect("run"));
    let told =
        tokio::task::spawn_blocking(move || told.recv_timeout(SOON)).await.expect("a thread");
    told.expect("the program was cancelled");
    sandbox.end().await;
}

#[tokio::test]
async fn a_program_that_reads_nothing_holds_up_nothing_else() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        // No credit for its input, however much comes.
        while let Some(frame) = peer.receive() {
            if frame == HostFrame::Resize(WindowSize { rows: 7, cols: 9 }) {
                peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
            }
        }
    });
    let (sandbox, directory) = sandbox(home.path(), &vmm).await;
    let connection = connect(&directory).await.expect("connect");
    let tty = Some(TtySize { rows: 24, cols: 80 });
    let params = RunParams { tty, ..shell(true) };
    let (mut program, streams) = connection.run(params).await.expect("run");
    let stdin = streams.stdin.expect("input");
    let feeding = tokio::spawn(async move {
        let piece = vec![0; 64 * 1024];
        while stdin.send(&piece).await.is_ok() {}
    });
    // Not before the windows are full: more than both of them cannot be sent.
    program.resize(TtySize { rows: 7, cols: 9 });
    let ended = timeout(SOON, program.wait()).await.expect("in time").expect("status");
    assert_eq!(ended.exit_code, 0);
    timeout(SOON, feeding).await.expect("its input ends with it").expect("no panic");
    sandbox.end().await;
}

#[tokio::test]
async fn a_port_of_the_guest_is_dialled() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|request, mut peer| {
        let Request::Forward { port } = request else { panic!("{request:?}") };
        if port == 81 {
            let refused = ExecFailure::Port("connection refused".into());
            peer.send(&AgentFrame::Refused(refused));
            return;
        }
        peer.send(&AgentFrame::Started);
        std::io::copy(&mut peer.stream.try_clone().expect("clone"), &mut peer.stream)
            .expect("echo");
    });
    let (sandbox, directory) = sandbox(home.path(), &vmm).await;
    let connection = connect(&directory).await.expect("connect");
    let mut stream = connection.dial(80).await.expect("dial");
    stream.write_all(b"over and out").await.expect("write");
    stream.shutdown().await.expect("shut down");
    let mut said = String::new();
    timeout(SOON, stream.read_to_string(&mut said)).await.expect("in time").expect("read");
    assert_eq!(said, "over and out");
    let connection = connect(&directory).await.expect("connect");
    let refused = connection.dial(81).await.expect_err("refused");
    assert!(refused.to_string().contains("connection refused"), "{refused}");
    sandbox.end().await;
}

#[tokio::test]
async fn only_its_user_reaches_the_socket_which_goes_with_the_sandbox_however_long_its_path() {
    let home = tempfile::tempdir().expect("tempdir");
    let long = home.path().join("h".repeat(200));
    std::fs::create_dir(&long).expect("mkdir");
    let (sandbox, directory) = sandbox(&long, &guest(echo)).await;
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&directory.join(SOCKET)), 0o600);
    assert_eq!(mode(&directory), 0o700);
    connect(&directory).await.expect("connect");
    sandbox.end().await;
    assert!(left(&long).is_empty());
    connect(&directory).await.expect_err("it is gone");
}

#[tokio::test]
async fn what_is_wrong_is_answered_and_disturbs_nobody() {
    let home = tempfile::tempdir().expect("tempdir");
    let (sandbox, directory) = sandbox(home.path(), &guest(echo)).await;
    let calling = async || connect(&directory).await.expect("connect");
    let refused = |error: ClientError| match error {
        ClientError::Refused(error) => error.code.number(),
        error => panic!("{error:?}"),
    };
    let log = calling().await.call::<method::Close>(matchlock_api::CloseParams::default()).await;
    assert_eq!(refused(log.expect_err("not here")), -32601);
    let hosts = HostsParams { hosts: Some(vec!["example.com".into()]) };
    let added = calling().await.call::<method::AllowListAdd>(hosts).await;
    let error = added.expect_err("no network");
    assert!(error.to_string().contains("allow-list updates unavailable"), "{error}");
    let listed = calling().await.call::<control_method::AllowList>(NoParams {}).await;
    assert_eq!(refused(listed.expect_err("no network")), -32000);
    let nul = RunParams { argv: vec![Arg::Text("a\0b".into())], ..RunParams::default() };
    assert_eq!(refused(calling().await.run(nul).await.expect_err("a NUL")), -32602);
    // No frame at all, in pieces of every kind.
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x40, 0xff, 0xff, 0xff, 0xff], &[0x01, 0, 0, 0, 0]]
    {
        let address = directory.join(SOCKET);
        let mut stream = tokio::net::UnixStream::connect(address).await.expect("connect");
        stream.write_all(bytes).await.expect("write");
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.expect("closed").ok();
        assert_eq!(answer, b"");
    }
    let (mut program, streams) = calling().await.run(shell(true)).await.expect("run");
    drop(streams.stdin);
    assert_eq!(program.wait().await.expect("status").exit_code, 3);
    sandbox.end().await;
}
