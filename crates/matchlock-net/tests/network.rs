//! The whole network: a real kernel as the guest, a real web server as the outside.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use matchlock_net::{
    Audit, AuditLost, Decision, Event, NetConfig, Network, NotIntercepting, ProxySettings,
};
use matchlock_policy::{DefaultEgress, Policy, PolicyConfig, PrivateAccess};
use matchlock_testkit::origin::Origin;
use matchlock_testkit::{PATIENCE, dns, skip, wait_until};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const NAME: &str = "api.example.com";
/// The exit status of a guest that the machine does not permit.
const SKIPPED: i32 = 77;

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Audit for Recorder {
    fn record(&self, event: &Event) -> Result<(), AuditLost> {
        self.0.lock().expect("nobody panics in here").push(event.clone());
        Ok(())
    }
}

#[test]
fn a_guest_gets_what_is_allowed_and_nothing_else() {
    let origin = Origin::start(&[NAME]);
    let names = dns::Authority::new();
    names.set(NAME, dns::Reply::addresses(&["127.0.0.1"]));
    let audit = Arc::new(Recorder::default());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let frames = directory.path().join("frames");
    let listener = UnixListener::bind(&frames).expect("a socket");

    let ca_file = directory.path().join("ca.pem");
    let mut guest = start_guest(&frames, &ca_file, &origin);
    // Written before the guest is heard, so that it finds the file.
    let Some(socket) = accept(&listener, &mut guest) else { return };
    let network = Network::start(config(&origin, &names, &audit), socket).expect("a network");
    std::fs::write(&ca_file, network.ca_pem().expect("an authority"))
        .expect("the certificate is written");
    let output = guest.wait_with_output().expect("the guest ends");
    if !is_done(&output) {
        return;
    }

    assert!(names.received().iter().all(|query| query.name == NAME), "{:?}", names.received());
    let hosts: Vec<_> = network.refusals().into_iter().map(|refusal| refusal.host).collect();
    for host in ["evil.example", "93.184.215.14", NAME] {
        assert!(hosts.iter().any(|known| known == host), "{host}: {hosts:?}");
    }
    drop(network);
    let events = audit.0.lock().expect("nobody panics in here");
    let opened = events
        .iter()
        .filter(|event| matches!(event, Event::FlowOpen { decision: Decision::Allowed, .. }));
    let closed = events.iter().filter(|event| matches!(event, Event::FlowClose { .. }));
    assert_eq!(opened.count(), closed.count(), "every flow has an end");
}

#[test]
fn a_network_ends_at_once_wherever_it_is_dropped() {
    let origin = Origin::start(&[NAME]);
    let names = dns::Authority::new();
    let start = || {
        let (ours, guest) = UnixStream::pair().expect("a pair of sockets");
        let config = config(&origin, &names, &Arc::default());
        (Network::start(config, ours).expect("a network"), guest)
    };
    let (network, _guest) = start();
    assert_eq!(network.guest().addresses.len(), 2);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { drop(network) });
    let (one, other) = (start(), start());
    assert_ne!(one.0.ca_pem(), other.0.ca_pem());
}

/// Issue 9: the first host of a list would have TLS looked into for a guest that does not trust us.
#[test]
fn a_policy_that_looks_into_tls_needs_a_guest_that_was_told_so_at_its_start() {
    let origin = Origin::start(&[NAME]);
    let names = dns::Authority::new();
    let start = |intercept| {
        let (ours, guest) = UnixStream::pair().expect("a pair of sockets");
        let open = PolicyConfig {
            default_egress: DefaultEgress::Public,
            intercept,
            ..PolicyConfig::default()
        };
        let policy = Policy::new(open);
        let config = NetConfig { policy, ..config(&origin, &names, &Arc::default()) };
        (Network::start(config, ours).expect("a network"), guest)
    };
    let listed =
        |network: &Network| network.policy().with_added(&[NAME.parse().expect("a pattern")]).0;
    let (open, _guest) = start(false);
    assert_eq!(open.ca_pem(), None, "nothing is looked into");
    assert_eq!(open.replace_policy(listed(&open)), Err(NotIntercepting));
    assert!(open.policy().allowed_hosts().is_empty());
    open.replace_policy(open.policy()).expect("nothing is looked into");

    let (told, _guest) = start(true);
    assert!(told.ca_pem().is_some());
    told.replace_policy(listed(&told)).expect("the guest trusts us");
    assert_eq!(told.policy().allowed_hosts(), [NAME]);
}

fn config(origin: &Origin, names: &dns::Authority, audit: &Arc<Recorder>) -> NetConfig {
    let ca = CertificateDer::from_pem_slice(origin.ca_pem().as_bytes()).expect("a certificate");
    NetConfig {
        mtu: 65520,
        policy: Policy::new(PolicyConfig {
            allowed_hosts: vec![NAME.parse().expect("a pattern")],
            private: PrivateAccess::ranges(vec!["127.0.0.0/8".parse().expect("a range")]),
            ..PolicyConfig::default()
        }),
        rules: Default::default(),
        callback_socket: None,
        dns_servers: vec![names.address()],
        upstream_ca: vec![ca],
        proxy: ProxySettings::default(),
        audit: Arc::clone(audit) as Arc<dyn Audit>,
    }
}

fn start_guest(frames: &Path, ca_file: &Path, origin: &Origin) -> Child {
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self").expect("there is a /proc").uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--kill-child", "timeout", "120", "python3", "-u", "-c"]);
    command.arg(include_str!("guest.py")).arg(frames).arg(ca_file).arg(NAME);
    command.arg(origin.https().port().to_string()).arg(origin.http().port().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("unshare can be run")
}

/// The guest's socket, or nothing if the machine does not permit one.
fn accept(listener: &UnixListener, guest: &mut Child) -> Option<UnixStream> {
    listener.set_nonblocking(true).expect("a socket that does not block");
    wait_until("a guest", PATIENCE, || match listener.accept() {
        Ok((stream, _)) => Some(Some(stream)),
        Err(_) if guest.try_wait().expect("the guest is ours").is_some() => {
            let mut said = String::new();
            let pipe = guest.stdout.as_mut().expect("its output is ours");
            std::io::Read::read_to_string(pipe, &mut said).expect("it is text");
            assert!(said.contains("no TAP device"), "the guest ended early: {said}");
            skip(said);
            Some(None)
        }
        Err(_) => None,
    })
}

/// Whether the guest found all as it should be, and not that the machine does not permit it.
fn is_done(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let skipped = output.status.code() == Some(SKIPPED) || complaint.contains("unshare failed");
    assert!(skipped || output.status.success(), "{said}{complaint}");
    if skipped {
        skip(format_args!("{said}{complaint}"));
    }
    !skipped
}
