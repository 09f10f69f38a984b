//! The log of a sandbox, from a scripted guest to a reader.

mod support;

use matchlock_core::log::{LogReader, LogRecord, LogSource};
use matchlock_core::{
    Attachments, ExecRequest, ExitStatus, Lifetime, SandboxSpec, StartSpec, StateRoot, WindowSize,
};
use matchlock_proto::{AgentFrame, Request};

use support::{left, report, serve, spec, start};

fn records(reader: &mut LogReader) -> Vec<LogRecord> {
    std::iter::from_fn(|| reader.read().expect("read")).collect()
}

fn of(records: &[LogRecord], source: LogSource) -> String {
    let of = records.iter().filter(|record| record.source == source);
    of.map(|record| String::from_utf8_lossy(record.bytes()).into_owned()).collect()
}

#[tokio::test]
async fn the_command_and_the_console_are_in_the_log_and_other_programs_are_not() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = serve(|request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Exec(request) => {
            let name = String::from_utf8(request.argv.concat()).expect("text");
            peer.send(&AgentFrame::Started);
            peer.send(&AgentFrame::Stdout(format!("{name} out\n").into_bytes()));
            peer.send(&AgentFrame::Stderr(format!("{name} err\n").into_bytes()));
            peer.send(&AgentFrame::Exited(ExitStatus::Code(0)));
        }
        _ => drop(peer.send(&AgentFrame::Done)),
    });
    let vmm = vmm.saying(b"kernel\nmatchlock-agent: up\n");
    let lifetime = Lifetime { recorded: true, ..Lifetime::default() };
    let start_again = Some(StartSpec::default());
    let spec = SandboxSpec { lifetime, start: start_again, ..spec() };
    let sandbox = start(spec, Attachments::default(), home.path(), &vmm).await.expect("up");
    let directory = StateRoot::in_home(home.path()).directory_of(sandbox.id());
    let mut following = LogReader::open(&directory).expect("open");
    let request =
        |name: &str| ExecRequest { argv: vec![name.as_bytes().to_vec()], ..ExecRequest::default() };
    let tty = Some(WindowSize { rows: 1, cols: 1 });
    for (request, is_command) in [
        (request("command"), true),
        (request("other"), false),
        (ExecRequest { tty, ..request("terminal") }, true),
    ] {
        let started = match is_command {
            true => sandbox.command(request).await,
            false => sandbox.exec(request).await,
        };
        let (mut execution, mut streams) = started.expect("started");
        assert!(!streams.stdout.collect().await.is_empty(), "its reader has it, too");
        drop(streams);
        execution.wait().await.expect("status");
    }
    sandbox.end().await;
    let mut kept = LogReader::open(&directory).expect("open");
    for records in [records(&mut following), records(&mut kept)] {
        assert_eq!(of(&records, LogSource::Stdout), "command out\n");
        assert_eq!(of(&records, LogSource::Stderr), "command err\n");
        assert_eq!(of(&records, LogSource::Console), "kernel\n");
        assert_eq!(of(&records, LogSource::Agent), "matchlock-agent: up\n");
        assert_eq!(records.len(), 4, "{records:?}");
    }
}

#[tokio::test]
async fn a_log_goes_with_its_sandbox_unless_that_is_kept() {
    let home = tempfile::tempdir().expect("tempdir");
    let vmm = serve(|request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        _ => drop(peer.send(&AgentFrame::Done)),
    });
    let vmm = vmm.saying(b"kernel\n");
    let sandbox = start(spec(), Attachments::default(), home.path(), &vmm).await.expect("up");
    let directory = StateRoot::in_home(home.path()).directory_of(sandbox.id());
    let mut reader = LogReader::open(&directory).expect("open");
    sandbox.end().await;
    assert!(left(home.path()).is_empty());
    let of_reader = of(&records(&mut reader), LogSource::Console);
    assert!(of_reader == "kernel\n" || of_reader.is_empty(), "who had it open may have it");
}
