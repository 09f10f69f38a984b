//! The stack against a real kernel: sockets in a network namespace, whose TAP is pumped to the
//! stack.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::super::*;

const LIMIT: Duration = Duration::from_secs(120);
/// The exit status of a guest that the machine does not permit.
const SKIPPED: i32 = 77;

/// Serves each port in its way; what it does is told in `guest.py`, where it is used.
#[derive(Debug, Default)]
struct Server {
    /// What the last flow to ports 2 and 5 came to, for whoever asks on the port after.
    last: Mutex<Vec<u8>>,
    told: tokio::sync::Notify,
}

impl Handler for Server {
    fn syn(self: &Arc<Self>, flow: PendingFlow) {
        if flow.dst().port() == 1 {
            flow.refuse();
        } else {
            tokio::spawn(Arc::clone(self).serve(flow.accept()));
        }
    }

    fn udp(self: &Arc<Self>, datagram: Datagram, replies: UdpReplies) -> UdpVerdict {
        if datagram.dst.port() != 53 {
            return UdpVerdict::Refused;
        }
        replies.send(&datagram.payload).expect("there is room");
        UdpVerdict::Taken
    }
}

impl Server {
    async fn serve(self: Arc<Self>, mut flow: TcpFlow) {
        // An error is a guest that goes away; the guest finds out what should not be.
        let _ = match flow.dst().port() {
            2 => self.close_first(&mut flow).await,
            3 | 6 => self.tell(&mut flow).await,
            4 => {
                let _ = flow.read_u8().await;
                flow.reset();
                return;
            }
            5 => self.expect_reset(&mut flow).await,
            7 => echo(&mut flow).await,
            8 => count(&mut flow).await,
            9 => digest(&mut flow).await,
            18 => source(&mut flow, |_| 0).await,
            19 => source(&mut flow, |position| (position % 251) as u8).await,
            port => panic!("nothing is at port {port}"),
        };
        let mut rest = Vec::new();
        let _ = flow.shutdown().await;
        let _ = flow.read_to_end(&mut rest).await;
    }

    async fn close_first(&self, flow: &mut TcpFlow) -> std::io::Result<()> {
        flow.write_all(b"first").await?;
        flow.shutdown().await?;
        let mut heard = Vec::new();
        flow.read_to_end(&mut heard).await?;
        self.note(heard);
        Ok(())
    }

    async fn expect_reset(&self, flow: &mut TcpFlow) -> std::io::Result<()> {
        flow.read_u8().await?;
        flow.write_all(b"y").await?;
        let end = flow.read_u8().await.expect_err("the guest resets").kind();
        self.note(format!("{end:?}").into());
        Ok(())
    }

    fn note(&self, what: Vec<u8>) {
        *self.last.lock().expect("lock") = what;
        self.told.notify_one();
    }

    async fn tell(&self, flow: &mut TcpFlow) -> std::io::Result<()> {
        self.told.notified().await;
        let last = std::mem::take(&mut *self.last.lock().expect("lock"));
        flow.write_all(&last).await
    }
}

async fn echo(flow: &mut TcpFlow) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = flow.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        flow.write_all(&buffer[..count]).await?;
    }
}

async fn count(flow: &mut TcpFlow) -> std::io::Result<()> {
    let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
    loop {
        match flow.read(&mut buffer).await? {
            0 => return flow.write_all(total.to_string().as_bytes()).await,
            count => total += count,
        }
    }
}

async fn digest(flow: &mut TcpFlow) -> std::io::Result<()> {
    let (mut buffer, mut hash) = (vec![0; 64 * 1024], Sha256::new());
    loop {
        match flow.read(&mut buffer).await? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    flow.write_all(hex.as_bytes()).await
}

async fn source(flow: &mut TcpFlow, byte: fn(u64) -> u8) -> std::io::Result<()> {
    let size = flow.read_u64().await?;
    // A multiple of the period of the pattern.
    let block: Vec<u8> = (0..251 * 1024).map(byte).collect();
    let mut left = size;
    while left > 0 {
        let count = left.min(block.len() as u64);
        flow.write_all(&block[..count as usize]).await?;
        left -= count;
    }
    Ok(())
}

fn guest(socket: &Path, mtu: u32, scenario: &str) -> Output {
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self").expect("there is a /proc").uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--kill-child", "timeout", "60", "python3", "-u", "-c"]);
    command.arg(include_str!("guest.py")).arg(socket).arg(mtu.to_string()).arg(scenario);
    command.stdin(Stdio::null()).output().expect("unshare can be run")
}

/// Runs a scenario of `guest.py`; gives the counters, or nothing if the machine does not permit it.
async fn run(mtu: u32, scenario: &'static str) -> Option<Arc<Counters>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("frames");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut client = tokio::task::spawn_blocking(move || guest(&path, mtu, scenario));
    let stream = tokio::select! {
        accepted = listener.accept() => accepted.expect("the guest connects").0,
        output = &mut client => {
            assert!(!is_done(&output.expect("no panic")), "the guest ended early");
            return None;
        }
    };
    let config = StackConfig { mtu, addressing: Addressing::default() };
    let stack = Stack::new(config, stream, Arc::new(Server::default()));
    let counters = stack.counters();
    let stack = tokio::spawn(stack.run());
    let output = tokio::time::timeout(LIMIT, client).await.expect("in time").expect("no panic");
    if !is_done(&output) {
        return None;
    }
    let end = tokio::time::timeout(LIMIT, stack).await.expect("in time").expect("no panic");
    end.expect("the stack ends with its guest");
    Some(counters)
}

fn is_done(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let skipped = output.status.code() == Some(SKIPPED) || complaint.contains("unshare failed");
    assert!(skipped || output.status.success(), "the guest failed: {said}{complaint}");
    if skipped {
        matchlock_testkit::skip(format_args!("{said}{complaint}"));
    }
    !skipped
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_with_a_small_mtu() {
    let Some(counters) = run(1500, "basics").await else { return };
    assert_eq!(counters.get(Discard::Protocol), 2, "GRE and SCTP");
    assert_eq!(counters.get(Discard::Fragment), 2);
    assert_eq!(counters.get(Discard::UdpRefused), 2);
    assert!(counters.get(Discard::Icmp) >= 2, "echo to somewhere else");
    assert_eq!(counters.get(Discard::Malformed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_with_a_large_mtu() {
    let Some(counters) = run(MAX_MTU, "basics").await else { return };
    assert_eq!(counters.get(Discard::Malformed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_connections() {
    run(1500, "crowd").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_bound_are_refused_at_once() {
    let Some(counters) = run(1500, "flood").await else { return };
    assert_eq!(counters.get(Discard::TableFull), 14);
}

/// Prints figures: `cargo test -p matchlock-net --release -- --ignored --nocapture throughput`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    run(MAX_MTU, "bench").await;
    run(1500, "bench").await;
}
