//! Fields that say how the body of a response is written.

use crate::headers::{HeaderName, HeaderValue, Headers};

/// Codings that [`Decoder`](super::Decoder) undoes, and none.
const READABLE: [&str; 6] = ["gzip", "x-gzip", "deflate", "br", "zstd", "identity"];

/// What asks for a part of a body, or for one that only the client can read.
const PARTIAL: [&str; 4] = ["range", "if-range", "available-dictionary", "dictionary-id"];

/// Checks of the body as the server sent it, which no longer hold.
const DIGESTS: [&str; 4] = ["content-md5", "content-digest", "repr-digest", "digest"];

/// Makes a request ask for what can be looked into: a whole body, in codings that are known. For
/// requests whose responses will be scrubbed or edited.
pub fn ask_for_readable(headers: &mut Headers) {
    for name in PARTIAL {
        headers.remove(name);
    }
    if !headers.contains("accept-encoding") {
        return;
    }
    let is_readable = |member: &&[u8]| {
        let name = member.split(|&byte| byte == b';').next().unwrap_or_default();
        READABLE.iter().any(|coding| coding.as_bytes().eq_ignore_ascii_case(name.trim_ascii()))
    };
    let readable: Vec<&[u8]> = headers.members("accept-encoding").filter(is_readable).collect();
    let value = if readable.is_empty() { b"identity".to_vec() } else { readable.join(&b", "[..]) };
    let value = HeaderValue::new(value).expect("members of a value");
    headers.set(HeaderName::from_static("Accept-Encoding"), value);
}

/// Makes the fields of a response fit a body that was changed: of this length, or of one that is
/// not known yet, and without a content coding.
pub fn fit_headers(headers: &mut Headers, length: Option<u64>) {
    for name in ["content-encoding", "transfer-encoding"].iter().chain(&DIGESTS) {
        headers.remove(name);
    }
    match length {
        Some(length) => {
            headers.set(HeaderName::from_static("Content-Length"), HeaderValue::from(length));
        }
        None => {
            headers.remove("content-length");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{head, headers, text};
    use super::*;

    #[test]
    fn responses_will_be_readable() {
        for (accepted, expected) in [
            (&["gzip, br;q=0.5, dcb, compress"][..], "Accept-Encoding: gzip, br;q=0.5"),
            (&["*", "ZSTD ; q=1"], "Accept-Encoding: ZSTD ; q=1"),
            (&["dcz, *"], "Accept-Encoding: identity"),
            (&[], ""),
        ] {
            let fields: Vec<_> = accepted.iter().map(|value| ("Accept-Encoding", *value)).collect();
            let mut head = head("/", &fields);
            ask_for_readable(&mut head.headers);
            assert_eq!(text(&head).trim_start_matches("/").trim(), expected);
        }
        let mut ranges = headers(&[("Range", "bytes=0-1"), ("If-Range", "x"), ("A", "b")]);
        ask_for_readable(&mut ranges);
        assert_eq!(ranges, headers(&[("A", "b")]));
    }

    #[test]
    fn fields_fit_the_changed_body() {
        let fields = headers(&[
            ("Content-Length", "9"),
            ("Content-Encoding", "gzip"),
            ("Transfer-Encoding", "chunked"),
            ("Digest", "x"),
            ("A", "b"),
        ]);
        let mut known = fields.clone();
        fit_headers(&mut known, Some(3));
        assert_eq!(known, headers(&[("Content-Length", "3"), ("A", "b")]));
        let mut unknown = fields;
        fit_headers(&mut unknown, None);
        assert_eq!(unknown, headers(&[("A", "b")]));
    }
}
