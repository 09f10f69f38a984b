//! Bytes of the guest to a question, and answers to bytes (RFC 1035, RFC 6891).

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// How the question came; it decides how long the answer may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    Udp,
    /// Without the two bytes of length: framing is the caller's.
    Tcp,
}

/// The largest answer over UDP, in bytes: it passes without fragments everywhere.
pub(crate) const MAX_UDP: u16 = 1232;
/// The largest answer over UDP to who knows no EDNS (RFC 1035 4.2.1), in bytes.
const PLAIN_UDP: u16 = 512;
/// A question carries an OPT record and perhaps a signature, not more.
const MAX_ADDITIONAL: u16 = 4;

/// One well-formed question of the guest.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    /// The payload size of the asker's OPT record, if it sent one.
    edns: Option<u16>,
    transport: Transport,
    pub(crate) query: Query,
}

/// What to do with bytes that are no question for us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Unasked {
    /// No answer: too short for a header, or an answer itself.
    Ignore,
    /// This answer.
    Reply(Vec<u8>),
}

impl Asked {
    /// Reads a datagram or a TCP message.
    pub(crate) fn parse(bytes: &[u8], transport: Transport) -> Result<Self, Unasked> {
        let header = Header::read(bytes).filter(|header| !header.response);
        let header = header.ok_or(Unasked::Ignore)?;
        if header.opcode != OpCode::Query {
            return Err(header.refuse(ResponseCode::NotImp));
        }
        // Checked before decoding: the decoder makes room for as many as the header says.
        let [questions, answers, authorities, additional] = header.counts;
        if questions != 1 || answers != 0 || authorities != 0 || additional > MAX_ADDITIONAL {
            return Err(header.refuse(ResponseCode::FormErr));
        }
        let message = Message::from_vec(bytes).map_err(|_| header.refuse(ResponseCode::FormErr))?;
        let Ok([query]) = <[Query; 1]>::try_from(message.queries) else {
            return Err(header.refuse(ResponseCode::FormErr));
        };
        let asked = Self {
            id: header.id,
            recursion_desired: message.metadata.recursion_desired,
            checking_disabled: message.metadata.checking_disabled,
            edns: message.edns.as_ref().map(Edns::max_payload),
            transport,
            query,
        };
        if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Err(Unasked::Reply(asked.reply(ResponseCode::BADVERS, [])));
        }
        if asked.query.query_class != DNSClass::IN {
            return Err(Unasked::Reply(asked.reply(ResponseCode::Refused, [])));
        }
        Ok(asked)
    }

    /// The name as it was sent.
    pub(crate) fn name(&self) -> &Name {
        &self.query.name
    }

    pub(crate) fn qtype(&self) -> RecordType {
        self.query.query_type
    }

    /// An answer with these records.
    pub(crate) fn reply(
        &self,
        code: ResponseCode,
        answers: impl IntoIterator<Item = Record>,
    ) -> Vec<u8> {
        self.reply_with(code, answers.into_iter().collect(), Vec::new())
    }

    /// An answer with these records, cut to what the asker can take: then it has the TC bit and no
    /// record, and the asker comes back over TCP (RFC 2181 9).
    pub(crate) fn reply_with(
        &self,
        code: ResponseCode,
        answers: Vec<Record>,
        authorities: Vec<Record>,
    ) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.queries.push(self.query.clone());
        message.answers = answers;
        message.authorities = authorities;
        if self.edns.is_some() {
            message.edns = Some(our_edns());
        }
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= usize::from(self.limit()) => bytes,
            Ok(_) => message.truncate().to_vec().unwrap_or_default(),
            Err(_) => bare(self.id, OpCode::Query, ResponseCode::ServFail),
        }
    }

    fn limit(&self) -> u16 {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP,
            (Transport::Udp, Some(size)) => size.clamp(PLAIN_UDP, MAX_UDP),
        }
    }
}

/// A question to a server of the host's.
pub(crate) fn question(id: u16, query: Query) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(query);
    message.edns = Some(our_edns());
    message
}

/// The answer of a server, if it is one to this question (RFC 5452 9.1).
pub(crate) fn read_answer(bytes: &[u8], id: u16, query: &Query) -> Option<Message> {
    let header = Header::read(bytes)?;
    let same = header.id == id && header.response && header.opcode == OpCode::Query;
    if !same || header.counts[0] != 1 {
        return None;
    }
    let message = Message::from_vec(bytes).ok()?;
    // Names compare without regard to case.
    (message.queries == [query.clone()]).then_some(message)
}

/// A record of a name in the class IN.
pub(crate) fn record(name: &Name, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name.clone(), ttl, data)
}

fn our_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP).set_version(0);
    edns
}

/// An answer of twelve bytes.
fn bare(id: u16, opcode: OpCode, code: ResponseCode) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![high, low, 0x80 | (u8::from(opcode) << 3), 0x80 | code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The twelve bytes of RFC 1035 4.1.1, before anything else is looked at.
struct Header {
    id: u16,
    response: bool,
    opcode: OpCode,
    counts: [u16; 4],
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<12>()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Self {
            id: word(0),
            response: header[2] & 0x80 != 0,
            opcode: OpCode::from_u8(header[2] >> 3 & 0x0f),
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    fn refuse(&self, code: ResponseCode) -> Unasked {
        Unasked::Reply(bare(self.id, self.opcode, code))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::rdata::A;

    use super::*;

    fn query(name: &str, kind: RecordType) -> Query {
        Query::query(Name::from_ascii(name).expect("a name"), kind)
    }

    fn bytes(edit: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.queries.push(query("eXample.com.", RecordType::A));
        edit(&mut message);
        message.to_vec().expect("encoded")
    }

    fn code(unasked: Result<Asked, Unasked>) -> ResponseCode {
        let Err(Unasked::Reply(reply)) = unasked else { panic!("{unasked:?}") };
        let message = Message::from_vec(&reply).expect("a message");
        assert_eq!((message.id, message.message_type), (7, MessageType::Response));
        message.response_code
    }

    #[test]
    fn what_is_no_question_is_ignored_or_refused() {
        let response = bytes(|message| message.metadata.message_type = MessageType::Response);
        for ignored in [vec![], vec![0; 11], response] {
            assert_eq!(Asked::parse(&ignored, Transport::Udp).err(), Some(Unasked::Ignore));
        }
        let raw = |counts: [u8; 8], rest: &[u8]| [&[0, 7, 1, 0][..], &counts, rest].concat();
        let (one, many) = ([0, 1, 0, 0, 0, 0, 0, 0], [255, 255, 0, 0, 0, 0, 0, 0]);
        let newer = || our_edns().set_version(1).clone();
        let cases = [
            (bytes(|m| m.metadata.op_code = OpCode::Update), ResponseCode::NotImp),
            (bytes(|m| m.queries.clear()), ResponseCode::FormErr),
            (bytes(|m| m.queries.push(m.queries[0].clone())), ResponseCode::FormErr),
            (bytes(|m| m.queries[0].query_class = DNSClass::CH), ResponseCode::Refused),
            (bytes(|m| m.edns = Some(newer())), ResponseCode::BADVERS),
            (bytes(|_| ())[..14].to_vec(), ResponseCode::FormErr),
            (raw(many, &[0; 9]), ResponseCode::FormErr),
            // A name that points at itself.
            (raw(one, &[0xc0, 12, 0, 1, 0, 1]), ResponseCode::FormErr),
        ];
        for (bytes, expected) in cases {
            let code = code(Asked::parse(&bytes, Transport::Udp));
            // By number: BADVERS shares its own with BADSIG.
            assert_eq!(u16::from(code), u16::from(expected), "{bytes:?}");
        }
    }

    #[test]
    fn the_answer_keeps_id_question_and_case_and_has_edns_if_asked() {
        for edns in [false, true] {
            let bytes = bytes(|message| message.edns = edns.then(our_edns));
            let asked = Asked::parse(&bytes, Transport::Udp).expect("a question");
            let reply = Message::from_vec(&asked.reply(ResponseCode::NXDomain, [])).expect("one");
            assert_eq!((reply.id, reply.response_code), (7, ResponseCode::NXDomain));
            assert!(reply.queries[0].name.eq_case(asked.name()));
            assert_eq!(reply.edns.map(|edns| edns.max_payload()), edns.then_some(MAX_UDP));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_tcp_takes_all() {
        let records = |count: u8| {
            let name = Name::from_ascii("example.com.").expect("a name");
            (0..count).map(move |last| record(&name, 60, RData::A(A(Ipv4Addr::new(8, 8, 8, last)))))
        };
        let cut = |size: Option<u16>, transport, count| {
            let bytes = bytes(|message| {
                message.edns = size.map(|size| our_edns().set_max_payload(size).clone());
            });
            let asked = Asked::parse(&bytes, transport).expect("a question");
            let reply = asked.reply(ResponseCode::NoError, records(count));
            assert!(reply.len() <= usize::from(asked.limit()));
            let reply = Message::from_vec(&reply).expect("a message");
            assert_eq!(reply.truncation, reply.answers.is_empty());
            reply.truncation
        };
        assert!(!cut(None, Transport::Udp, 20));
        assert!(cut(None, Transport::Udp, 40));
        assert!(!cut(Some(4096), Transport::Udp, 40));
        assert!(cut(Some(4096), Transport::Udp, 100));
        assert!(cut(Some(100), Transport::Udp, 40));
        assert!(!cut(None, Transport::Tcp, 100));
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let asked = query("example.com.", RecordType::A);
        let answer = |edit: fn(&mut Message)| {
            let bytes = bytes(|message| {
                message.metadata.message_type = MessageType::Response;
                edit(message);
            });
            read_answer(&bytes, 7, &asked).is_some()
        };
        assert!(answer(|_| ()));
        assert!(!answer(|message| message.metadata.id = 8));
        assert!(!answer(|message| message.metadata.message_type = MessageType::Query));
        assert!(!answer(|message| message.metadata.op_code = OpCode::Status));
        assert!(!answer(|message| message.queries[0].query_type = RecordType::AAAA));
        assert!(!answer(|message| message.queries[0].name = Name::root()));
        assert!(!answer(|message| message.queries.clear()));
    }
}
