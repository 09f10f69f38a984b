//! A server in namespaces of its own on this machine, and a client of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use matchlock_agent::Guest;
use matchlock_agent::cgroup::Cgroups;
use matchlock_agent::server::{Machine, Server};
use matchlock_proto::{
    AgentFrame, BootConfig, BootReport, Confinement, Decoder, ExecFailure, ExecRequest, ExitStatus,
    HostFrame, Level, Limits, PROTOCOL_VERSION, Realtime, Request, RootConfig, StreamId,
    UpperLayer, WireMessage,
};
use matchlock_testkit::wait_until;

const SOCKET: &str = "MATCHLOCK_AGENT_TEST_SOCKET";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// What a sandbox has when nothing else is said: the capabilities of Docker's.
const CONFINEMENT: Confinement = Confinement {
    level: Level::Default,
    capabilities: 0xa804_25fb,
    no_new_privs: true,
    seccomp: true,
};

/// The body of the test that is the server's process; does nothing in an ordinary run.
pub(crate) fn serve() {
    let Some(path) = std::env::var_os(SOCKET) else {
        return;
    };
    let listener = UnixListener::bind(path).expect("bound");
    listener.set_nonblocking(true).expect("non-blocking");
    let server = Server::new(Namespaces, listener.into()).expect("a server");
    panic!("the server ended: {}", server.run());
}

/// The machine as far as it can be had without a VM.
struct Namespaces;

impl Machine for Namespaces {
    fn accept(&mut self, listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        Ok(Some(rustix::net::accept_with(listener, flags)?))
    }

    fn boot(&mut self, config: BootConfig) -> Result<(Guest, BootReport), ExecFailure> {
        let parent = File::open(cgroup2().expect("checked")).expect("opened");
        let cgroups = Cgroups::create(parent.as_fd(), &config.hostname)
            .map_err(|error| ExecFailure::System(error.to_string()))?;
        let report = BootReport {
            agent_start_us: 0,
            config_us: 0,
            root_us: 0,
            ready_us: 0,
            kernel: String::new(),
        };
        Ok((
            Guest {
                env: config.env,
                confinement: config.confinement.into(),
                ulimits: config.limits.ulimits,
                export: None,
                cgroups,
            },
            report,
        ))
    }

    /// The clock here is the host's own.
    fn set_clock(&mut self, _: Realtime) {}

    fn sync(&mut self) {}
}

/// A running server. Its processes end with it.
pub(crate) struct Agent {
    process: Child,
    directory: tempfile::TempDir,
    group: PathBuf,
}

impl Agent {
    /// A booted server, or `None`, and the test is skipped, where there can be none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(|_| {})
    }

    /// The same with changes to the configuration.
    pub(crate) fn start_with(change: impl FnOnce(&mut BootConfig)) -> Option<Self> {
        let agent = Self::unbooted()?;
        let name = agent.group.file_name().expect("named").to_str().expect("UTF-8");
        let mut config = BootConfig {
            version: PROTOCOL_VERSION,
            hostname: name.to_owned(),
            realtime: Realtime::default(),
            entropy: [0; 32],
            root: RootConfig {
                lower: Vec::new(),
                upper: UpperLayer::Tmpfs { size: 0 },
                export: false,
            },
            disks: Vec::new(),
            working_dir: None,
            hosts: Vec::new(),
            dns_servers: Vec::new(),
            network: None,
            ca_pem: None,
            cpu_limit: None,
            confinement: CONFINEMENT,
            limits: Limits::default(),
            env: vec![(b"SANDBOX".into(), b"yes".into())],
        };
        change(&mut config);
        let mut client = agent.connect();
        client.send(&HostFrame::Open(Box::new(Request::Boot(Box::new(config)))));
        assert!(matches!(client.next(), Some(AgentFrame::Booted(_))));
        Some(agent)
    }

    /// A server before its boot.
    pub(crate) fn unbooted() -> Option<Self> {
        if let Err(reason) = possible() {
            matchlock_testkit::skip(reason);
            return None;
        }
        raise_descriptor_limit();
        let directory = tempfile::tempdir().expect("a directory");
        let unique = directory.path().file_name().expect("named").to_string_lossy();
        let group = cgroup2().expect("checked").join(format!("matchlock-test-{unique}"));
        let process = Command::new("unshare")
            .args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--"])
            .arg(std::env::current_exe().expect("known"))
            .args(["--exact", "the_server_process", "--nocapture", "--test-threads=1"])
            .env(SOCKET, directory.path().join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare runs");
        Some(Self { process, directory, group })
    }

    /// A connection.
    pub(crate) fn connect(&self) -> Client {
        let path = self.directory.path().join("socket");
        Client::new(wait_until("a server", TIMEOUT, || UnixStream::connect(&path).ok()))
    }

    /// A connection with a request sent.
    pub(crate) fn open(&self, request: Request) -> Client {
        let mut client = self.connect();
        client.send(&HostFrame::Open(Box::new(request)));
        client
    }

    /// A running execution.
    pub(crate) fn spawn(&self, request: ExecRequest) -> Client {
        let mut client = self.open(Request::Exec(request));
        assert_eq!(client.next(), Some(AgentFrame::Started));
        client
    }

    /// Runs a program to its end.
    pub(crate) fn exec(&self, request: ExecRequest) -> Finished {
        self.open(Request::Exec(request)).finish()
    }

    /// Runs a shell script to its end.
    pub(crate) fn sh(&self, script: &str) -> Finished {
        self.exec(sh(script))
    }

    /// Control groups of executions of which processes live.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.group).into_iter().flatten();
        let entries = entries.map(|entry| entry.expect("an entry"));
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
    }

    /// How many descriptors the server has open; `None` where the kernel does not tell its process.
    pub(crate) fn descriptors(&self) -> Option<usize> {
        let unshare = self.process.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let server = std::fs::read_to_string(children).ok()?;
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.trim())).ok()?;
        Some(open.count())
    }

    /// Waits until no execution is left.
    pub(crate) fn wait_until_empty(&self) {
        wait_until("the end of all executions", TIMEOUT, || self.groups().is_empty().then_some(()));
    }

    /// Waits until the server has no more descriptors than this.
    pub(crate) fn wait_for_descriptors(&self, most: usize) {
        wait_until("the end of all connections", TIMEOUT, || {
            self.descriptors().is_none_or(|open| open <= most).then_some(())
        });
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _may_have_ended = self.process.kill();
        let _reaped = self.process.wait();
        if std::thread::panicking() {
            return;
        }
        wait_until("the end of all that the server ran", TIMEOUT, || {
            remove_groups(&self.group);
            (!self.group.exists()).then_some(())
        });
    }
}

/// Removes a control group and those in it, as far as no process lives there.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _not_yet = std::fs::remove_dir(group);
}

/// One connection.
pub(crate) struct Client {
    stream: UnixStream,
    decoder: Decoder<AgentFrame>,
}

/// Everything that an execution has said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) end: AgentFrame,
}

impl Finished {
    /// Standard output as text, of an execution that has succeeded.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        assert_eq!(self.end, exited(0), "{self:?}");
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).expect("set");
        Self { stream, decoder: Decoder::new() }
    }

    pub(crate) fn send(&mut self, frame: &HostFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send_raw(&bytes);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<AgentFrame> {
        loop {
            if let Some(frame) = self.decoder.next().expect("frames of the protocol") {
                return Some(frame);
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer).expect("the server answers") {
                0 => return None,
                n => self.decoder.push(&buffer[..n]),
            }
        }
    }

    /// The connection itself, when it carries frames no more.
    pub(crate) fn into_raw(self) -> UnixStream {
        assert!(!self.decoder.is_mid_frame(), "nothing but frames so far");
        self.stream
    }

    /// Reads to the end of the connection and gives back all credit.
    pub(crate) fn finish(mut self) -> Finished {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let (stream, data) = match self.next() {
                Some(AgentFrame::Stdout(data)) => (StreamId::Stdout, data),
                Some(AgentFrame::Stderr(data)) => (StreamId::Stderr, data),
                Some(AgentFrame::Started | AgentFrame::Credit(..)) => continue,
                Some(end) => {
                    assert_eq!(self.next(), None, "{end:?} is the last frame");
                    return Finished { stdout, stderr, end };
                }
                None => panic!("the connection ended without a last frame"),
            };
            let length = data.len() as u32;
            if stream == StreamId::Stdout { &mut stdout } else { &mut stderr }.extend(data);
            self.send(&HostFrame::Credit(stream, length));
        }
    }

    /// Reads standard output until it holds `text`.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.next() {
                Some(AgentFrame::Stdout(data)) => seen.push_str(&String::from_utf8_lossy(&data)),
                Some(AgentFrame::Credit(..)) => {}
                other => panic!("{other:?} after {seen:?}"),
            }
        }
        seen
    }
}

pub(crate) fn argv(arguments: &[&str]) -> ExecRequest {
    let argv = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
    ExecRequest { argv, ..ExecRequest::default() }
}

pub(crate) fn sh(script: &str) -> ExecRequest {
    argv(&["sh", "-c", script])
}

pub(crate) fn exited(code: u8) -> AgentFrame {
    AgentFrame::Exited(ExitStatus::Code(code))
}

/// For the server, which inherits it, and for as many connections to it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit");
}

fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root for namespaces".into());
    }
    cgroup2().ok_or("needs a cgroup2 hierarchy that can be written")?;
    let unshared = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status();
    match unshared {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("unshare: {status}")),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

fn cgroup2() -> Option<&'static Path> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists() && path.join("cgroup.controllers").exists())
}
