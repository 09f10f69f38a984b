//! A front of its own: it launches, runs programs, publishes phases, stops and reads the cause. It needs
//! nothing of the binary, and the fake monitor shows what core asks of a machine.

mod support;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, Classified, CoreError, EndCause, ErrorKind, ExecError, ExecFailure, ExecRequest,
    ExitStatus, Lifetime, NetworkSpec, Phase, SandboxHandle, SandboxSpec,
};
use matchlock_proto::{AgentFrame, BootStep, HostFrame, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

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
const ONCE: Lifetime =
    Lifetime { limit: None, grace: Duration::from_secs(3600), keep: false, recorded: false };

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

/// Checks that a trail's last record is its end, by the cause of this word.
fn assert_last(log: &Path, word: &str) {
    let trail = std::fs::read_to_string(log).expect("a trail");
    let last = trail.lines().last().expect("a record");
    let expected = format!(r#""cause":"{word}""#);
    assert!(last.contains(r#""event":"end""#) && last.contains(&expected), "{word}: {last}");
}

#[tokio::test]
async fn the_trail_tells_the_cause_of_the_end_last() {
    let home = tempfile::tempdir().expect("tempdir");
    let causes = [
        (EndCause::CommandLost, "command_lost"),
        (EndCause::Signal(2), "signal"),
        (EndCause::Deadline, "deadline"),
        (EndCause::Stopped, "stopped"),
        (EndCause::Killed, "killed"),
        (EndCause::OutputClosed, "output_closed"),
        (EndCause::AuditLost, "audit_lost"),
    ];
    for (cause, word) in causes {
        let log = home.path().join(word);
        let sandbox = start(logged(&log), Attachments::default(), home.path(), &obedient()).await;
        let sandbox = sandbox.expect("up");
        sandbox.end_because(cause);
        sandbox.ended().await;
        assert_last(&log, word);
    }
}

/// A sandbox with a trail outside of its directory.
fn logged(log: &Path) -> SandboxSpec {
    SandboxSpec { audit_log: Some(log.to_owned()), ..once() }
}

#[tokio::test]
async fn the_trail_tells_the_causes_that_nobody_asks_for() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = |word: &str| home.path().join(word);
    for (said, word) in [("", "guest_gone"), ("oom", "monitor_died")] {
        let vmm = obedient();
        let sandbox = start(logged(&log(word)), Attachments::default(), home.path(), &vmm).await;
        let sandbox = sandbox.expect("up");
        vmm.end_all(said);
        sandbox.ended().await;
        assert_last(&log(word), word);
    }

    let vmm = guest(|_, mut peer| {
        peer.send(&AgentFrame::Started);
        peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
    });
    let spec = logged(&log("command_ended"));
    let sandbox = start(spec, Attachments::default(), home.path(), &vmm).await.expect("up");
    let _command = sandbox.command(program("true")).await.expect("started");
    sandbox.ended().await;
    assert_last(&log("command_ended"), "command_ended");

    let vmm = serve(|_, mut peer| {
        let message = "no disk".to_owned();
        let failure = ExecFailure::Boot { step: BootStep::Root, message };
        peer.send(&AgentFrame::Refused(failure));
    });
    let spec = logged(&log("start_failed"));
    start(spec, Attachments::default(), home.path(), &vmm).await.expect_err("no guest");
    assert_last(&log("start_failed"), "start_failed");

    let launcher = launcher(home.path(), &obedient());
    let spec = logged(&log("abandoned"));
    let sandbox = launcher.launch(spec, Attachments::default()).expect("launched");
    sandbox.ready().await.expect("up");
    drop(sandbox);
    launcher.settled().await;
    assert_last(&log("abandoned"), "abandoned");
}

#[tokio::test]
async fn the_machine_ends_first_then_network_trail_and_directory() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = home.path().join("trail");
    let has_ended = {
        let log = log.clone();
        move || std::fs::read_to_string(&log).is_ok_and(|trail| trail.contains(r#""event":"end""#))
    };
    let (report, at_end) = mpsc::channel();
    let (look, vms) = (has_ended.clone(), home.path().to_owned());
    let vmm = obedient().at_end(move |machine| {
        let nic = machine.nic.as_ref().expect("a network").socket.try_clone().expect("clone");
        let here = (is_served(&nic), look(), left(&vms).len());
        report.send((nic, here)).expect("the test listens");
    });
    let spec = SandboxSpec { network: Some(NetworkSpec::default()), ..logged(&log) };
    let sandbox = start(spec, Attachments::default(), home.path(), &vmm).await.expect("up");

    // The kernel keeps the events of both watches in their order.
    let events = inotify::init(inotify::CreateFlags::empty()).expect("inotify");
    let watch = |path: &Path, what| inotify::add_watch(&events, path, what).expect("watch");
    let of_log = watch(&log, inotify::WatchFlags::MODIFY);
    watch(&home.path().join(".matchlock/vms"), inotify::WatchFlags::DELETE);
    let watcher = std::thread::spawn(move || {
        let (nic, at_end) = at_end.recv_timeout(Duration::from_secs(30)).expect("the machine ends");
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&events, &mut buffer);
        let mut seen = Vec::new();
        while seen.last() != Some(&"directory") {
            if reader.is_buffer_empty() {
                let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
                let waiting = &mut [PollFd::new(&events, PollFlags::IN)];
                assert_ne!(poll(waiting, Some(&limit)).expect("poll"), 0, "nothing but {seen:?}");
            }
            match reader.next().expect("an event").wd() == of_log {
                // Other records may come before it.
                true if has_ended() && !seen.contains(&"trail") => {
                    assert!(!is_served(&nic), "the network is gone when the trail is closed");
                    seen.push("trail");
                }
                true => {}
                false => seen.push("directory"),
            }
        }
        (at_end, seen)
    });
    sandbox.end().await;
    let (at_end, seen) =
        tokio::task::spawn_blocking(|| watcher.join()).await.expect("join").expect("order");
    assert_eq!(at_end, (true, false, 1), "of the machine: network, end of the trail, directories");
    assert_eq!(seen, ["trail", "directory"]);
}

/// Whether the other end of a network device is there.
fn is_served(nic: &OwnedFd) -> bool {
    let mut nic = [PollFd::new(nic, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut nic, Some(&now)).expect("poll");
    !nic[0].revents().contains(PollFlags::HUP)
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
