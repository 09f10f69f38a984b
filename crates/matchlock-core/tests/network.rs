//! Network, published ports and the audit trail of a sandbox with a scripted guest.

mod support;

use std::fs;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use matchlock_core::audit::{Summary, verify};
use matchlock_core::policy::{Policy, SecretSpec, Secrets};
use matchlock_core::{
    Attachments, Classified, CoreError, DescribeChain, ExecFailure, ExecRequest, ExitStatus,
    Listeners, NetworkSpec, PortForward, SandboxHandle, SandboxSpec, SecretValues,
};
use matchlock_proto::{AgentFrame, BootConfig, BootStep, Request};
use matchlock_testkit::ReservedPort;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use support::{left, report, serve, spec, start};

/// In no place but the request of an allowed host may this ever appear.
const CANARY: &str = "canary-7d3e1f";

fn secrets() -> SecretValues {
    let spec = SecretSpec::from_parts("API_KEY", CANARY.to_owned(), &["api.example.com"]);
    Secrets::new(vec![spec.expect("valid")], &mut || [7; 16]).expect("valid").into()
}

fn with_network() -> (SandboxSpec, Attachments) {
    let network = NetworkSpec { secrets: secrets().rules(), ..NetworkSpec::default() };
    let with = Attachments { secrets: secrets(), ..Attachments::default() };
    (SandboxSpec { network: Some(network), ..spec() }, with)
}

/// The records of a trail that must be intact.
fn records(path: &Path) -> (Vec<Value>, Summary) {
    let file = fs::File::open(path).expect("open");
    let summary = verify(BufReader::new(file)).expect("intact");
    let text = fs::read_to_string(path).expect("read");
    (text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(), summary)
}

fn events(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| record["event"].as_str()).collect()
}

/// Every file below `dir` as one text.
fn everything_below(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).expect("list").flatten() {
        let path = entry.path();
        text.push_str(&path.display().to_string());
        if path.is_dir() {
            text.push_str(&everything_below(&path));
        } else if path.is_file() {
            text.push_str(&String::from_utf8_lossy(&fs::read(&path).expect("read")));
        }
    }
    text
}

#[tokio::test]
async fn the_guest_is_told_its_addresses_names_authority_and_placeholders_and_no_secret() {
    let home = tempfile::tempdir().expect("tempdir");
    let (report_boot, booted) = mpsc::channel::<BootConfig>();
    let vmm = serve(move |request, mut peer| {
        if let Request::Boot(boot) = request {
            report_boot.send(*boot).expect("send");
            peer.send(&AgentFrame::Booted(report()));
        }
    });
    let name = "db.example.com".parse().expect("a name");
    let address: IpAddr = Ipv4Addr::new(10, 0, 0, 5).into();
    let (mut spec, with) = with_network();
    spec.hosts = vec![(name, address)];
    spec.env = vec![(b"API_KEY".to_vec(), b"the user's own".to_vec())];
    let shown = format!("{spec:?} {with:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    let sandbox = start(spec, with, home.path(), &vmm).await.expect("start");
    let boot = booted.recv_timeout(Duration::from_secs(30)).expect("boot");
    let network = boot.network.as_ref().expect("a network");
    assert_eq!(network.mtu, 1500);
    assert!(boot.ca_pem.is_some(), "TLS ends on the host");
    assert_eq!((boot.hosts[0].name.as_str(), boot.hosts[0].ip), ("db.example.com", address));
    let (_, last) = boot.env.iter().rfind(|(name, _)| name == b"API_KEY").expect("the secret");
    assert_eq!(last, format!("SANDBOX_SECRET_{}", "07".repeat(16)).as_bytes());
    assert!(!format!("{boot:?}{sandbox:?}").contains(CANARY));
    let below = everything_below(home.path());
    assert!(below.contains("API_KEY") && below.contains("api.example.com"), "{below}");
    assert!(!below.contains(CANARY), "{below}");
    sandbox.end().await;
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn a_sandbox_without_a_network_has_no_device_and_no_authority() {
    let home = tempfile::tempdir().expect("tempdir");
    let (report_boot, booted) = mpsc::channel::<BootConfig>();
    let vmm = serve(move |request, mut peer| {
        if let Request::Boot(boot) = request {
            report_boot.send(*boot).expect("send");
            peer.send(&AgentFrame::Booted(report()));
        }
    });
    let sandbox = start(spec(), Attachments::default(), home.path(), &vmm).await.expect("start");
    let boot = booted.recv_timeout(Duration::from_secs(30)).expect("boot");
    assert_eq!((boot.network, boot.ca_pem, boot.dns_servers), (None, None, Vec::new()));
    assert!(sandbox.policy().is_none());
}

#[tokio::test]
async fn a_kept_trail_tells_the_whole_life_of_a_sandbox() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = home.path().join("audit.jsonl");
    let vmm = serve(|request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Exec(request) if request.argv == [b"nope".to_vec()] => {
            peer.send(&AgentFrame::Refused(ExecFailure::NotFound("nope".into())));
        }
        Request::Exec(request) if request.argv == [b"hang".to_vec()] => {
            peer.send(&AgentFrame::Started);
            while peer.receive().is_some() {}
        }
        Request::Exec(_) => {
            peer.send(&AgentFrame::Started);
            peer.send(&AgentFrame::Exited(ExitStatus::Code(3)));
        }
        _ => drop(peer.send(&AgentFrame::Done)),
    });
    let exec = |word: &str| ExecRequest {
        argv: vec![word.as_bytes().to_vec()],
        env: vec![(b"X".to_vec(), CANARY.as_bytes().to_vec())],
        ..ExecRequest::default()
    };
    let (spec, with) = with_network();
    let spec = SandboxSpec { audit_log: Some(log.clone()), ..spec };
    let sandbox = start(spec, with, home.path(), &vmm).await.expect("start");
    let id = sandbox.id().to_string();
    let (mut execution, _streams) = sandbox.exec(exec("one\n\x1b[2J")).await.expect("exec");
    execution.wait().await.expect("status");
    sandbox.exec(exec("nope")).await.expect_err("not found");
    drop(sandbox.exec(exec("hang")).await.expect("exec"));
    sandbox.replace_policy(Policy::default()).expect("recorded");
    let ending = sandbox.stop(Duration::from_secs(1)).await;
    assert_eq!(ending.audit_lost, None);
    let (records, summary) = records(&log);
    assert!(summary.closed);
    let of_life: Vec<&Value> = records
        .iter()
        .filter(|record| {
            ["start", "exec", "exec_end", "policy_changed", "end"]
                .contains(&record["event"].as_str().expect("text"))
        })
        .collect();
    assert!(records.iter().all(|record| record["sandbox"] == id));
    let run = ["exec", "exec_end"];
    let expected = [&["start"][..], &run, &run, &run, &["policy_changed", "end"]].concat();
    assert_eq!(of_life.iter().map(|r| &r["event"]).collect::<Vec<_>>(), expected);
    assert_eq!(of_life[0]["network"]["secrets"][0]["name"], "API_KEY");
    assert_eq!(of_life[0]["network"]["secrets"][0]["hosts"][0], "api.example.com");
    assert_eq!(of_life[1]["argv"][0], "one\n\x1b[2J");
    assert_eq!(of_life[2]["status"], 3);
    assert_eq!(of_life[4]["error"], "program not found in the guest: nope");
    assert_eq!(of_life[6]["error"], "cancelled");
    assert_eq!(of_life[7]["secrets"].as_array().map(Vec::len), Some(0));
    assert_eq!(of_life[8]["reason"], "stopped");
    let text = fs::read_to_string(&log).expect("read");
    assert!(!text.contains(CANARY) && !text.contains('\x1b'), "{text}");
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn a_start_that_fails_is_told_and_keeps_no_secret() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = home.path().join("audit.jsonl");
    let vmm = serve(|request, mut peer| {
        if let Request::Boot(_) = request {
            let failure = ExecFailure::Boot { step: BootStep::Network, message: "no eth0".into() };
            peer.send(&AgentFrame::Refused(failure));
        }
    });
    let (spec, with) = with_network();
    let spec = SandboxSpec { audit_log: Some(log.clone()), ..spec };
    let error = start(spec, with, home.path(), &vmm).await.expect_err("refused");
    let text = format!("{error:?} {}", DescribeChain(&error));
    assert!(!text.contains(CANARY), "{text}");
    let (records, summary) = records(&log);
    assert!(summary.closed);
    assert_eq!(events(&records), ["start", "end"]);
    assert_eq!(records[1]["reason"], "start_failed");
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn a_log_that_cannot_be_continued_stops_the_start() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = home.path().join("notes.txt");
    fs::write(&log, "my notes\n").expect("write");
    let vmm = serve(|_, _| panic!("no machine is started"));
    let (spec, with) = with_network();
    let spec = SandboxSpec { audit_log: Some(log.clone()), ..spec };
    let error = start(spec, with, home.path(), &vmm).await.expect_err("refused");
    assert!(matches!(*error, CoreError::AuditLog(_)), "{error:?}");
    assert!(error.hint().is_some());
    assert_eq!(fs::read_to_string(&log).expect("read"), "my notes\n");
    assert!(left(home.path()).is_empty());
}

/// A guest whose port 80 sends back what it gets, and whose other ports nobody listens on.
async fn echoing(home: &Path, log: &Path) -> SandboxHandle {
    let vmm = serve(|request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Forward { port: 80 } => {
            peer.send(&AgentFrame::Started);
            // From here on there are no frames: the end of the input is its last byte.
            let mut received = Vec::new();
            peer.stream.read_to_end(&mut received).expect("read");
            peer.stream.write_all(&received).expect("write");
        }
        Request::Forward { .. } => {
            let failure = ExecFailure::Port("connection refused".into());
            peer.send(&AgentFrame::Refused(failure));
        }
        _ => {}
    });
    let spec = SandboxSpec { audit_log: Some(log.to_owned()), ..spec() };
    start(spec, Attachments::default(), home, &vmm).await.expect("start")
}

/// Sends, ends its half of the connection, and returns what comes back.
async fn exchange(port: NonZeroU16, data: Vec<u8>) -> Vec<u8> {
    let talk = move || {
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port.get()))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(&data)?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    tokio::task::spawn_blocking(talk).await.expect("join").expect("exchange")
}

#[tokio::test]
async fn a_published_port_carries_bytes_both_ways_and_each_end_by_itself() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = home.path().join("audit.jsonl");
    let sandbox = echoing(home.path(), &log).await;
    let port = ReservedPort::new();
    let forward = PortForward { local: port.number(), remote: NonZeroU16::new(80).expect("not 0") };
    let listeners =
        Listeners::bind(&[forward], &[Ipv4Addr::LOCALHOST.into()]).expect("a free port");
    sandbox.publish(listeners, |error| panic!("{error}")).expect("publish");
    let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let several = (0..4).map(|_| tokio::spawn(exchange(forward.local, data.clone())));
    for exchange in several.collect::<Vec<_>>() {
        assert!(exchange.await.expect("join") == data);
    }
    sandbox.end().await;
    let (records, _) = records(&log);
    let count = |name| events(&records).iter().filter(|event| **event == name).count();
    assert_eq!((count("forward"), count("forward_end")), (4, 4));
    let opened = records.iter().find(|record| record["event"] == "forward").expect("one");
    assert_eq!(opened["port"], 80);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_told_and_others_go_on() {
    let home = tempfile::tempdir().expect("tempdir");
    let log = home.path().join("audit.jsonl");
    let sandbox = echoing(home.path(), &log).await;
    let port = ReservedPort::new();
    let forward = PortForward { local: port.number(), remote: NonZeroU16::new(81).expect("not 0") };
    let listeners =
        Listeners::bind(&[forward], &[Ipv4Addr::LOCALHOST.into()]).expect("a free port");
    let (report, failures) = mpsc::channel();
    let failed = move |error: &matchlock_core::ExecError| {
        report.send(error.to_string()).expect("send");
    };
    sandbox.publish(listeners, failed).expect("publish");
    for _ in 0..2 {
        assert_eq!(exchange(forward.local, Vec::new()).await, b"");
    }
    sandbox.end().await;
    let told: Vec<String> = failures.try_iter().collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].ends_with("connection refused"), "{told:?}");
    let (records, _) = records(&log);
    let end = records.iter().find(|record| record["event"] == "forward_end").expect("one");
    assert!(end["error"].as_str().expect("text").ends_with("connection refused"));
}

/// A guest whose ports send back what they get, and the most connections that it had at a time.
async fn crowded(home: &Path) -> (SandboxHandle, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let vmm = serve(move |request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        Request::Forward { .. } => {
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            peer.send(&AgentFrame::Started);
            let mut back = peer.stream.try_clone().expect("clone");
            std::io::copy(&mut peer.stream, &mut back).expect("echo");
            now.fetch_sub(1, Ordering::SeqCst);
        }
        _ => drop(peer.send(&AgentFrame::Done)),
    });
    (start(spec(), Attachments::default(), home, &vmm).await.expect("start"), most)
}

/// Publishes one port on all these addresses.
fn publish(sandbox: &SandboxHandle, addresses: &[IpAddr]) -> ReservedPort {
    let port = ReservedPort::new();
    let forward = PortForward { local: port.number(), remote: NonZeroU16::new(80).expect("not 0") };
    let listeners = Listeners::bind(&[forward], addresses).expect("a free port");
    sandbox.publish(listeners, |error| panic!("{error}")).expect("publish");
    port
}

/// For anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What comes back for one byte.
async fn echo(stream: &mut TcpStream) -> u8 {
    let talk = async {
        stream.write_all(b"!").await?;
        stream.read_u8().await
    };
    timeout(PATIENCE, talk).await.expect("served in time").expect("echo")
}

#[tokio::test]
async fn listeners_that_are_idle_do_not_keep_others_from_connections() {
    let home = tempfile::tempdir().expect("tempdir");
    let (sandbox, _) = crowded(home.path()).await;
    let addresses: Vec<IpAddr> = (1..=300u16)
        .map(|n| u32::from(Ipv4Addr::LOCALHOST) + u32::from(n))
        .map(|ip| Ipv4Addr::from(ip).into())
        .collect();
    let port = publish(&sandbox, &addresses);
    // The last ones first, while no other has had a connection.
    for ip in addresses.into_iter().rev() {
        let mut stream = TcpStream::connect((ip, port.number().get())).await.expect("connect");
        assert_eq!(echo(&mut stream).await, b'!', "{ip}");
    }
    sandbox.end().await;
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_and_is_then_served() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("a limit that is allowed");
    let home = tempfile::tempdir().expect("tempdir");
    let (sandbox, most) = crowded(home.path()).await;
    let port = publish(&sandbox, &[Ipv4Addr::LOCALHOST.into()]);
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port.number().get()));
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut stream = connect().await.expect("connect");
        assert_eq!(echo(&mut stream).await, b'!');
        held.push(stream);
    }
    let mut late = connect().await.expect("the backlog has room");
    late.write_all(b"?").await.expect("write");
    // Whoever would take it has the time of some exchanges.
    for stream in &mut held[..64] {
        assert_eq!(echo(stream).await, b'!');
    }
    assert_eq!(late.try_read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    held.pop();
    let answer = timeout(PATIENCE, late.read_u8()).await;
    assert_eq!(answer.expect("served in time").expect("echo"), b'?');
    assert_eq!(most.load(Ordering::SeqCst), 256);
    // Neither the ones that are held nor the listener keep the end waiting.
    sandbox.end().await;
}
