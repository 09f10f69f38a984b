//! What holds for every message and every way in which its bytes arrive.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

type Cuts = Vec<usize>;

fn cuts() -> impl Strategy<Value = Cuts> {
    prop_oneof![Just(vec![1]), vec(1..40_usize, 1..20)]
}

/// The bytes in pieces of these sizes, over and over.
fn pieces<'a>(mut bytes: &'a [u8], cuts: &Cuts) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts.iter().cycle() {
        let (piece, rest) = bytes.split_at(cut.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    pieces
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![9 => 0x21..0x7f_u8, 1 => 0x80..=0xff_u8, 1 => select(vec![b' ', b'\t'])];
    vec(byte, 0..20).prop_map(|bytes| crate::headers::trim(&bytes).to_vec())
}

fn fields(prefix: &'static str) -> impl Strategy<Value = Headers> {
    vec(("[A-Za-z0-9_-]{0,8}", value()), 0..5).prop_map(move |fields| {
        let field = |(name, value): (String, Vec<u8>)| {
            let name = HeaderName::try_from(format!("{prefix}{name}").as_str()).unwrap();
            (name, HeaderValue::new(value).unwrap())
        };
        fields.into_iter().map(field).collect()
    })
}

/// A body in pieces, and how it is to be framed.
#[derive(Debug, Clone)]
struct Sent {
    framing: Framing,
    data: Vec<Vec<u8>>,
    trailers: Headers,
}

fn sent() -> impl Strategy<Value = Sent> {
    let data = || vec(vec(any::<u8>(), 0..40), 0..5);
    prop_oneof![
        Just(Sent { framing: Framing::None, data: vec![], trailers: Headers::new() }),
        data().prop_map(|data| Sent {
            framing: Framing::Length(data.concat().len() as u64),
            data,
            trailers: Headers::new()
        }),
        (data(), fields("T-")).prop_map(|(data, trailers)| Sent {
            framing: Framing::Chunked,
            data,
            trailers
        }),
    ]
}

fn request() -> impl Strategy<Value = (RequestHead, Sent)> {
    let method = select(vec!["GET", "POST", "HEAD", "OPTIONS", "x!"]);
    let target = "(http://Example[.]com(:80)?)?/[!-\"$-~]{0,20}"
        .prop_filter("an encoded NUL", |target| !target.contains("%00"));
    (method, target, fields("X-"), sent()).prop_map(|(method, target, extra, sent)| {
        let method = Method::try_from(method).unwrap();
        let target = Target::parse(&method, &Bytes::from(target.into_bytes())).unwrap();
        let mut headers = headers(&[("Host", "example.com")]);
        extra.iter().for_each(|(name, value)| headers.append(name.clone(), value.clone()));
        (RequestHead { method, target, version: Version::Http11, headers }, sent)
    })
}

fn answer() -> impl Strategy<Value = (ResponseHead, Sent)> {
    let until_close = vec(vec(any::<u8>(), 0..40), 0..5).prop_map(|data| Sent {
        framing: Framing::UntilClose,
        data,
        trailers: Headers::new(),
    });
    let sent = prop_oneof![3 => sent(), 1 => until_close];
    let code = prop_oneof![3 => 200..204_u16, 1 => 205..304_u16, 1 => 305..=999_u16];
    (code, "[ -~]{0,20}", fields("X-"), sent).prop_map(|(code, reason, headers, sent)| {
        // Without a body, only some statuses will do.
        let code = if sent.framing == Framing::None { 204 } else { code };
        let status = Status::new(code).unwrap();
        let reason = Reason::new(reason.into_bytes()).unwrap();
        (ResponseHead { version: Version::Http11, status, reason, headers }, sent)
    })
}

fn encode_request(head: &RequestHead, sent: &Sent, out: &mut BytesMut) {
    let mut encoder = RequestEncoder::new();
    encoder.head(head, sent.framing, out);
    sent.data.iter().for_each(|data| encoder.data(data, out).unwrap());
    encoder.end(Some(&sent.trailers), out).unwrap();
}

fn encode_answer(head: &ResponseHead, sent: &Sent, out: &mut BytesMut) {
    let mut encoder = ResponseEncoder::new();
    encoder.head(head, sent.framing, out);
    sent.data.iter().for_each(|data| encoder.data(data, out).unwrap());
    encoder.end(Some(&sent.trailers), out).unwrap();
}

fn without_framing(headers: &Headers) -> Headers {
    let mut headers = headers.clone();
    headers.remove("content-length");
    headers.remove("transfer-encoding");
    headers
}

/// Events with nothing of the framing in their heads, to compare messages that differ only there.
fn bare(events: Vec<RequestEvent>) -> Vec<RequestEvent> {
    let bare = |event| match event {
        RequestEvent::Head(head, framing) => {
            let headers = without_framing(&head.headers);
            RequestEvent::Head(RequestHead { headers, version: Version::Http11, ..head }, framing)
        }
        event => event,
    };
    events.into_iter().map(bare).collect()
}

fn forward(events: &[RequestEvent]) -> BytesMut {
    let mut out = BytesMut::new();
    let mut encoder = RequestEncoder::new();
    let mut trailers = None;
    for event in events {
        match event {
            RequestEvent::Head(head, framing) => encoder.head(head, *framing, &mut out),
            RequestEvent::Data(data) => encoder.data(data, &mut out).unwrap(),
            RequestEvent::Trailers(fields) => trailers = Some(fields),
            RequestEvent::End => encoder.end(trailers.take(), &mut out).unwrap(),
        }
    }
    out
}

/// Changes that keep to the alphabet of the syntax, so that many of them mean something.
fn damage(bytes: &mut Vec<u8>, changes: &[(Index, u8, Option<&'static str>)]) {
    for (at, byte, insert) in changes {
        let at = at.index(bytes.len());
        match insert {
            Some(text) => drop(bytes.splice(at..at, text.bytes())),
            None => bytes[at] = *byte,
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8, Option<&'static str>)>> {
    let texts = vec!["\r\n", "\n", "\r", " ", "\0", ";a=b", ";", "0", "\r\n\r\n", ":", "0\r\n\r\n"];
    vec((any::<Index>(), any::<u8>(), proptest::option::of(select(texts))), 0..4)
}

proptest! {
    #[test]
    fn requests_mean_the_same_however_they_arrive(
        messages in vec(request(), 1..4), changes in changes(), cuts in cuts(),
    ) {
        let mut out = BytesMut::new();
        messages.iter().for_each(|(head, sent)| encode_request(head, sent, &mut out));
        let mut wire = out.to_vec();
        damage(&mut wire, &changes);
        let at_once = requests([&wire[..]]);
        prop_assert_eq!(&at_once, &requests(pieces(&wire, &cuts)));
        prop_assert_eq!(at_once.1.is_ok() || !changes.is_empty(), true);
    }

    #[test]
    fn responses_mean_the_same_however_they_arrive(
        interim in vec(100..=199_u16, 0..3), message in answer(), changes in changes(),
        cuts in cuts(), method in select(vec!["GET", "HEAD", "CONNECT"]),
    ) {
        let mut out = BytesMut::new();
        for code in interim {
            ResponseEncoder::new().head(&ResponseHead::from_static(code, "Wait"), Framing::None, &mut out);
        }
        encode_answer(&message.0, &message.1, &mut out);
        let mut wire = out.to_vec();
        damage(&mut wire, &changes);
        let request = request_head(method, &[("Connection", "upgrade"), ("Upgrade", "websocket")]);
        prop_assert_eq!(response(&request, [&wire[..]]), response(&request, pieces(&wire, &cuts)));
    }

    #[test]
    fn requests_are_read_as_they_were_written(messages in vec(request(), 1..4), cuts in cuts()) {
        let mut out = BytesMut::new();
        let mut expected = Vec::new();
        for (head, sent) in messages {
            encode_request(&head, &sent, &mut out);
            expected.push(RequestEvent::Head(head, sent.framing));
            expected.extend(Some(sent.data.concat()).filter(|data| !data.is_empty()).map(|data| {
                RequestEvent::Data(data.into())
            }));
            expected.extend(Some(sent.trailers).filter(|trailers| !trailers.is_empty())
                .map(RequestEvent::Trailers));
            expected.push(RequestEvent::End);
        }
        let (events, end) = requests(pieces(&out, &cuts));
        prop_assert_eq!((bare(events), end), (expected, Ok(())));
    }

    #[test]
    fn responses_are_read_as_they_were_written((head, sent) in answer(), cuts in cuts()) {
        let mut out = BytesMut::new();
        encode_answer(&head, &sent, &mut out);
        let (mut events, end) = response(&request_head("GET", &[]), pieces(&out, &cuts));
        let Some(ResponseEvent::Head(read, _)) = events.first_mut() else { panic!("no head") };
        read.headers = without_framing(&read.headers);
        let mut expected = vec![ResponseEvent::Head(head, sent.framing)];
        expected.extend(Some(sent.data.concat()).filter(|data| !data.is_empty()).map(|data| {
            ResponseEvent::Data(data.into())
        }));
        expected.extend(Some(sent.trailers).filter(|trailers| !trailers.is_empty())
            .map(ResponseEvent::Trailers));
        expected.push(ResponseEvent::End);
        prop_assert_eq!((events, end), (expected, Ok(())));
    }

    #[test]
    fn what_is_forwarded_means_what_was_received_and_is_canonical(
        messages in vec(request(), 1..3), changes in changes(),
    ) {
        let mut out = BytesMut::new();
        messages.iter().for_each(|(head, sent)| encode_request(head, sent, &mut out));
        let mut wire = out.to_vec();
        damage(&mut wire, &changes);
        let (mut events, _) = requests([&wire[..]]);
        let whole = events.iter().rposition(|event| *event == RequestEvent::End);
        events.truncate(whole.map_or(0, |end| end + 1));
        let sent = forward(&events);
        let (again, end) = requests([&sent[..]]);
        prop_assert_eq!((bare(again.clone()), end), (bare(events), Ok(())));
        prop_assert_eq!(forward(&again), sent);
    }

    #[test]
    fn forwardable_fields_are_all_that_is_left_and_stay_so(
        listed in vec(select(vec!["close", "x-a", "host", "te", "upgrade"]), 0..4), keep in any::<bool>(),
    ) {
        let list = listed.join(",");
        let mut once = headers(&[
            ("Host", "a"), ("X-A", "1"), ("TE", "trailers"), ("Upgrade", "tcp"),
            ("Connection", &list), ("X-B", "2"),
        ]);
        forwardable(&mut once, keep);
        let mut twice = once.clone();
        forwardable(&mut twice, keep);
        let sorted = |headers: &Headers| {
            let mut lines: Vec<_> = lines(headers).into_iter().map(|(a, b)| format!("{a}:{b}")).collect();
            lines.sort();
            lines
        };
        prop_assert_eq!(sorted(&once), sorted(&twice));
        prop_assert_eq!(once.contains("x-a"), !listed.contains(&"x-a"));
        prop_assert_eq!(once.contains("upgrade"), keep);
        prop_assert!(once.contains("host") && once.contains("x-b"));
    }
}
