//! The control socket of a sandbox with a scripted guest.

mod support;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use matchlock_api::client::ClientError;
use matchlock_api::control::{Arg, RunParams, SOCKET, TtySize};
use matchlock_api::{HostsParams, NoParams, control_method, method};
use matchlock_core::control::{Copied, CopyError, Limits, connect, copy_in, copy_out};
use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, Classified, DescribeChain, ErrorKind, ExecFailure, ExitStatus, SandboxHandle,
};
use matchlock_proto::{
    AgentFrame, FileRequest, HostFrame, INITIAL_WINDOW, Request, StreamId, WindowSize,
};
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

/// Answers a copy out of the guest with this archive, these words and this status.
fn sends(archive: Vec<u8>, words: &'static [u8], status: u8) -> Fake {
    guest(move |request, mut peer| {
        let Request::File(FileRequest::Pack { path, follow: false }) = request else {
            panic!("{request:?}")
        };
        assert_eq!(path, b"/src/name");
        peer.send(&AgentFrame::Started);
        for chunk in archive.chunks(1000) {
            peer.send(&AgentFrame::Stdout(chunk.to_vec()));
        }
        peer.send(&AgentFrame::Stderr(words.to_vec()));
        peer.send(&AgentFrame::Exited(ExitStatus::Code(status)));
    })
}

/// A small archive of one file.
fn archive_of(path: &[u8], content: &[u8]) -> Vec<u8> {
    use matchlock_tar::write::{Entry, Kind, end, header, pad};
    let mut archive = Vec::new();
    let kind = Kind::File(content.len() as u64);
    let entry = Entry { path, kind, mode: 0o4640, uid: 0, gid: 0, mtime: (7, 0), xattrs: &[] };
    header(&entry, &mut archive).expect("written");
    archive.extend_from_slice(content);
    pad(content.len() as u64, &mut archive).expect("written");
    end(&mut archive).expect("written");
    archive
}

const LIMITS: Limits = Limits { entries: 10, bytes: 1000 };

/// A copy of `/src/name` to `to` in the home.
async fn copied_out(home: &Path, vmm: &Fake) -> Result<Copied, CopyError> {
    let (sandbox, directory) = sandbox(home, vmm).await;
    let connection = connect(&directory).await.expect("connect");
    let to = home.join("to").into_os_string().into_encoded_bytes();
    let done = Arc::default();
    let copying = copy_out(connection, b"/src/name".to_vec(), false, to, LIMITS, done);
    let copied = timeout(SOON, copying).await.expect("soon");
    sandbox.end().await;
    copied
}

#[tokio::test]
async fn a_copy_out_of_the_guest_is_a_file_here() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = sends(archive_of(b"other-name", b"content"), b"a \x1b[2Jnote\n", 0);
    let copied = copied_out(home.path(), &vmm).await.expect("copied");
    assert_eq!(copied.entries, 1);
    assert_eq!(copied.notes, ["a \\u{1b}[2Jnote"]);
    let file = home.path().join("to");
    assert_eq!(std::fs::read(&file).expect("there"), b"content");
    let mode = std::fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[tokio::test]
async fn what_a_hostile_guest_sends_is_not_unpacked() {
    let long = archive_of(b"name", &[0; 1001]);
    for (archive, text) in [
        (archive_of(b"name/../../escaped", b"x"), "a name with \"..\""),
        (archive_of(b"/tmp/escaped", b"x"), "an absolute name"),
        (archive_of(b"name/beside", b"x"), "more than what was asked for"),
        (long, "more bytes than are copied"),
        (vec![b'x'; 5000], "the archive cannot be read"),
    ] {
        let home = tempfile::tempdir().expect("tempdir");
        let error = copied_out(home.path(), &sends(archive, b"", 0)).await.expect_err(text);
        let told = DescribeChain(&error).to_string();
        assert!(matches!(error, CopyError::Here(_)) && told.contains(text), "{told}");
        let names = std::fs::read_dir(home.path()).expect("listed").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let made: Vec<_> = names.filter(|name| name != ".matchlock" && name != "cache").collect();
        assert!(made.is_empty(), "{text}: {made:?}");
    }
}

#[tokio::test]
async fn the_guest_says_why_it_cannot_copy() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = sends(Vec::new(), b"/src/name: \x1b[2Jno such file\n", 2);
    let error = copied_out(home.path(), &vmm).await.expect_err("an error");
    assert_eq!(error.to_string(), "/src/name: \\u{1b}[2Jno such file");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // What came before is no whole copy.
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = sends(archive_of(b"name", b"content"), b"", 5);
    let error = copied_out(home.path(), &vmm).await.expect_err("an error");
    assert!(matches!(error, CopyError::Guest { .. }), "{error:?}");
    // And what never ends but for the guest is not waited for.
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| _ = peer.send(&AgentFrame::Started));
    let error = copied_out(home.path(), &vmm).await.expect_err("an error");
    assert!(matches!(error, CopyError::Client(ClientError::Refused(_))), "{error:?}");
}

#[tokio::test]
async fn a_copy_into_the_guest_is_sent_as_it_is_taken() {
    let home = tempfile::tempdir().expect("tempdir");
    let (tell, told) = mpsc::channel();
    let vmm = guest(move |request, mut peer| {
        let Request::File(FileRequest::Unpack { path, name, archive: false }) = request else {
            panic!("{request:?}")
        };
        assert_eq!((&path[..], name.as_deref()), (&b"/to"[..], Some(&b"file"[..])));
        peer.send(&AgentFrame::Started);
        let mut got = Vec::new();
        while let Some(frame) = peer.receive() {
            match frame {
                HostFrame::Stdin(data) => {
                    got.extend_from_slice(&data);
                    let len = u32::try_from(data.len()).expect("small");
                    peer.send(&AgentFrame::Credit(StreamId::Stdin, len));
                }
                HostFrame::StdinEof => {
                    peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
                }
                _ => {}
            }
        }
        tell.send(got).expect("the test waits");
    });
    let (sandbox, directory) = sandbox(home.path(), &vmm).await;
    let content: Vec<u8> = (0..3 * INITIAL_WINDOW + 1).map(|n| (n % 253) as u8).collect();
    let from = home.path().join("file");
    std::fs::write(&from, &content).expect("written");
    let from = from.into_os_string().into_encoded_bytes();
    let connection = connect(&directory).await.expect("connect");
    let done = Arc::new(AtomicU64::new(0));
    let copying = copy_in(connection, from, false, b"/to".to_vec(), Arc::clone(&done));
    assert_eq!(timeout(SOON, copying).await.expect("soon").expect("copied").entries, 1);
    let got = tokio::task::spawn_blocking(move || told.recv_timeout(SOON)).await.expect("a thread");
    let got = got.expect("an archive");
    assert_eq!(done.load(Ordering::Relaxed), got.len() as u64);
    let mut archive = matchlock_tar::Archive::new(&got[..]);
    let entry = archive.next_entry().expect("an archive").expect("an entry");
    assert_eq!(entry.path, b"file");
    let mut read = Vec::new();
    archive.content().read_to_end(&mut read).expect("read");
    assert!(read == content);
    sandbox.end().await;
}

#[tokio::test]
async fn a_guest_that_takes_no_more_says_why() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        // Without credit for more than a window.
        peer.receive();
        peer.send(&AgentFrame::Stderr(b"/to: No space left on device\n".to_vec()));
        peer.send(&AgentFrame::Exited(ExitStatus::Code(28)));
    });
    let (sandbox, directory) = sandbox(home.path(), &vmm).await;
    let from = home.path().join("file");
    std::fs::write(&from, vec![0; 3 * INITIAL_WINDOW as usize]).expect("written");
    let copy = |from: &Path| {
        let from = from.to_path_buf().into_os_string().into_encoded_bytes();
        let directory = directory.clone();
        async move {
            let connection = connect(&directory).await.expect("connect");
            let copying = copy_in(connection, from, false, b"/to".to_vec(), Arc::default());
            timeout(SOON, copying).await.expect("soon").expect_err("an error")
        }
    };
    assert_eq!(copy(&from).await.to_string(), "/to: No space left on device");
    let missing = copy(&home.path().join("missing")).await;
    assert!(matches!(missing, CopyError::Here(_)), "{missing:?}");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    sandbox.end().await;
}
