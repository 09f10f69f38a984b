//! What concerns one connection only, and is not forwarded (RFC 9110, section 7.6.1).

use super::{RequestHead, Version};
use crate::headers::{HeaderName, HeaderValue, Headers};

/// Removes the fields that are for the next hop only: `Connection` and what it names, `Keep-Alive`,
/// `Proxy-*`, `TE` but for `trailers`, `Transfer-Encoding`, `Upgrade`. With `keep_upgrade`, `Upgrade`
/// stays; give it for requests that [ask for one](asks_for_upgrade) and for their 101. `Connection`
/// names what stays.
pub fn forwardable(headers: &mut Headers, keep_upgrade: bool) {
    let named: Vec<_> = headers.members("connection").map(<[u8]>::to_vec).collect();
    let trailers = headers.has_member("te", "trailers");
    let upgrade = keep_upgrade && headers.contains("upgrade");
    headers.retain(|name, _| {
        if name.is("upgrade") {
            return upgrade;
        }
        let named = named.iter().any(|other| name.as_bytes().eq_ignore_ascii_case(other));
        !is_hop_by_hop(name.as_str()) && (!named || is_essential(name))
    });
    if trailers {
        headers.append(HeaderName::from_static("TE"), HeaderValue::from_static("trailers"));
    }
    let options = match (upgrade, trailers) {
        (false, false) => return,
        (false, true) => "TE",
        (true, false) => "Upgrade",
        (true, true) => "Upgrade, TE",
    };
    headers.append(HeaderName::from_static("Connection"), HeaderValue::from_static(options));
}

/// Whether a request asks to go on in another protocol that may be tunnelled. Not in another HTTP, nor
/// in TLS: the requests within would pass unseen.
#[must_use]
pub fn asks_for_upgrade(request: &RequestHead) -> bool {
    let unseen = |protocol: &[u8]| {
        let protocol = protocol.to_ascii_lowercase();
        [&b"h2"[..], b"h3", b"http", b"tls"].iter().any(|prefix| protocol.starts_with(prefix))
    };
    let headers = &request.headers;
    request.version == Version::Http11
        && headers.has_member("connection", "upgrade")
        && headers.members("upgrade").next().is_some()
        && !headers.members("upgrade").any(unseen)
}

/// Whether the sender of this message keeps the connection (RFC 9112, section 9.3), as far as version
/// and fields tell: a body until close ends it anyway.
#[must_use]
pub fn persists(version: Version, headers: &Headers) -> bool {
    let says = |option| headers.has_member("connection", option);
    !says("close") && (version == Version::Http11 || says("keep-alive"))
}

pub(super) fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 6] =
        ["connection", "http2-settings", "keep-alive", "te", "transfer-encoding", "upgrade"];
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other))
        || name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("proxy-"))
}

/// What a sender must not have removed by naming it in `Connection`.
fn is_essential(name: &HeaderName) -> bool {
    name.is("host") || name.is("content-length")
}
