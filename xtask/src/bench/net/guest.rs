//! The same from a real guest: its kernel, the wire to the supervisor, and the stack there.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bulk::{WRITE_OUT, rate};
use super::world::{HOST, World};
use crate::bench::procfs::Process;
use crate::bench::series::round;
use crate::run;

/// Sizes of the largest packet: the default and the largest.
const MTUS: [u32; 2] = [1500, 65520];
/// Connections that are open at once; a guest may have 1024.
const FLOWS: u32 = 1000;
/// Opens connections, has an answer on each, says so, and keeps them until its input ends.
const HOLDER: &str = r#"
import resource, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 64, hard), hard))
def visit():
    flow = socket.create_connection((host, port))
    flow.sendall(f"GET /bytes/10 HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n" + bytes(range(10))) and len(answer) < 4096:
        more = flow.recv(4096)
        if not more:
            sys.exit(f"the connection ended after {answer!r}")
        answer += more
        if b"\r\n\r\n" in answer and len(answer.split(b"\r\n\r\n", 1)[1]) >= 10:
            break
    return flow
first = visit()
print("first", flush=True)
sys.stdin.readline()
flows = [visit() for _ in range(count)]
print("open", flush=True)
sys.stdin.read()
"#;

/// Transfers from a guest with each MTU, and what its open flows cost the supervisor.
pub(super) fn measure(world: &World, binary: &Path, megabytes: u64) -> Result<Value> {
    let bytes = megabytes * 1_000_000;
    let direct = direct(world, bytes)?;
    let mut report = serde_json::Map::new();
    for mtu in MTUS {
        eprintln!("bench: {megabytes} MB each way from a guest, MTU {mtu}");
        let mut sandbox = Sandbox::start(world, binary, mtu, &["sh", "-c", &script(world, bytes)])?;
        let mut kinds = serde_json::Map::new();
        for (name, _) in kinds_of_transfer() {
            let rate = rate(&sandbox.line()?, bytes)?;
            let mut entry = json!({ "mb_per_second": round(rate) });
            if name.starts_with("download") {
                entry["of_direct_on_the_host"] = json!(round(rate / direct));
            }
            kinds.insert(name.to_owned(), entry);
        }
        kinds.insert("supervisor_cpu_seconds".to_owned(), json!(sandbox.process().cpu_time()));
        sandbox.end()?;
        report.insert(format!("mtu_{mtu}"), kinds.into());
    }
    report.insert("megabytes".to_owned(), megabytes.into());
    report.insert("host_direct_download_mb_per_second".to_owned(), json!(round(direct)));
    report.insert("memory".to_owned(), memory(world, binary)?);
    Ok(report.into())
}

/// The kinds of transfer, in the order of the script: name, and curl's arguments before the URL.
fn kinds_of_transfer() -> [(&'static str, &'static str); 6] {
    [
        ("download_h1", "--http1.1"),
        ("download_h2", "--http2"),
        ("upload_h1", "--http1.1 --upload-file /tmp/upload"),
        ("upload_h2", "--http2 --upload-file /tmp/upload"),
        ("download_plain_http", ""),
        ("upload_plain_http", "--upload-file /tmp/upload"),
    ]
}

fn script(world: &World, bytes: u64) -> String {
    let curl = format!("curl -sS --fail -o /dev/null --write-out '{WRITE_OUT}\\n'");
    let mut script = format!("set -e; truncate -s {bytes} /tmp/upload\n");
    for (name, arguments) in kinds_of_transfer() {
        let (scheme, port) = if name.ends_with("plain_http") {
            ("http", world.origin.http().port())
        } else {
            ("https", world.port())
        };
        let path = if name.starts_with("upload") {
            "discard".to_owned()
        } else {
            format!("bytes/{bytes}")
        };
        script.push_str(&format!("{curl} {arguments} {scheme}://{HOST}:{port}/{path}\n"));
    }
    script + "exec cat"
}

/// The same download on the host, without anything between.
fn direct(world: &World, bytes: u64) -> Result<f64> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "--noproxy", "*", "-o", "/dev/null", "--write-out", WRITE_OUT]);
    curl.arg("--http1.1").arg("--cacert").arg(world.ca());
    curl.args(["--connect-to", &format!("{HOST}:{}:{}", world.port(), world.origin.https())]);
    curl.arg(format!("https://{HOST}:{}/bytes/{bytes}", world.port()));
    rate(&run::output(&mut curl)?, bytes)
}

/// The supervisor's memory before and with many open flows.
fn memory(world: &World, binary: &Path) -> Result<Value> {
    eprintln!("bench: {FLOWS} open flows of a guest");
    let (port, count) = (world.origin.http().port().to_string(), FLOWS.to_string());
    let command = ["python3", "-c", HOLDER, HOST, &port, &count];
    let mut sandbox = Sandbox::start(world, binary, 1500, &command)?;
    sandbox.expect("first")?;
    let before = sandbox.process().memory()?["own_rss"].as_u64().context("no memory")?;
    sandbox.go()?;
    sandbox.expect("open")?;
    let with = sandbox.process().memory()?["own_rss"].as_u64().context("no memory")?;
    sandbox.end()?;
    Ok(json!({
        "flows": FLOWS,
        "supervisor_kib": before,
        "supervisor_with_flows_kib": with,
        "kib_per_flow": round((with as f64 - before as f64) / f64::from(FLOWS)),
    }))
}

/// A sandbox whose program ends when its standard input does.
struct Sandbox {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Sandbox {
    fn start(world: &World, binary: &Path, mtu: u32, program: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["run", "--image", "host", "-i", "--timeout", "3600"]);
        command.args(["--mtu", &mtu.to_string(), "--allow-host", HOST]);
        command.args(["--dns-servers", &world.names.address().to_string()]);
        command.arg("--allow-private=127.0.0.1/32").arg("--upstream-ca").arg(world.ca());
        command.arg("--audit-log").arg(world.files.path().join("audit.jsonl"));
        command.arg("--").args(program);
        run::unaffected(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self { child, stdin, stdout })
    }

    fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// The next line of the program.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "the sandbox ended before its time");
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == wanted, "the guest said {line:?} and not {wanted:?}");
        Ok(())
    }

    /// Lets the program go on.
    fn go(&mut self) -> Result<()> {
        use std::io::Write as _;
        let stdin = self.stdin.as_mut().context("no pipe")?;
        stdin.write_all(b"go\n")?;
        Ok(stdin.flush()?)
    }

    fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the sandbox failed ({status})");
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // On the way of an error: the end of its input may not be what it waits for.
        if let Ok(None) = self.child.try_wait() {
            drop(self.stdin.take());
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
