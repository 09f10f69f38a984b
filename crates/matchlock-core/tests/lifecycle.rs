//! The life of a sandbox against a scripted guest: everything above the VMM without a VM.

mod support;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, CoreError, ExecError, ExecFailure, ExecRequest, ExitStatus, SandboxHandle, Stdin,
};
use matchlock_proto::{
    AgentFrame, BootStep, HostFrame, INITIAL_WINDOW, MAX_DATA, Request, StreamId,
};

use support::{Peer, left, report, serve, spec};

/// A guest that boots and hands every execution to `exec`.
fn guest(exec: impl Fn(ExecRequest, Peer) + Clone + Send + Sync + 'static) -> Fake {
    serve(move |request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Exec(request) => exec(request, peer),
        Request::Shutdown { .. } | Request::Ping => drop(peer.send(&AgentFrame::Done)),
        Request::Export => {
            peer.send(&AgentFrame::Started);
            peer.send(&AgentFrame::Stdout(b"half an archive".to_vec()));
            peer.send(&AgentFrame::Stderr(b"tape \x07 torn".to_vec()));
            peer.send(&AgentFrame::Exited(ExitStatus::Code(1)));
        }
        Request::Forward { .. } | Request::File(_) | Request::Clock(_) | Request::Inquire(_) => {}
    })
}

async fn start(home: &Path, vmm: &Fake) -> Result<SandboxHandle, Arc<CoreError>> {
    support::start(spec(), Attachments::default(), home, vmm).await
}

#[tokio::test]
async fn a_program_runs_and_nothing_is_left() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|request, mut peer| {
        assert_eq!(request.argv, [b"echo".to_vec()]);
        peer.send(&AgentFrame::Started);
        peer.send(&AgentFrame::Stdout(b"out".to_vec()));
        peer.send(&AgentFrame::Stderr(b"err".to_vec()));
        peer.send(&AgentFrame::Exited(ExitStatus::Signal(15)));
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    assert_eq!(left(home.path()), [sandbox.id().to_string()]);
    let request = ExecRequest { argv: vec![b"echo".to_vec()], ..ExecRequest::default() };
    let (mut execution, mut streams) = sandbox.exec(request).await.expect("exec");
    let status = execution.wait().await.expect("status");
    assert_eq!(status.shell_code(), 143);
    assert_eq!(streams.stdout.collect().await, b"out");
    assert_eq!(streams.stderr.collect().await, b"err");
    assert!(streams.stdin.is_none());
    sandbox.stop(Duration::from_secs(1)).await;
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn a_guest_that_cannot_set_itself_up_is_an_error_and_nothing_is_left() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = Fake::new(|_, stream| {
        std::thread::spawn(move || {
            let mut peer = Peer::new(stream);
            peer.receive();
            let step = BootStep::Root;
            let failure = ExecFailure::Boot { step, message: "no overlay".into() };
            peer.send(&AgentFrame::Refused(failure));
        });
        true
    });
    let error = start(home.path(), &vmm).await.expect_err("refused");
    assert!(matches!(*error, CoreError::GuestSetup(_)), "{error:?}");
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn a_guest_that_hangs_up_is_an_error_and_nothing_is_left() {
    let home = tempfile::tempdir().expect("tempdir");
    let error = start(home.path(), &Fake::new(|_, _| true)).await.expect_err("hung up");
    assert!(matches!(*error, CoreError::Boot { .. }), "{error:?}");
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn programs_that_cannot_start_say_why() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Refused(ExecFailure::NotFound("nope".into())));
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    let error = sandbox.exec(ExecRequest::default()).await.expect_err("not found");
    assert!(matches!(error, ExecError::Refused(ExecFailure::NotFound(_))), "{error:?}");
}

#[tokio::test]
async fn output_beyond_the_credit_ends_the_execution() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        let chunk = AgentFrame::Stdout(vec![b'x'; MAX_DATA]);
        // Nothing is granted again, because nobody reads: one chunk more than the window is a lie.
        for _ in 0..=INITIAL_WINDOW as usize / MAX_DATA {
            peer.send(&chunk);
        }
        while peer.receive().is_some() {}
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    let (mut execution, _streams) = sandbox.exec(ExecRequest::default()).await.expect("exec");
    let error = execution.wait().await.expect_err("flood");
    assert!(matches!(error, ExecError::Flood), "{error:?}");
}

#[tokio::test]
async fn a_guest_that_reads_no_credit_gets_none_for_output_that_nobody_wants() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        // The grants end where the connection holds no more of them, the window soon after.
        let chunk = AgentFrame::Stderr(vec![b'x'; MAX_DATA]);
        let _ = (0..2048).all(|_| peer.send(&chunk));
        peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    let (mut execution, streams) = sandbox.exec(ExecRequest::default()).await.expect("exec");
    drop(streams.stderr);
    let error = execution.wait().await.expect_err("flood");
    assert!(matches!(error, ExecError::Flood), "{error:?}");
}

#[tokio::test]
async fn output_that_nobody_wants_holds_no_program_up() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        let chunk = AgentFrame::Stdout(vec![b'x'; MAX_DATA]);
        let (mut sent, mut credit) = (0, INITIAL_WINDOW as usize);
        while sent < 3 * INITIAL_WINDOW as usize {
            while credit >= MAX_DATA {
                peer.send(&chunk);
                credit -= MAX_DATA;
                sent += MAX_DATA;
            }
            match peer.receive() {
                Some(HostFrame::Credit(StreamId::Stdout, bytes)) => credit += bytes as usize,
                other => panic!("credit, not {other:?}"),
            }
        }
        peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    let (mut execution, mut streams) = sandbox.exec(ExecRequest::default()).await.expect("exec");
    // Dropped after the first chunk: the rest of the window waits in it by then, or comes later.
    assert!(streams.stdout.next().await.is_some());
    drop(streams.stdout);
    assert_eq!(execution.wait().await.expect("status"), ExitStatus::Code(0));
}

#[tokio::test]
async fn consumed_output_is_granted_again() {
    const CHUNKS: usize = 64;
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        let mut credit = INITIAL_WINDOW as usize;
        for _ in 0..CHUNKS {
            while credit < MAX_DATA {
                match peer.receive() {
                    Some(HostFrame::Credit(StreamId::Stdout, bytes)) => credit += bytes as usize,
                    other => panic!("credit, not {other:?}"),
                }
            }
            credit -= MAX_DATA;
            peer.send(&AgentFrame::Stdout(vec![b'x'; MAX_DATA]));
        }
        peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    let (mut execution, mut streams) = sandbox.exec(ExecRequest::default()).await.expect("exec");
    assert_eq!(streams.stdout.collect().await.len(), CHUNKS * MAX_DATA);
    assert_eq!(execution.wait().await.expect("status"), ExitStatus::Code(0));
}

#[tokio::test]
async fn input_waits_for_credit_and_arrives_whole() {
    let home = tempfile::tempdir().expect("tempdir");
    let (report, received) = mpsc::channel();
    let vmm = guest(move |_, mut peer| {
        peer.send(&AgentFrame::Started);
        let mut got = Vec::new();
        let mut ungranted = 0;
        loop {
            match peer.receive() {
                Some(HostFrame::Stdin(data)) => {
                    ungranted += data.len();
                    assert!(ungranted <= INITIAL_WINDOW as usize, "within the credit");
                    got.extend(data);
                    if ungranted > INITIAL_WINDOW as usize / 2 {
                        let bytes = u32::try_from(ungranted).expect("small");
                        peer.send(&AgentFrame::Credit(StreamId::Stdin, bytes));
                        ungranted = 0;
                    }
                }
                Some(HostFrame::StdinEof) => break,
                other => panic!("input, not {other:?}"),
            }
        }
        report.send(got).expect("send");
        peer.send(&AgentFrame::Exited(ExitStatus::Code(3)));
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    let request = ExecRequest { stdin: Stdin::Pipe, ..ExecRequest::default() };
    let (mut execution, streams) = sandbox.exec(request).await.expect("exec");
    let input: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let stdin = streams.stdin.expect("a pipe");
    stdin.send(&input).await.expect("send");
    drop(stdin);
    assert_eq!(execution.wait().await.expect("status"), ExitStatus::Code(3));
    assert!(received.recv().expect("report") == input);
}

#[tokio::test]
async fn dropping_an_execution_hangs_up_on_the_guest() {
    let home = tempfile::tempdir().expect("tempdir");
    let (report, hung_up) = mpsc::channel();
    let vmm = guest(move |_, mut peer| {
        peer.send(&AgentFrame::Started);
        let signal = peer.receive();
        while peer.receive().is_some() {}
        report.send(signal).expect("send");
    });
    let sandbox = start(home.path(), &vmm).await.expect("start");
    let (execution, streams) = sandbox.exec(ExecRequest::default()).await.expect("exec");
    execution.control().signal(2);
    tokio::task::yield_now().await;
    drop((execution, streams));
    let seen = tokio::task::spawn_blocking(move || hung_up.recv_timeout(Duration::from_secs(30)));
    let seen = seen.await.expect("join").expect("the guest saw the end");
    assert!(matches!(seen, Some(HostFrame::Signal(2)) | None), "{seen:?}");
}

#[tokio::test]
async fn an_export_that_failed_in_the_guest_does_not_end_as_if_it_were_whole() {
    let home = tempfile::tempdir().expect("tempdir");
    let sandbox = start(home.path(), &guest(|_, _| {})).await.expect("start");
    let mut export = sandbox.export().await.expect("started");
    assert_eq!(export.next().await.expect("bytes").as_deref(), Some(&b"half an archive"[..]));
    let error = export.next().await.expect_err("not whole").to_string();
    assert!(error.ends_with("tape \\u{7} torn"), "{error}");
    let mut archive = sandbox.export().await.expect("started").blocking();
    let read = tokio::task::spawn_blocking(move || std::io::read_to_string(&mut archive)).await;
    assert!(read.expect("no panic").is_err());
}
