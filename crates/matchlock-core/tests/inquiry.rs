//! What a guest says of itself, which may be anything.

mod support;

use std::path::Path;
use std::time::Duration;

use matchlock_api::client::ClientError;
use matchlock_api::{NoParams, control_method};
use matchlock_core::control::{StatsResult, connect};
use matchlock_core::vmm::Fake;
use matchlock_core::{Attachments, ExitStatus};
use matchlock_proto::{
    AgentFrame, Inquiry, MAX_ANSWER, MAX_DATA, ProcessEntry, Request, Usage, list,
};
use tokio::time::timeout;

use support::{left, report, serve, spec, start};

/// For what must happen soon.
const SOON: Duration = Duration::from_secs(30);

/// A guest that answers every inquiry with these bytes.
fn says(bytes: Vec<u8>, status: u8) -> Fake {
    serve(move |request, mut peer| match request {
        Request::Boot(_) => _ = peer.send(&AgentFrame::Booted(report())),
        Request::Shutdown { .. } => _ = peer.send(&AgentFrame::Done),
        Request::Inquire(Inquiry::Usage | Inquiry::Processes) => {
            peer.send(&AgentFrame::Started);
            for chunk in bytes.chunks(MAX_DATA) {
                peer.send(&AgentFrame::Stdout(chunk.to_vec()));
            }
            peer.send(&AgentFrame::Exited(ExitStatus::Code(status)));
        }
        request => panic!("{request:?}"),
    })
}

async fn ask<M: matchlock_api::Method<Params = NoParams>>(
    home: &Path,
    vmm: &Fake,
) -> Result<M::Result, ClientError> {
    let sandbox = start(spec(), Attachments::default(), home, vmm).await.expect("start");
    let directory = home.join(".matchlock/vms").join(sandbox.id().as_str());
    let connection = connect(&directory).await.expect("connect");
    let asked = timeout(SOON, connection.call::<M>(NoParams {})).await.expect("soon");
    sandbox.end().await;
    assert!(left(home).is_empty());
    asked
}

fn process(pid: u32, command: &[u8]) -> ProcessEntry {
    ProcessEntry {
        pid,
        parent: 1,
        uid: 7,
        user: b"\xffweb".to_vec(),
        state: 0x1b,
        cpu_ms: 5,
        memory: 6,
        command: command.to_vec(),
    }
}

#[tokio::test]
async fn what_the_guest_uses_is_told_with_what_this_machine_knows() {
    let usage = Usage {
        memory_total: 100,
        // More than there is.
        memory_available: u64::MAX,
        disk_read: u64::MAX,
        processes: 3,
        ..Usage::default()
    };
    let mut bytes = Vec::new();
    list::put(&usage, &mut bytes);
    let home = tempfile::tempdir().expect("tempdir");
    let stats = ask::<control_method::Stats>(home.path(), &says(bytes, 0)).await.expect("stats");
    let StatsResult { memory_used, memory_limit, disk_read, processes, .. } = stats;
    assert_eq!((memory_used, memory_limit, disk_read, processes), (0, 100, u64::MAX, 3));
    assert_eq!(stats.network_received, None, "there is no network");
}

#[tokio::test]
async fn processes_are_sorted_and_their_texts_are_text() {
    let mut bytes = Vec::new();
    list::put(&process(9, b"a\x1b[2J"), &mut bytes);
    list::put(&process(2, b"b\xff"), &mut bytes);
    let home = tempfile::tempdir().expect("tempdir");
    let top = ask::<control_method::Top>(home.path(), &says(bytes, 0)).await.expect("top");
    let seen: Vec<_> = top.processes.iter().map(|p| (p.pid, p.command.as_str())).collect();
    assert_eq!(seen, [(2, "b\u{fffd}"), (9, "a\x1b[2J")], "who prints it makes it harmless");
    assert_eq!(
        (top.processes[0].state.as_str(), top.processes[0].user.as_str()),
        ("?", "\u{fffd}web")
    );
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error() {
    let mut whole = Vec::new();
    list::put(&Usage::default(), &mut whole);
    let twice = [&whole[..], &whole[..]].concat();
    let cut = whole[..whole.len() - 1].to_vec();
    for (bytes, status) in [
        (Vec::new(), 0),
        (cut, 0),
        (twice, 0),
        (vec![0xff; 100], 0),
        (whole, 1),
        (vec![0; MAX_ANSWER + 1], 0),
    ] {
        let home = tempfile::tempdir().expect("tempdir");
        let error = ask::<control_method::Stats>(home.path(), &says(bytes, status)).await;
        assert!(matches!(error, Err(ClientError::Refused(_))), "{error:?}");
    }
    for bytes in [vec![0xff; 100], vec![0, 3, 1], vec![0; MAX_ANSWER + 1]] {
        let home = tempfile::tempdir().expect("tempdir");
        let error = ask::<control_method::Top>(home.path(), &says(bytes, 0)).await;
        assert!(matches!(error, Err(ClientError::Refused(_))), "{error:?}");
    }
}
