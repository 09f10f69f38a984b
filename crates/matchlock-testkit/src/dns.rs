//! A name server for tests: it answers from a script, over UDP and TCP, and remembers each query.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// How long a client over TCP may keep its thread waiting.
const TCP_LIMIT: Duration = Duration::from_secs(5);

/// A name server on a port of the loopback interface, until it is dropped. Names that it was not
/// told of do not exist.
#[derive(Debug)]
pub struct Authority {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A query that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received {
    /// As it was asked, lower case, without a dot at the end.
    pub name: String,
    /// Such as `A`.
    pub kind: String,
    /// Over TCP, not UDP.
    pub tcp: bool,
}

/// What a name answers: `Reply::default()` is an empty answer without error and a TTL of 0.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    records: Vec<(Option<String>, RData)>,
    ttl: u32,
    code: ResponseCode,
    truncated: bool,
    forged: Vec<IpAddr>,
    silent: bool,
    silent_for: Option<&'static str>,
    plain_only: bool,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<HashMap<String, Vec<Reply>>>,
    asked: Mutex<HashMap<(String, RecordType), usize>>,
    log: Mutex<Vec<Received>>,
    stop: AtomicBool,
}

impl Reply {
    /// These addresses; a question for `A` gets the IPv4 ones, one for `AAAA` the IPv6 ones.
    #[must_use]
    pub fn addresses(addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address"));
        Self { records: addresses.map(|ip| (None, address_data(ip))).collect(), ..Self::default() }
    }

    /// The name is an alias of `target`. What follows with [`Reply::of`] can be of the target.
    ///
    /// # Panics
    /// When `target` is no name.
    #[must_use]
    pub fn alias(target: &str) -> Self {
        Self { records: vec![(None, RData::CNAME(CNAME(wire_name(target))))], ..Self::default() }
    }

    /// An error, such as `ResponseCode::ServFail`.
    #[must_use]
    pub fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    /// No answer at all.
    #[must_use]
    pub fn silence() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// No answer to questions for this type, such as `AAAA`.
    #[must_use]
    pub fn silent_for(mut self, kind: &'static str) -> Self {
        self.silent_for = Some(kind);
        self
    }

    /// As a server that does not know EDNS: such questions get FORMERR.
    #[must_use]
    pub fn plain_only(mut self) -> Self {
        self.plain_only = true;
        self
    }

    /// With one more record of the name itself, of any type.
    #[must_use]
    pub fn and(mut self, data: RData) -> Self {
        self.records.push((None, data));
        self
    }

    /// With one more record, of another name.
    #[must_use]
    pub fn of(mut self, owner: &str, data: RData) -> Self {
        self.records.push((Some(owner.to_owned()), data));
        self
    }

    /// With a TXT record.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.and(RData::TXT(TXT::new(vec![text.to_owned()])))
    }

    /// With an address of another name: what an alias leads to.
    ///
    /// # Panics
    /// When `address` is none.
    #[must_use]
    pub fn address_of(self, owner: &str, address: &str) -> Self {
        self.of(owner, address_data(address.parse().expect("an address")))
    }

    /// With this TTL, in seconds.
    #[must_use]
    pub fn ttl(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }

    /// Over UDP only the TC bit comes, whatever the length.
    #[must_use]
    pub fn truncated(mut self) -> Self {
        self.truncated = true;
        self
    }

    /// Before the answer come forged ones with this address: one with another id, one to another
    /// question, one that is a query.
    #[must_use]
    pub fn after_forgeries(mut self, address: &str) -> Self {
        self.forged.push(address.parse().expect("an address"));
        self
    }
}

impl Authority {
    /// Starts one that knows no name.
    ///
    /// # Panics
    /// When there is no port with both UDP and TCP.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts threads")]
    pub fn new() -> Self {
        let (udp, tcp) = bind().expect("a port on loopback");
        let address = udp.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let threads = vec![
            std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || serve_udp(&udp, &shared)
            }),
            std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || serve_tcp(&tcp, &shared)
            }),
        ];
        Self { address, shared, threads }
    }

    /// Where it listens, UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` answers `reply`.
    pub fn set(&self, name: &str, reply: Reply) {
        self.script(name, [reply]);
    }

    /// From now on `name` answers the first to its first question of a type, the second to its
    /// second one, and so on; the last stays. `*.suffix` is for the names below that have no
    /// script of their own.
    pub fn script(&self, name: &str, replies: impl IntoIterator<Item = Reply>) {
        let name = name.to_ascii_lowercase();
        lock(&self.shared.asked).retain(|(asked, _), _| *asked != name);
        lock(&self.shared.script).insert(name, replies.into_iter().collect());
    }

    /// All that arrived so far, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.log).clone()
    }

    /// Forgets the questions so far.
    pub fn forget(&self) {
        lock(&self.shared.log).clear();
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Each thread waits for something to arrive.
        let wake = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let _ = wake.and_then(|socket| socket.send_to(&[], self.address));
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the server did not panic");
            }
        }
    }
}

impl Shared {
    /// The datagrams to send for one that arrived.
    fn answer(&self, bytes: &[u8], tcp: bool) -> Vec<Vec<u8>> {
        let Ok(message) = Message::from_vec(bytes) else { return Vec::new() };
        let Some(query) = message.queries.first().cloned() else { return Vec::new() };
        let name = query.name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let kind = query.query_type;
        lock(&self.log).push(Received { name: name.clone(), kind: kind.to_string(), tcp });
        let Some(reply) = self.reply(&name, kind) else {
            return vec![encode(message.id, &query, |m| {
                m.metadata.response_code = ResponseCode::NXDomain;
            })];
        };
        if reply.silent || reply.silent_for.is_some_and(|silent| silent == kind.to_string()) {
            return Vec::new();
        }
        if reply.plain_only && message.edns.is_some() {
            return vec![encode(message.id, &query, |m| {
                m.metadata.response_code = ResponseCode::FormErr;
            })];
        }
        let mut datagrams = reply.forgeries(message.id, &query);
        datagrams.push(encode(message.id, &query, |answer| {
            answer.metadata.response_code = reply.code;
            answer.metadata.truncation = reply.truncated && !tcp;
            if !answer.metadata.truncation {
                answer.answers = reply.records(&query);
            }
        }));
        datagrams
    }

    fn reply(&self, name: &str, kind: RecordType) -> Option<Reply> {
        let script = lock(&self.script);
        let mut parents = name.match_indices('.').map(|(at, _)| format!("*{}", &name[at..]));
        let key = if script.contains_key(name) {
            name.to_owned()
        } else {
            parents.find(|parent| script.contains_key(parent))?
        };
        let replies = &script[&key];
        let mut asked = lock(&self.asked);
        let count = asked.entry((key, kind)).or_default();
        let reply = replies.get(*count).or(replies.last()).cloned();
        *count += 1;
        reply
    }
}

impl Reply {
    fn records(&self, query: &Query) -> Vec<Record> {
        let kind = query.query_type;
        let records = self.records.iter().filter(|(_, data)| {
            let own = data.record_type();
            // Both families are told together; what is of neither is for whoever asks.
            own == kind || !matches!(own, RecordType::A | RecordType::AAAA)
        });
        let owner = |owner: &Option<String>| owner.as_deref().map(wire_name);
        records
            .map(|(name, data)| {
                let name = owner(name).unwrap_or_else(|| query.name.clone());
                Record::from_rdata(name, self.ttl, data.clone())
            })
            .collect()
    }

    fn forgeries(&self, id: u16, query: &Query) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        for &address in &self.forged {
            let record = Record::from_rdata(query.name.clone(), 300, address_data(address));
            let mut other = query.clone();
            other.name = wire_name("forged.example");
            datagrams.push(encode(id ^ 1, query, |m| m.answers.push(record.clone())));
            datagrams.push(encode(id, &other, |m| m.answers.push(record.clone())));
            let mut question = encode(id, query, |m| m.answers.push(record));
            question[2] &= 0x7f;
            datagrams.push(question);
        }
        datagrams
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while let Ok((count, from)) = socket.recv_from(&mut buffer) {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        for datagram in shared.answer(&buffer[..count], false) {
            let _ = socket.send_to(&datagram, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Shared) {
    while let Ok((mut stream, _)) = listener.accept() {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        // A client that goes away in the middle is a test's right.
        let _ = serve_stream(&mut stream, shared);
    }
}

fn serve_stream(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(TCP_LIMIT))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        for answer in shared.answer(&message, true) {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
        }
    }
}

fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    // The port that UDP gets may be taken for TCP.
    for _ in 0..32 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn encode(id: u16, query: &Query, edit: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::response(id, OpCode::Query);
    message.queries.push(query.clone());
    message.metadata.recursion_available = true;
    edit(&mut message);
    message.to_vec().expect("records that can be encoded")
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn wire_name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_played_by_type_and_the_last_reply_stays() {
        let authority = Authority::new();
        let replies = [Reply::addresses(&["8.8.8.8"]), Reply::addresses(&["127.0.0.1", "::1"])];
        authority.script("flip.example", replies);
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        client.set_read_timeout(Some(TCP_LIMIT)).expect("set");
        let ask = |kind| {
            let mut query = Message::query();
            query.add_query(Query::query(wire_name("Flip.example"), kind));
            let bytes = query.to_vec().expect("encoded");
            client.send_to(&bytes, authority.address()).expect("sent");
            let mut buffer = [0; 512];
            let count = client.recv(&mut buffer).expect("answered");
            let answer = Message::from_vec(&buffer[..count]).expect("a message");
            let addresses = answer.answers.iter().filter_map(|record| record.data.ip_addr());
            addresses.map(|ip| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ask(RecordType::A), ["8.8.8.8"]);
        assert_eq!(ask(RecordType::A), ["127.0.0.1"]);
        assert_eq!(ask(RecordType::A), ["127.0.0.1"]);
        assert_eq!(ask(RecordType::AAAA), [""; 0]);
        assert_eq!(ask(RecordType::AAAA), ["::1"]);
        let first = Received { name: "flip.example".into(), kind: "A".into(), tcp: false };
        assert_eq!((authority.received().len(), &authority.received()[0]), (5, &first));
    }
}
