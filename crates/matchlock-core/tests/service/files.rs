//! Files of the guest, as the host asks for them; the guest is a script.

use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, Classified, ErrorKind, ExitStatus, FileEntry, FileError, SandboxHandle,
};
use matchlock_proto::{AgentFrame, ExecFailure, HostFrame, INITIAL_WINDOW, Request, StreamId};

use crate::support::{Peer, report, serve, spec, start};

/// A guest that does what `file` does for every request of files.
fn guest(file: impl Fn(Peer) + Clone + Send + Sync + 'static) -> Fake {
    serve(move |request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::File(_) => file(peer),
        _ => drop(peer.send(&AgentFrame::Done)),
    })
}

/// The same, answering at once with these bytes and this status.
fn answering(bytes: Vec<u8>, status: ExitStatus) -> Fake {
    guest(move |mut peer| {
        peer.send(&AgentFrame::Started);
        for chunk in bytes.chunks(64 * 1024) {
            peer.send(&AgentFrame::Stdout(chunk.to_vec()));
        }
        peer.send(&AgentFrame::Exited(status));
        while peer.receive().is_some() {}
    })
}

async fn up(vmm: &Fake, home: &std::path::Path) -> SandboxHandle {
    start(spec(), Attachments::default(), home, vmm).await.expect("up")
}

fn entry(name: &str) -> FileEntry {
    FileEntry { name: name.into(), size: 1, mode: 0o100_644, modified_s: 7, modified_ns: 8 }
}

#[tokio::test]
async fn what_is_written_arrives_within_the_credit() {
    let home = tempfile::tempdir().expect("tempdir");
    let size = 2 * INITIAL_WINDOW as usize + 5;
    let vmm = guest(move |mut peer| {
        peer.send(&AgentFrame::Started);
        let (mut got, mut window) = (0, INITIAL_WINDOW as usize);
        loop {
            match peer.receive() {
                Some(HostFrame::Stdin(data)) => {
                    window = window.checked_sub(data.len()).expect("within the credit");
                    got += data.len();
                    window += data.len();
                    peer.send(&AgentFrame::Credit(StreamId::Stdin, data.len() as u32));
                }
                Some(HostFrame::StdinEof) => break,
                other => panic!("{other:?}"),
            }
        }
        let status = if got == size { 0 } else { 5 };
        peer.send(&AgentFrame::Exited(ExitStatus::Code(status)));
    });
    let sandbox = up(&vmm, home.path()).await;
    sandbox.write_file(b"/x", 0o644, &vec![7; size]).await.expect("written");
    sandbox.end().await;
}

#[tokio::test]
async fn a_write_that_the_guest_gives_up_has_its_error() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|mut peer| {
        peer.send(&AgentFrame::Started);
        peer.send(&AgentFrame::Exited(ExitStatus::Code(28)));
        while peer.receive().is_some() {}
    });
    let sandbox = up(&vmm, home.path()).await;
    let more = vec![0; 2 * INITIAL_WINDOW as usize];
    let error = sandbox.write_file(b"/x", 0o644, &more).await.expect_err("full");
    assert!(matches!(&error, FileError::Guest(e) if e.raw_os_error() == Some(28)), "{error:?}");
    sandbox.end().await;
}

#[tokio::test]
async fn what_is_read_is_bounded_whatever_the_guest_sends() {
    let home = tempfile::tempdir().expect("tempdir");
    let sandbox = up(&answering(vec![1; 1000], ExitStatus::Code(0)), home.path()).await;
    assert_eq!(sandbox.read_file(b"/x", 1000).await.expect("read"), vec![1; 1000]);
    let error = sandbox.read_file(b"/x", 999).await.expect_err("too long");
    assert!(matches!(error, FileError::TooLong(999)), "{error:?}");
    sandbox.end().await;
    // EFBIG of an honest guest means the same.
    let sandbox = up(&answering(Vec::new(), ExitStatus::Code(27)), home.path()).await;
    let error = sandbox.read_file(b"/x", 10).await.expect_err("too long");
    assert!(matches!(error, FileError::TooLong(10)), "{error:?}");
    sandbox.end().await;
}

#[tokio::test]
async fn errors_of_the_guest_have_kinds() {
    let home = tempfile::tempdir().expect("tempdir");
    let number = |number| answering(Vec::new(), ExitStatus::Code(number));
    let cases = [
        (number(2), ErrorKind::NotFound),
        (number(13), ErrorKind::Denied),
        (number(21), ErrorKind::Guest),
        (answering(Vec::new(), ExitStatus::Signal(9)), ErrorKind::Guest),
        (
            guest(|mut peer| {
                peer.send(&AgentFrame::Refused(ExecFailure::System("no process".into())));
            }),
            ErrorKind::Guest,
        ),
    ];
    for (vmm, kind) in cases {
        let sandbox = up(&vmm, home.path()).await;
        let error = sandbox.read_file(b"/x", 10).await.expect_err("an error");
        assert_eq!(error.kind(), kind, "{error:?}");
        sandbox.end().await;
    }
}

#[tokio::test]
async fn a_list_is_sorted_and_one_that_is_malformed_is_an_error() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut bytes = Vec::new();
    for name in ["b", "a", "C"] {
        entry(name).encode(&mut bytes);
    }
    let sandbox = up(&answering(bytes.clone(), ExitStatus::Code(0)), home.path()).await;
    let listed = sandbox.list_files(b"/").await.expect("listed");
    assert_eq!(listed, [entry("C"), entry("a"), entry("b")]);
    sandbox.end().await;
    for wrong in [bytes[..bytes.len() - 1].to_vec(), vec![255; 600], vec![0, 1, 0]] {
        let sandbox = up(&answering(wrong, ExitStatus::Code(0)), home.path()).await;
        let error = sandbox.list_files(b"/").await.expect_err("malformed");
        assert!(matches!(error, FileError::Exec(_)), "{error:?}");
        sandbox.end().await;
    }
}
