//! A front of its own: it launches, runs programs, publishes phases, stops and reads the cause. It needs
//! nothing of the binary, and the fake monitor shows what core asks of a machine.

mod support;

use std::path::Path;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, Classified, CoreError, EndCause, ErrorKind, ExecError, ExecRequest, ExitStatus,
    Lifetime, Phase, SandboxHandle, SandboxSpec,
};
use matchlock_proto::{AgentFrame, HostFrame, Request};

use support::{Peer, launcher, left, report, serve, spec, start};

const SIGTERM: u8 = 15;

/// A guest whose programs are `exec`, and which obeys everything else.
fn guest(exec: impl Fn(ExecRequest, Peer) + Clone + Send + Sync + 'static) -> Fake {
    serve(move |request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Exec(request) => exec(request, peer),
        _ => drop(peer.send(&AgentFrame::Done)),
    })
}

/// A guest whose programs end by the first signal, with its number as their status.
fn obedient() -> Fake {
    guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        while let Some(frame) = peer.receive() {
            if let HostFrame::Signal(number) = frame {
                peer.send(&AgentFrame::Exited(ExitStatus::Code(number)));
                return;
            }
        }
    })
}

fn program(word: &str) -> ExecRequest {
    ExecRequest { argv: vec![word.as_bytes().to_vec()], ..ExecRequest::default() }
}

async fn up(vmm: &Fake, home: &Path, lifetime: Lifetime) -> SandboxHandle {
    let spec = SandboxSpec { lifetime, ..spec() };
    start(spec, Attachments::default(), home, vmm).await.expect("up")
}

/// Ends with its command; a program that is asked to end has an hour.
const ONCE: Lifetime = Lifetime { limit: None, grace: Duration::from_secs(3600), keep: false };

fn once() -> SandboxSpec {
    SandboxSpec { lifetime: ONCE, ..spec() }
}

#[tokio::test]
async fn a_front_executes_twice_at_once_stops_and_reads_the_cause() {
    let home = tempfile::tempdir().expect("tempdir");
    // Each program ends only when the other runs too.
    let meet = Arc::new(Barrier::new(2));
    let vmm = guest(move |request, mut peer| {
        peer.send(&AgentFrame::Started);
        meet.wait();
        peer.send(&AgentFrame::Stdout(request.argv.concat()));
        peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
    });
    let sandbox = up(&vmm, home.path(), Lifetime::default()).await;
    assert_eq!(sandbox.phase(), Phase::Running);
    let run = |word: &'static str| {
        let sandbox = sandbox.clone();
        async move {
            let (mut execution, mut streams) = sandbox.exec(program(word)).await.expect("exec");
            assert_eq!(execution.wait().await.expect("status"), ExitStatus::Code(0));
            streams.stdout.collect().await
        }
    };
    assert_eq!(tokio::join!(run("one"), run("two")), (b"one".to_vec(), b"two".to_vec()));
    let ending = sandbox.stop(Duration::from_secs(1)).await;
    assert_eq!(ending.cause, EndCause::Stopped);
    assert_eq!(sandbox.phase(), Phase::Ended);
    assert!(left(home.path()).is_empty());
    let late = sandbox.exec(program("three")).await.expect_err("over");
    assert!(matches!(late, ExecError::NotRunning) && late.kind() == ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_machine_is_what_was_asked_for() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = obedient();
    let sandbox = up(&vmm, home.path(), Lifetime::default()).await;
    let seen = vmm.seen();
    let [machine] = seen.as_slice() else { panic!("one machine, not {seen:?}") };
    assert_eq!(machine.name, sandbox.id().as_str());
    assert_eq!((machine.vcpus, machine.memory_mib, machine.mtu), (1, 64, None));
    assert_eq!(machine.disks, [(64 << 20, false, true)], "the writable layer, which is not kept");
    assert_eq!(machine.filesystems, ["root"]);
    sandbox.end().await;
}

#[tokio::test]
async fn each_end_has_its_cause() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        peer.send(&AgentFrame::Exited(ExitStatus::Code(7)));
    });
    let sandbox = up(&vmm, home.path(), ONCE).await;
    let _command = sandbox.command(program("true")).await.expect("started");
    let ending = sandbox.ended().await;
    assert_eq!((ending.cause, ending.status), (EndCause::CommandEnded, Some(ExitStatus::Code(7))));

    let vmm = obedient();
    let sandbox = up(&vmm, home.path(), ONCE).await;
    let _command = sandbox.command(program("sleep")).await.expect("started");
    sandbox.signal(2);
    let ending = sandbox.ended().await;
    assert_eq!((ending.cause, ending.status), (EndCause::Signal(2), Some(ExitStatus::Code(2))));

    let sandbox = up(&vmm, home.path(), Lifetime::default()).await;
    sandbox.signal(2);
    assert_eq!(sandbox.ended().await.cause, EndCause::Stopped, "there is no command to interrupt");

    let limit = Some(Duration::from_millis(1));
    let sandbox = up(&vmm, home.path(), Lifetime { limit, ..ONCE }).await;
    assert_eq!(sandbox.ended().await.cause, EndCause::Deadline);

    let sandbox = up(&vmm, home.path(), ONCE).await;
    sandbox.end_because(EndCause::OutputClosed);
    assert_eq!(sandbox.ended().await.cause, EndCause::OutputClosed);

    for (said, cause) in [("", EndCause::GuestGone), ("oom", EndCause::MonitorDied("oom".into()))] {
        let vmm = obedient();
        let sandbox = up(&vmm, home.path(), ONCE).await;
        vmm.end_all(said);
        assert_eq!(sandbox.ended().await.cause, cause);
    }
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn the_trail_tells_the_cause_of_the_end_last() {
    let home = tempfile::tempdir().expect("tempdir");
    let causes = [
        (EndCause::Deadline, "deadline"),
        (EndCause::OutputClosed, "output_closed"),
        (EndCause::Killed, "killed"),
        (EndCause::Signal(2), "signal"),
    ];
    for (cause, word) in causes {
        let log = home.path().join(word);
        let spec = SandboxSpec { audit_log: Some(log.clone()), ..once() };
        let sandbox = start(spec, Attachments::default(), home.path(), &obedient()).await;
        let sandbox = sandbox.expect("up");
        sandbox.end_because(cause);
        sandbox.ended().await;
        let trail = std::fs::read_to_string(log).expect("a trail");
        let last = trail.lines().last().expect("a record");
        let expected = format!(r#""cause":"{word}""#);
        assert!(last.contains(r#""event":"end""#) && last.contains(&expected), "{last}");
    }
}

#[tokio::test]
async fn a_second_signal_is_not_kept_waiting_by_the_grace() {
    let home = tempfile::tempdir().expect("tempdir");
    let (report, signals) = mpsc::channel();
    let vmm = guest(move |_, mut peer| {
        peer.send(&AgentFrame::Started);
        while let Some(frame) = peer.receive() {
            report.send(frame).expect("send");
        }
    });
    let sandbox = up(&vmm, home.path(), ONCE).await;
    let _command = sandbox.command(program("stubborn")).await.expect("started");
    sandbox.signal(SIGTERM);
    sandbox.signal(SIGTERM);
    let ending = sandbox.ended().await;
    assert_eq!((ending.cause, ending.status), (EndCause::Signal(SIGTERM), None));
    assert!(matches!(signals.try_recv(), Ok(HostFrame::Signal(SIGTERM)) | Err(_)));
}

#[tokio::test]
async fn a_start_that_is_called_off_leaves_nothing() {
    let home = tempfile::tempdir().expect("tempdir");
    // A guest that takes connections and never answers.
    let vmm = serve(|_, mut peer| while peer.receive().is_some() {});
    let launcher = launcher(home.path(), &vmm);
    let sandbox = launcher.launch(once(), Attachments::default()).expect("launched");
    let mut phases = sandbox.phases();
    phases.wait_for(|phase| *phase == Phase::Booting).await.expect("booting");
    sandbox.signal(2);
    let error = sandbox.ready().await.expect_err("called off");
    assert!(matches!(*error, CoreError::CalledOff) && error.kind() == ErrorKind::Cancelled);
    assert_eq!(sandbox.ended().await.cause, EndCause::Signal(2));
    assert_eq!(sandbox.phase(), Phase::Failed);
    // So does one that everybody has lost interest in.
    drop(launcher.launch(once(), Attachments::default()).expect("launched"));
    launcher.settled().await;
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn a_program_that_the_guest_does_not_start_is_given_up() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = guest(|_, mut peer| while peer.receive().is_some() {});
    let sandbox = up(&vmm, home.path(), Lifetime::default()).await;
    // From here on the clock jumps to the next deadline when nobody has anything to do.
    tokio::time::pause();
    let error = sandbox.exec(program("never")).await.expect_err("too slow");
    tokio::time::resume();
    assert!(matches!(error, ExecError::Slow) && error.kind() == ErrorKind::Timeout, "{error:?}");
    sandbox.end().await;
}
