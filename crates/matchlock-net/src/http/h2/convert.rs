//! Heads of HTTP/2 as those that everything else knows, and back.

use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderMap, Request, Response, Uri};
use matchlock_intercept::h1::{
    InvalidHead, InvalidTarget, Method, PathAndQuery, Reason, RequestHead, ResponseHead, Status,
    Target, Version,
};
use matchlock_intercept::headers::{HeaderName, HeaderValue, Headers, InvalidHeader};

/// Fields that say how a message is carried over HTTP/1 (RFC 9113 section 8.2.2).
const CONNECTION_FIELDS: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Fields that are never put into a compression table: their values could be guessed byte by byte
/// from the lengths of what is sent.
const SENSITIVE: [&str; 5] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];

/// What is not the head of a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MalformedHead {
    #[error("the request has no :authority")]
    NoAuthority,
    #[error("the request has a Host field that differs from its :authority")]
    Host,
    #[error("the :scheme is not that of the connection")]
    Scheme,
    #[error("the method or the status is malformed")]
    Start(#[from] InvalidHead),
    #[error("the :path is malformed")]
    Path(#[from] InvalidTarget),
    #[error("a header field is malformed")]
    Field(#[from] InvalidHeader),
    #[error("there are too many header fields")]
    TooManyFields,
    #[error("the :protocol cannot be tunnelled")]
    Protocol,
    #[error("the head cannot be sent over HTTP/2")]
    Http(#[from] http::Error),
}

/// A request's head, with `:authority` as its `Host`. One that opens a tunnel (RFC 8441) looks like
/// the handshake over HTTP/1 that it replaces: a GET.
pub(super) fn request_head(
    parts: &http::request::Parts,
    tls: bool,
) -> Result<RequestHead, MalformedHead> {
    // RFC 9113 section 8.3.1: without it, Host says it.
    let named = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all("host").iter().map(http::HeaderValue::as_bytes);
    let host = named.or_else(|| hosts.next()).ok_or(MalformedHead::NoAuthority)?;
    if hosts.any(|other| !other.eq_ignore_ascii_case(host)) {
        return Err(MalformedHead::Host);
    }
    let host = HeaderValue::new(Bytes::copy_from_slice(host))?;
    let tunnel = parts.extensions.get::<Protocol>();
    if tunnel.is_some_and(|protocol| protocol.as_str() != "websocket") {
        return Err(MalformedHead::Protocol);
    }
    let is_connect = parts.method == http::Method::CONNECT && tunnel.is_none();
    let own = if tls { "https" } else { "http" };
    if !is_connect && parts.uri.scheme_str().is_some_and(|scheme| scheme != own) {
        return Err(MalformedHead::Scheme);
    }
    let method = if tunnel.is_some() { "GET" } else { parts.method.as_str() };
    let method = Method::try_from(method)?;
    let mut headers = Headers::new();
    headers.append(HeaderName::from_static("host"), host);
    append(&mut headers, &parts.headers, |name| name != "host")?;
    let target = target(&parts.uri, &method)?;
    Ok(RequestHead { method, target, version: Version::Http11, headers })
}

/// A head for the outside. Values that are not in `known` were put in by us: secrets among them.
pub(super) fn to_request(
    head: &RequestHead,
    known: &Headers,
    tunnel: Option<Protocol>,
    tls: bool,
) -> Result<Request<()>, MalformedHead> {
    let host = head.headers.get("host").and_then(HeaderValue::to_str);
    let path = match &head.target {
        Target::Asterisk => &b"*"[..],
        target => target.path_and_query().map_or(&b"/"[..], PathAndQuery::as_bytes),
    };
    let uri = Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(host.ok_or(MalformedHead::NoAuthority)?)
        .path_and_query(path)
        .build()?;
    let method = if tunnel.is_some() { "CONNECT" } else { head.method.as_str() };
    let mut request = Request::builder().method(method).uri(uri).body(())?;
    *request.version_mut() = http::Version::HTTP_2;
    if let Some(protocol) = tunnel {
        request.extensions_mut().insert(protocol);
    }
    fill(request.headers_mut(), &head.headers, known)?;
    request.headers_mut().remove("host");
    Ok(request)
}

/// A response's head.
pub(super) fn response_head(response: &Response<()>) -> Result<ResponseHead, MalformedHead> {
    let mut headers = Headers::new();
    append(&mut headers, response.headers(), |_| true)?;
    Ok(ResponseHead {
        version: Version::Http11,
        status: Status::new(response.status().as_u16())?,
        reason: Reason::default(),
        headers,
    })
}

/// A head for the guest.
pub(super) fn to_response(head: &ResponseHead) -> Result<Response<()>, MalformedHead> {
    let mut response = Response::builder().status(head.status.code()).body(())?;
    *response.version_mut() = http::Version::HTTP_2;
    fill(response.headers_mut(), &head.headers, &head.headers)?;
    Ok(response)
}

/// Trailers, or the fields of any head.
pub(super) fn fields(map: &HeaderMap) -> Result<Headers, MalformedHead> {
    let mut headers = Headers::new();
    append(&mut headers, map, |_| true)?;
    Ok(headers)
}

/// Trailers to send.
pub(super) fn to_fields(headers: &Headers) -> Result<HeaderMap, MalformedHead> {
    let mut map = HeaderMap::new();
    fill(&mut map, headers, headers)?;
    Ok(map)
}

fn target(uri: &Uri, method: &Method) -> Result<Target, MalformedHead> {
    if method.is("CONNECT") {
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        let bytes = Bytes::copy_from_slice(authority.as_bytes());
        return Ok(Target::parse(method, &bytes)?);
    }
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if path == "*" {
        return Ok(Target::Asterisk);
    }
    Ok(Target::Origin(PathAndQuery::new(Bytes::copy_from_slice(path.as_bytes()))?))
}

fn append(
    headers: &mut Headers,
    map: &HeaderMap,
    keep: impl Fn(&str) -> bool,
) -> Result<(), MalformedHead> {
    if map.len() > matchlock_intercept::h1::MAX_FIELDS {
        return Err(MalformedHead::TooManyFields);
    }
    for (name, value) in map {
        if keep(name.as_str()) {
            let name = HeaderName::try_from(name.as_str())?;
            let value = HeaderValue::new(Bytes::copy_from_slice(value.as_bytes().trim_ascii()))?;
            headers.append(name, value);
        }
    }
    Ok(())
}

fn fill(map: &mut HeaderMap, headers: &Headers, known: &Headers) -> Result<(), MalformedHead> {
    for (name, value) in headers.iter() {
        if CONNECTION_FIELDS.iter().any(|field| name.is(field)) {
            continue;
        }
        let is_known = known.get_all(name.as_str()).any(|other| other == value);
        let is_sensitive = !is_known || SENSITIVE.iter().any(|field| name.is(field));
        let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(http::Error::from)?;
        let mut value =
            http::HeaderValue::from_bytes(value.as_bytes()).map_err(http::Error::from)?;
        value.set_sensitive(is_sensitive);
        map.try_append(name, value).map_err(http::Error::from)?;
    }
    Ok(())
}
