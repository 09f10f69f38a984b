//! The guest's server and the host's resolver against a real name server on loopback.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue, Unknown};
use hickory_proto::rr::rdata::{A, CNAME, HTTPS, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use matchlock_policy::{DefaultEgress, HostName, Policy, PolicyConfig, PrivateAccess};
use matchlock_testkit::dns::{Authority, Reply};

use super::names::Held;
use super::question::Answer;
use super::upstream::UpstreamError;
use super::{
    DnsContext, Names, Question, ResolveError, Resolver, Seen, Source, Transport, Upstream, answer,
};

const BRIEF: Duration = Duration::from_millis(100);

fn sealed(rules: &[&str]) -> Policy {
    let allowed_hosts = rules.iter().map(|rule| rule.parse().expect("a pattern")).collect();
    Policy::new(PolicyConfig { allowed_hosts, ..PolicyConfig::default() })
}

fn public(config: PolicyConfig) -> Policy {
    Policy::new(PolicyConfig { default_egress: DefaultEgress::Public, ..config })
}

fn name(text: &str) -> HostName {
    text.parse().expect("a name")
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

struct Server {
    authority: Authority,
    context: DnsContext,
}

/// What came back.
struct Told {
    code: ResponseCode,
    data: Vec<RData>,
    addresses: Vec<String>,
    question: Question,
}

impl Server {
    fn new() -> Self {
        let authority = Authority::new();
        let upstream = Arc::new(upstream(&[authority.address()]));
        let (names, seen) = (Arc::new(Names::new()), Arc::new(Seen::default()));
        Self { authority, context: DnsContext { names, seen, upstream } }
    }

    async fn ask(&self, policy: &Policy, name: &str, kind: RecordType) -> Told {
        let query = query(name, kind);
        told(answer(&self.context, policy, &query, Transport::Udp).await)
    }

    /// As [`Server::ask`], for what must not wait for anything.
    fn ask_sealed(&self, policy: &Policy, name: &str, kind: RecordType) -> Told {
        let query = query(name, kind);
        told(immediately(pin!(answer(&self.context, policy, &query, Transport::Udp))))
    }

    fn resolver(&self) -> Resolver {
        Resolver::new(Arc::clone(&self.context.upstream))
    }

    fn received(&self) -> usize {
        self.authority.received().len()
    }
}

fn upstream(servers: &[SocketAddr]) -> Upstream {
    Upstream::new(Source::new(servers))
}

/// The value of what may not wait for anything.
fn immediately<T>(work: Pin<&mut impl Future<Output = T>>) -> T {
    match work.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it is asked for outside"),
    }
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    question(Name::from_ascii(name).expect("a name"), kind)
}

fn question(name: Name, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(name, kind));
    message.to_vec().expect("encoded")
}

fn told(answered: Option<Answer>) -> Told {
    let answered = answered.expect("an answer");
    let message = Message::from_vec(&answered.bytes).expect("a message");
    let data: Vec<_> = message.answers.iter().map(|record| record.data.clone()).collect();
    let addresses = data.iter().filter_map(RData::ip_addr).map(|ip| ip.to_string()).collect();
    let question = answered.question.expect("a question");
    Told { code: message.response_code, data, addresses, question }
}

#[test]
fn sealed_an_allowed_name_gets_the_same_synthetic_pair_again() {
    let (server, policy) = (Server::new(), sealed(&["api.example.com"]));
    for spelling in ["api.example.com.", "API.Example.COM."] {
        let told = server.ask_sealed(&policy, spelling, RecordType::A);
        assert_eq!((told.code, told.addresses), (ResponseCode::NoError, vec!["198.19.0.1".into()]));
        let asked = (told.question.name.as_str(), told.question.qtype.as_str());
        assert_eq!(asked, ("api.example.com", "A"));
        assert_eq!(told.question.rule, "allow-host api.example.com");
        let told = server.ask_sealed(&policy, spelling, RecordType::AAAA);
        assert_eq!(told.addresses, ["fd6d:6c6b:0:1::1"]);
    }
    let flow = addresses(&["198.19.0.1"])[0];
    let held: Option<Held> = server.context.names.hold(flow);
    assert_eq!(held.expect("a name").name(), &name("api.example.com"));
    let others = [RecordType::TXT, RecordType::HTTPS, RecordType::MX, RecordType::ANY];
    for kind in others {
        let told = server.ask_sealed(&policy, "api.example.com.", kind);
        assert_eq!((told.code, told.data.len()), (ResponseCode::NoError, 0), "{kind}");
        assert!(told.question.allowed);
    }
    assert_eq!(server.received(), 0);
}

#[test]
fn sealed_no_query_leaves_for_what_is_denied() {
    let (server, policy) = (Server::new(), sealed(&["api.example.com", "*.wild.example"]));
    server.authority.set("*.evil.example", Reply::addresses(&["8.8.8.8"]));
    let kinds =
        [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::NULL, RecordType::CNAME];
    for number in 0..50 {
        for kind in kinds {
            let asked = format!("{number:02x}c2VjcmV0.tunnel.evil.example.");
            let told = server.ask_sealed(&policy, &asked, kind);
            assert_eq!((told.code, told.data.len()), (ResponseCode::NXDomain, 0));
            assert!(!told.question.allowed);
            let denied = told.question.denied.expect("a refusal of the policy");
            assert!(denied.suggestion().is_some());
        }
    }
    let odd: [&[&[u8]]; 6] = [
        &[],
        &[b"a.b", b"example"],
        &[b"api.example", b"com"],
        &[b"a\0b", b"wild", b"example"],
        &[b"a%62", b"wild", b"example"],
        &[b"1", b"2", b"3", b"4"],
    ];
    for odd in odd {
        let mut name = Name::from_labels(odd.iter().copied()).expect("a name");
        name.set_fqdn(true);
        let query = question(name, RecordType::A);
        let answered = pin!(answer(&server.context, &policy, &query, Transport::Udp));
        let told = told(immediately(answered));
        assert_eq!(told.code, ResponseCode::NXDomain, "{odd:?}");
        assert_eq!(told.question.reason.as_deref(), Some("not a host name"), "{odd:?}");
    }
    assert_eq!(server.received(), 0);
}

#[test]
fn sealed_what_hides_behind_a_wildcard_is_bounded() {
    let server = Server::new();
    let long = format!("{0}.{0}.{0}.wild.example", "a".repeat(50));
    let deep = format!("{}wild.example", "a.".repeat(9));
    let policy = sealed(&["*.wild.example"]);
    for asked in [&long, &deep] {
        let told = server.ask_sealed(&policy, asked, RecordType::A);
        assert_eq!(told.code, ResponseCode::NXDomain, "{asked}");
        assert!(told.question.reason.expect("a reason").contains("wildcard"));
    }
    let told = server.ask_sealed(&policy, &deep[2..], RecordType::A);
    assert_eq!(told.code, ResponseCode::NoError);
    let policy = sealed(&["*.wild.example", &long, &format!("{deep}:443")]);
    for asked in [&long, &deep] {
        let told = server.ask_sealed(&policy, asked, RecordType::A);
        assert_eq!(told.code, ResponseCode::NoError, "{asked}");
    }
}

#[test]
fn names_that_this_host_knows_itself() {
    let server = Server::new();
    let config = |rules: &[&str]| PolicyConfig {
        allowed_hosts: rules.iter().map(|rule| rule.parse().expect("a pattern")).collect(),
        add_hosts: vec![
            (name("db.test"), "10.0.0.5".parse().expect("an address")),
            (name("hidden.test"), "10.0.0.6".parse().expect("an address")),
        ],
        ..PolicyConfig::default()
    };
    let policy = Policy::new(config(&["db.test", "host.docker.internal:8080"]));
    let ask = |asked: &str, kind| server.ask_sealed(&policy, asked, kind);
    assert_eq!(ask("localhost.", RecordType::A).addresses, ["127.0.0.1"]);
    assert_eq!(ask("x.localhost.", RecordType::AAAA).addresses, ["::1"]);
    assert_eq!(ask("db.test.", RecordType::A).addresses, ["10.0.0.5"]);
    assert_eq!(ask("db.test.", RecordType::AAAA).code, ResponseCode::NoError);
    assert_eq!(ask("hidden.test.", RecordType::A).code, ResponseCode::NXDomain);
    assert_eq!(ask("host.docker.internal.", RecordType::A).addresses, ["198.19.0.1"]);
    assert_eq!(ask("host.matchlock.internal.", RecordType::A).code, ResponseCode::NXDomain);

    let ptr = |asked: &str| {
        let told = ask(asked, RecordType::PTR);
        (told.code, told.data.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let found = |name: &str| (ResponseCode::NoError, vec![name.to_owned()]);
    assert_eq!(ptr("1.0.19.198.in-addr.arpa."), found("host.docker.internal."));
    assert_eq!(ptr("5.0.0.10.in-addr.arpa."), found("db.test."));
    let v6 = format!("1.{}1.0.0.0.0.0.0.0.b.6.c.6.d.6.d.f.ip6.arpa.", "0.".repeat(15));
    assert_eq!(ptr(&v6), found("host.docker.internal."));
    for asked in ["6.0.0.10.in-addr.arpa.", "8.8.8.8.in-addr.arpa.", "19.198.in-addr.arpa."] {
        assert_eq!(ptr(asked), (ResponseCode::NXDomain, vec![]), "{asked}");
    }

    // Open, they are still of this host only.
    let policy = public(config(&["*", "host.docker.internal:8080"]));
    let ask = |asked: &str, kind| server.ask_sealed(&policy, asked, kind);
    assert_eq!(ask("host.docker.internal.", RecordType::A).addresses, ["198.19.0.1"]);
    assert_eq!(ask("host.matchlock.internal.", RecordType::A).code, ResponseCode::NXDomain);
    assert_eq!(ask("hidden.test.", RecordType::A).addresses, ["10.0.0.6"]);
    assert_eq!(ask("localhost.", RecordType::A).addresses, ["127.0.0.1"]);
    for asked in ["7.0.0.10.in-addr.arpa.", "0.10.in-addr.arpa.", "lb._dns-sd._udp.0.in-addr.arpa."]
    {
        assert_eq!(ask(asked, RecordType::PTR).code, ResponseCode::NXDomain, "{asked}");
    }
    assert_eq!(server.received(), 0);
}

#[tokio::test]
async fn open_only_reachable_addresses_pass() {
    let (server, policy) = (Server::new(), public(PolicyConfig::default()));
    let set = |name, reply| server.authority.set(name, reply);
    set("mixed.example", Reply::addresses(&["10.0.0.1", "8.8.8.8", "127.0.0.1"]).ttl(30));
    set("private.example", Reply::addresses(&["192.168.1.1", "169.254.169.254", "100.64.0.1"]));
    set(
        "mapped.example",
        Reply::addresses(&["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2606:4700::1"]),
    );
    set("alias.example", Reply::alias("localhost").of("localhost", RData::A(A::new(127, 0, 0, 1))));
    set("synthetic.example", Reply::addresses(&["198.19.0.1"]));
    set("text.example", Reply::default().and(RData::TXT(TXT::new(vec!["hello".into()]))));

    let told = server.ask(&policy, "Mixed.example.", RecordType::A).await;
    assert_eq!(told.addresses, ["8.8.8.8"]);
    assert!(told.question.allowed);
    assert_eq!(server.context.seen.names(addresses(&["8.8.8.8"])[0]), [name("mixed.example")]);
    assert_eq!(server.context.seen.names(addresses(&["10.0.0.1"])[0]), []);
    let told = server.ask(&policy, "mapped.example.", RecordType::AAAA).await;
    assert_eq!(told.addresses, ["2606:4700::1"]);
    for asked in ["private.example.", "alias.example.", "synthetic.example."] {
        let told = server.ask(&policy, asked, RecordType::A).await;
        assert_eq!((told.code, told.data.len()), (ResponseCode::NoError, 0), "{asked}");
        assert!(!told.question.allowed, "{asked}");
        let denied = told.question.denied.expect("a refusal of the policy");
        assert!(denied.suggestion().expect("a range").allow_private.is_some(), "{denied}");
    }
    let told = server.ask(&policy, "text.example.", RecordType::TXT).await;
    assert_eq!(told.data.len(), 1);
    let told = server.ask(&policy, "gone.example.", RecordType::A).await;
    assert_eq!((told.code, told.question.allowed), (ResponseCode::NXDomain, true));
    let before = server.received();
    let told = server.ask(&policy, "mixed.example.", RecordType::ANY).await;
    assert_eq!((told.code, server.received()), (ResponseCode::NotImp, before));

    let private = PrivateAccess::ranges(vec!["192.168.1.0/24".parse().expect("a network")]);
    let policy = public(PolicyConfig { private, ..PolicyConfig::default() });
    let told = server.ask(&policy, "private.example.", RecordType::A).await;
    assert_eq!(told.addresses, ["192.168.1.1"]);
}

#[tokio::test]
async fn open_service_bindings_pass_only_where_tls_is_left_alone() {
    let server = Server::new();
    let ech = (SvcParamKey::Key(5), SvcParamValue::Unknown(Unknown(vec![0; 8])));
    let binding = RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), vec![ech])));
    server.authority.set("ech.example", Reply::addresses(&["8.8.8.8"]).and(binding));
    let policy = public(PolicyConfig::default());
    let told = server.ask(&policy, "ech.example.", RecordType::HTTPS).await;
    assert_eq!(told.data.len(), 1);

    let policy = public(PolicyConfig { intercept: true, ..PolicyConfig::default() });
    let before = server.received();
    for kind in [RecordType::HTTPS, RecordType::SVCB] {
        let told = server.ask_sealed(&policy, "ech.example.", kind);
        assert_eq!((told.code, told.data.len()), (ResponseCode::NoError, 0));
    }
    assert_eq!(server.received(), before);
    // Nor beside what was asked for: the server sends it along with every type.
    let told = server.ask(&policy, "ech.example.", RecordType::A).await;
    assert_eq!((told.data.len(), told.addresses.len()), (1, 1));
}

#[tokio::test]
async fn answers_that_are_too_long_come_over_tcp_on_both_sides() {
    let (server, policy) = (Server::new(), public(PolicyConfig::default()));
    let many: Vec<String> = (1..=120).map(|last| format!("8.8.8.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    server.authority.set("many.example", Reply::addresses(&many).truncated());
    let query = query("many.example.", RecordType::A);
    let answered = answer(&server.context, &policy, &query, Transport::Udp).await;
    let message = Message::from_vec(&answered.expect("an answer").bytes).expect("a message");
    assert!(message.truncation && message.answers.is_empty());
    let answered = told(answer(&server.context, &policy, &query, Transport::Tcp).await);
    assert_eq!(answered.addresses.len(), many.len());
    let ways: Vec<bool> = server.authority.received().iter().map(|query| query.tcp).collect();
    assert_eq!(ways, [false, true, false, true]);
}

#[tokio::test]
async fn forged_answers_are_not_believed() {
    let server = Server::new();
    let reply = Reply::addresses(&["8.8.8.8"]).after_forgeries("6.6.6.6");
    server.authority.set("forged.example.com", reply);
    let found = server.resolver().lookup(&name("forged.example.com")).await.expect("addresses");
    assert_eq!(found, addresses(&["8.8.8.8"]));
}

#[tokio::test]
async fn the_resolver_remembers_for_as_long_as_the_records_say() {
    let server = Server::new();
    server.authority.set("kept.example", Reply::addresses(&["8.8.8.8", "2606:4700::1"]).ttl(60));
    let flip = [Reply::addresses(&["8.8.8.8"]), Reply::addresses(&["127.0.0.1"])];
    server.authority.script("flip.example", flip);
    let resolver = server.resolver();
    for _ in 0..2 {
        let found = resolver.lookup(&name("kept.example")).await.expect("addresses");
        assert_eq!(found, addresses(&["2606:4700::1", "8.8.8.8"]));
    }
    assert_eq!(server.received(), 2);
    for expected in ["8.8.8.8", "127.0.0.1"] {
        let found = resolver.lookup(&name("flip.example")).await.expect("addresses");
        assert_eq!(found, addresses(&[expected]));
    }
}

#[tokio::test]
async fn aliases_are_followed_by_further_questions_within_bounds() {
    let server = Server::new();
    server.authority.set("a.example", Reply::alias("b.example"));
    server
        .authority
        .set("b.example", Reply::alias("c.example").of("c.example", alias("d.example")));
    server.authority.set("d.example", Reply::addresses(&["8.8.8.8"]));
    server.authority.set("circle.example", Reply::alias("circle.example"));
    server.authority.set("home.example", Reply::alias("printer.local"));
    for number in 0..40 {
        let next = format!("n{}.example", number + 1);
        server.authority.set(&format!("n{number}.example"), Reply::alias(&next));
    }
    let resolver = server.resolver();
    let found = resolver.lookup(&name("a.example")).await.expect("addresses");
    assert_eq!(found, addresses(&["8.8.8.8"]));
    for endless in ["circle.example", "n0.example"] {
        let error = resolver.lookup(&name(endless)).await.expect_err("endless");
        assert!(matches!(error, ResolveError::TooManyAliases(_)), "{error:?}");
    }
    let error = resolver.lookup(&name("home.example")).await.expect_err("of this host");
    assert!(matches!(error, ResolveError::NoAddress(_)), "{error:?}");
    assert!(server.authority.received().iter().all(|query| query.name != "printer.local"));
}

#[tokio::test]
async fn failures_differ() {
    let server = Server::new();
    server.authority.set("empty.example", Reply::default());
    server.authority.set("broken.example", Reply::code(ResponseCode::ServFail));
    server.authority.set("silent.example", Reply::silence());
    let resolver = server.resolver();
    let lookup = async |text| resolver.lookup(&name(text)).await.expect_err(text);
    assert!(matches!(lookup("gone.example").await, ResolveError::NoSuchName(_)));
    assert!(matches!(lookup("empty.example").await, ResolveError::NoAddress(_)));
    let cause = |error| match error {
        ResolveError::Upstream { cause, .. } => cause,
        other => panic!("{other:?}"),
    };
    let failed = cause(lookup("broken.example").await);
    assert!(matches!(failed, UpstreamError::Failed(ResponseCode::ServFail)), "{failed:?}");
    let quick = upstream(&[server.authority.address()]).with_limit(BRIEF);
    let quick = Resolver::new(Arc::new(quick));
    let silent = quick.lookup(&name("silent.example")).await.expect_err("no answer");
    assert!(matches!(cause(silent), UpstreamError::Timeout));

    let policy = public(PolicyConfig::default());
    let told = server.ask(&policy, "broken.example.", RecordType::A).await;
    assert_eq!(told.code, ResponseCode::ServFail);

    let none = Upstream::new(Source::file("/nonexistent/resolv.conf"));
    let error = Resolver::new(Arc::new(none)).lookup(&name("a.example")).await.expect_err("none");
    assert!(matches!(cause(error), UpstreamError::NoServer(_)));
}

#[tokio::test]
async fn questions_beyond_those_in_flight_are_refused() {
    let server = Server::new();
    server.authority.set("silent.example", Reply::silence());
    let upstream = upstream(&[server.authority.address()]);
    let silent = Query::query(Name::from_ascii("silent.example.").expect("a name"), RecordType::A);
    let mut asked: Vec<_> = (0..256).map(|_| Box::pin(upstream.ask(&silent))).collect();
    for question in &mut asked {
        let mut context = Context::from_waker(Waker::noop());
        assert!(question.as_mut().poll(&mut context).is_pending());
    }
    assert!(matches!(upstream.ask(&silent).await, Err(UpstreamError::Busy)));
    drop(asked);
    let gone = Query::query(Name::from_ascii("gone.example.").expect("a name"), RecordType::A);
    let answer = upstream.ask(&gone).await.expect("there is room again");
    assert_eq!(answer.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without_it() {
    let server = Server::new();
    server.authority.set("old.example", Reply::addresses(&["8.8.8.8"]).plain_only());
    let found = server.resolver().lookup(&name("old.example")).await.expect("addresses");
    assert_eq!(found, addresses(&["8.8.8.8"]));
}

#[tokio::test]
async fn no_server_is_asked_for_localhost() {
    let server = Server::new();
    for local in ["localhost", "a.localhost"] {
        let found = server.resolver().lookup(&name(local)).await.expect("addresses");
        assert_eq!(found, addresses(&["::1", "127.0.0.1"]));
    }
    assert_eq!(server.received(), 0);
}

#[test]
fn work_can_move_between_threads() {
    fn is_send(_: &impl Send) {}
    let (server, policy) = (Server::new(), sealed(&[]));
    is_send(&answer(&server.context, &policy, &[], Transport::Udp));
    is_send(&server.resolver().lookup(&name("a.example")));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails_or_is_not_there() {
    let (broken, good) = (Authority::new(), Authority::new());
    broken.set("a.example", Reply::code(ResponseCode::Refused));
    good.set("a.example", Reply::addresses(&["8.8.8.8"]));
    let closed = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.local_addr().expect("an address")
    };
    let servers = [closed, broken.address(), good.address()];
    let resolver = Resolver::new(Arc::new(upstream(&servers)));
    let found = resolver.lookup(&name("a.example")).await.expect("addresses");
    assert_eq!(found, addresses(&["8.8.8.8"]));
}

#[tokio::test]
async fn a_family_that_is_not_answered_does_not_hold_up_the_other() {
    let server = Server::new();
    server.authority.set("half.example", Reply::addresses(&["8.8.8.8"]).ttl(60).silent_for("AAAA"));
    let resolver = server.resolver();
    for _ in 0..2 {
        let found = resolver.lookup(&name("half.example")).await.expect("addresses");
        assert_eq!(found, addresses(&["8.8.8.8"]));
    }
    // And what is half is not remembered.
    let asked = server.authority.received();
    assert_eq!(asked.iter().filter(|query| query.kind == "A").count(), 2);
}

fn alias(target: &str) -> RData {
    let mut target = Name::from_ascii(target).expect("a name");
    target.set_fqdn(true);
    RData::CNAME(CNAME(target))
}
