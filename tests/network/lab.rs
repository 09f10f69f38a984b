//! A sandbox with servers around it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use matchlock_testkit::dns::{Authority, Reply};
use matchlock_testkit::origin::{Options, Origin};
use matchlock_testkit::{Finished, Invocation, Lab};
use serde_json::Value;

use crate::machine::Machine;

/// Public addresses that servers of the tests may have. Packets to them stay within the namespace by its
/// routes; to a supervisor they are elsewhere, for no interface has them.
pub(crate) const PUBLIC_NETWORKS: [&str; 2] = ["11.0.0.0/8", "2a00::/64"];

/// Public addresses of the namespace's own interface: those of the supervisor's host.
pub(crate) const OWN_PUBLIC: [&str; 2] = ["11.0.0.1", "2a00::53"];

/// Addresses of the namespace that no sandbox may reach without more than a name.
const FORBIDDEN: &[&str] = &[
    "10.66.0.1/24",
    "172.20.0.1/32",
    "192.168.66.1/24",
    "100.64.0.9/32",
    "100.100.100.200/32",
    "169.254.169.254/32",
    "169.254.170.2/32",
    "169.254.7.7/32",
    "192.0.2.7/32",
    "fd00:ec2::254/128",
    "fd12::1/128",
    "64:ff9b::a9fe:a9fe/128",
    "64:ff9b::7f00:1/128",
    "2002:a42:1::1/128",
    "2001:db8::7/128",
];

/// A host whose name and certificate are in order, with a server on ports 80 and 443.
pub(crate) const API: &str = "api.example.com";

/// Another name of the same server, which no test allows.
pub(crate) const EVIL: &str = "evil.example.net";

/// What the Python programs of the guest have in common.
pub(crate) const PRELUDE: &str = include_str!("guest/prelude.py");

/// A client of HTTP/2 by hand.
pub(crate) const H2: &str = include_str!("guest/h2.py");

/// Ethernet frames by hand, for programs in a `--privileged` guest.
pub(crate) const FRAMES: &str = include_str!("guest/frames.py");

/// Makes the namespace of the tests: its loopback interface leads to public networks.
pub(crate) fn prepare_namespace() {
    ip(&["link", "set", "lo", "up"]);
    for network in PUBLIC_NETWORKS {
        ip(&["route", "add", "local", network, "dev", "lo"]);
    }
    for address in OWN_PUBLIC.iter().chain(FORBIDDEN) {
        ip(&["address", "add", address, "dev", "lo"]);
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip runs");
    assert!(status.success(), "ip {arguments:?}");
}

/// Listeners on all addresses of the host, for what must never get there.
pub(crate) struct Traps {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Traps {
    pub(crate) fn new() -> Self {
        let tcp = TcpListener::bind("[::]:0").expect("a port");
        tcp.set_nonblocking(true).expect("set");
        let udp = UdpSocket::bind(tcp.local_addr().expect("an address")).expect("a port");
        udp.set_nonblocking(true).expect("set");
        Self { tcp, udp }
    }

    /// Their port, of TCP and UDP.
    pub(crate) fn port(&self) -> String {
        self.tcp.local_addr().expect("an address").port().to_string()
    }

    /// The addresses of the host that were connected to since the last call.
    pub(crate) fn caught(&self) -> Vec<String> {
        let accepted = std::iter::from_fn(|| self.tcp.accept().ok());
        let local = accepted.map(|(stream, _)| stream.local_addr().expect("an address"));
        local.map(|address| address.ip().to_canonical().to_string()).collect()
    }

    /// Nothing got here.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(self.caught(), [""; 0], "connections reached the host");
        assert!(self.udp.recv(&mut [0; 16]).is_err(), "a datagram reached the host");
    }
}

/// An address that no other test has.
pub(crate) fn fresh_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(11, 7, high, low)
}

/// A home, a web server that is known by several names, and the name server that knows them.
#[derive(Debug)]
pub(crate) struct NetLab {
    lab: Lab,
    pub(crate) origin: Origin,
    pub(crate) dns: Authority,
    pub(crate) address: Ipv4Addr,
    files: tempfile::TempDir,
    machine: Option<Mutex<Machine>>,
    /// Records of the audit trail that were there before the case.
    old_records: usize,
}

impl NetLab {
    /// With a server for [`API`] and [`EVIL`].
    pub(crate) fn new() -> Self {
        Self::with(&[API, EVIL])
    }

    /// With a server for these names, at ports 80 and 443 of an address of its own.
    pub(crate) fn with(names: &[&str]) -> Self {
        let address = fresh_address();
        let at = |port| SocketAddr::new(IpAddr::V4(address), port);
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let options =
            Options { names: names.clone(), http: at(80), https: at(443), ..Options::default() };
        let origin = Origin::with(&options);
        let dns = Authority::new();
        for name in &names {
            dns.set(name, Reply::addresses(&[&address.to_string()]));
        }
        let files = tempfile::tempdir().expect("a directory");
        let (lab, machine) = (Lab::new(), None);
        let lab = Self { lab, origin, dns, address, files, machine, old_records: 0 };
        std::fs::write(lab.path("ca.pem"), lab.origin.ca_pem()).expect("written");
        lab
    }

    /// The same lab, with a sandbox that runs.
    pub(crate) fn with_machine(mut self, machine: Machine) -> Self {
        self.machine = Some(Mutex::new(machine));
        self
    }

    /// The sandbox that runs, if there is one.
    pub(crate) fn machine(&self) -> Option<MutexGuard<'_, Machine>> {
        Some(self.machine.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the sandbox out of the lab.
    pub(crate) fn take_machine(&mut self) -> Option<Machine> {
        Some(self.machine.take()?.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same lab, as if nothing had arrived so far.
    pub(crate) fn forgetful(mut self) -> Self {
        self.origin.forget();
        self.dns.forget();
        self.old_records = self.records().len();
        self
    }

    /// A file of this test, outside of the sandbox's home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The home directory of the sandboxes.
    pub(crate) fn home(&self) -> &std::path::Path {
        self.lab.home()
    }

    /// The path of the server's certificate with its key, for other servers of the same names.
    pub(crate) fn leaf_pem(&self) -> String {
        let path = self.path("leaf.pem");
        std::fs::write(&path, self.origin.leaf_pem()).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// From now on sandboxes trust the authority of another server too.
    pub(crate) fn trust(&self, other: &Origin) {
        let both = [self.origin.ca_pem(), other.ca_pem()].concat();
        std::fs::write(self.path("ca.pem"), both).expect("written");
    }

    /// A port of the server's address.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    /// The home itself, for calls with other flags.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// `sh -c SCRIPT` in a sandbox that asks our name server and keeps its audit trail.
    pub(crate) fn sh(&self, flags: &[&str], script: &str) -> Invocation {
        self.argv(flags, &["sh", "-c", script])
    }

    /// A program in a sandbox that asks our name server and keeps its audit trail.
    pub(crate) fn argv(&self, flags: &[&str], argv: &[&str]) -> Invocation {
        let (ca, audit) = (self.path("ca.pem"), self.path("audit.jsonl"));
        let own = [
            format!("--dns-servers={}", self.dns.address()),
            format!("--upstream-ca={}", ca.display()),
            format!("--audit-log={}", audit.display()),
        ];
        let flags: Vec<&str> =
            own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        self.lab.run(&flags, argv)
    }

    /// Runs a script that must succeed; returns its standard output.
    #[track_caller]
    pub(crate) fn out(&self, flags: &[&str], script: &str) -> String {
        self.finish(flags, script).expect(0).out()
    }

    /// Runs a script to its end.
    #[track_caller]
    pub(crate) fn finish(&self, flags: &[&str], script: &str) -> Finished {
        self.finish_argv(flags, &["sh", "-c", script])
    }

    /// Runs a program to its end, in the sandbox that runs if it has these flags.
    #[track_caller]
    pub(crate) fn finish_argv(&self, flags: &[&str], argv: &[&str]) -> Finished {
        match self.machine().filter(|machine| machine.has(flags)) {
            Some(mut machine) => machine.command(argv),
            None => self.argv(flags, argv).finish(),
        }
    }

    /// Runs a Python program in the guest, after [`PRELUDE`]; returns the JSON that it printed.
    #[track_caller]
    pub(crate) fn python(&self, flags: &[&str], program: &str, arguments: &[&str]) -> Value {
        let finished = match self.machine().filter(|machine| machine.has(flags)) {
            Some(mut machine) => machine.program(&whole(program), arguments),
            None => self.program(flags, program, arguments).finish(),
        };
        let out = finished.expect(0).out();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out}"))
    }

    /// A Python program in the guest, after [`PRELUDE`].
    pub(crate) fn program(&self, flags: &[&str], program: &str, arguments: &[&str]) -> Invocation {
        let program = whole(program);
        let argv = [&["/usr/bin/python3", "-c", &program], arguments].concat();
        self.argv(flags, &argv)
    }

    /// The records of the audit trail of this case so far.
    pub(crate) fn audit(&self) -> Vec<Value> {
        self.records().split_off(self.old_records)
    }

    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
        let whole = text.lines().zip(text.split_inclusive('\n')).filter(|(_, l)| l.ends_with('\n'));
        whole.map(|(line, _)| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The records of one kind of event.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        self.audit().into_iter().filter(|record| record["event"] == kind).collect()
    }
}

/// A Python program after [`PRELUDE`].
fn whole(program: &str) -> String {
    format!("{PRELUDE}\n{program}\nreport()\n")
}

impl Drop for NetLab {
    /// The trail says why a case failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trail = std::fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
            let lines: Vec<&str> = trail.lines().rev().take(40).collect();
            let text = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
            std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap_or_default();
        }
    }
}
