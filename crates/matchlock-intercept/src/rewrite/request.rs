//! Placeholders to secrets in the heads of requests.

use bytes::Bytes;
use matchlock_policy::{Bound, Revealed, SecretName};
use zeroize::Zeroizing;

use super::basic::Basic;
use super::leak::{Leak, check_head, check_trailers};
use super::stream::Matcher;
use super::{forms, percent};
use crate::h1::{PathAndQuery, RequestHead};
use crate::headers::{HeaderName, HeaderValue, Headers, trim};

/// Replaces placeholders by the values that the request may use: in the values of its fields but
/// `Host`, within Basic credentials too, and in its query. Not in its path. Says whose were
/// replaced.
///
/// In the query the value is percent-encoded, since that is what its reader undoes.
///
/// # Errors
///
/// If the placeholder of another secret is anywhere in the head; the head is as it was then.
pub fn request(head: &mut RequestHead, bound: &Bound<'_>) -> Result<Vec<SecretName>, Leak> {
    check_head(head, bound)?;
    let secrets: Vec<Revealed<'_>> = bound.permitted().collect();
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    let mut used = vec![false; secrets.len()];
    fields(&mut head.headers, &secrets, &mut used);
    if let Some(path_and_query) = head.target.path_and_query_mut() {
        query(path_and_query, &secrets, &mut used);
    }
    Ok(names(&secrets, &used))
}

/// The same for the fields after a body.
///
/// # Errors
///
/// If the placeholder of another secret is among them; they are as they were then.
pub fn trailers(trailers: &mut Headers, bound: &Bound<'_>) -> Result<Vec<SecretName>, Leak> {
    check_trailers(trailers, bound)?;
    let secrets: Vec<Revealed<'_>> = bound.permitted().collect();
    let mut used = vec![false; secrets.len()];
    fields(trailers, &secrets, &mut used);
    Ok(names(&secrets, &used))
}

fn names(secrets: &[Revealed<'_>], used: &[bool]) -> Vec<SecretName> {
    let used = secrets.iter().zip(used).filter(|(_, used)| **used);
    used.map(|(secret, _)| secret.name.clone()).collect()
}

fn fields(headers: &mut Headers, secrets: &[Revealed<'_>], used: &mut [bool]) {
    let literal = |(tag, secret): (usize, &Revealed<'_>)| {
        forms::literal(secret.placeholder.as_str().as_bytes(), tag)
    };
    let matcher = Matcher::new(secrets.iter().enumerate().flat_map(literal).collect());
    let replace = |bytes: &[u8], hits: &mut Vec<usize>| {
        matcher.replace(bytes, |tag| secrets[tag].value, |tag| hits.push(tag))
    };
    for (name, value) in headers.iter_mut().filter(|(name, _)| !name.is("host")) {
        let mut hits = Vec::new();
        let replaced = match Basic::parse(value.as_bytes()).filter(|_| has_credentials(name)) {
            Some(basic) => {
                replace(&basic.credentials, &mut hits).map(|credentials| basic.with(&credentials))
            }
            None => replace(value.as_bytes(), &mut hits),
        };
        let Some(replaced) = replaced else { continue };
        // A value that no field can have leaves the placeholder: the server will refuse that.
        if let Ok(new) = HeaderValue::new(Bytes::copy_from_slice(trim(&replaced))) {
            *value = new;
            for hit in hits {
                used[hit] = true;
            }
        }
    }
}

fn has_credentials(name: &HeaderName) -> bool {
    name.is("authorization") || name.is("proxy-authorization")
}

fn query(path_and_query: &mut PathAndQuery, secrets: &[Revealed<'_>], used: &mut [bool]) {
    let Some(query) = path_and_query.query() else { return };
    let pattern = |(tag, secret): (usize, &Revealed<'_>)| {
        forms::query(secret.placeholder.as_str().as_bytes(), tag)
    };
    let matcher = Matcher::new(secrets.iter().enumerate().flat_map(pattern).collect());
    if matcher.first(query).is_none() {
        return;
    }
    let encoded: Vec<_> = secrets.iter().map(|secret| encoded(secret.value)).collect();
    let replaced = matcher.replace(query, |tag| &encoded[tag], |tag| used[tag] = true);
    if let Some(new) = replaced.and_then(|query| path_and_query.with_query(Some(&query)).ok()) {
        *path_and_query = new;
    }
}

fn encoded(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    percent::encode_into(value, b"", &mut out);
    out
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use matchlock_policy::{SecretSpec, Secrets, Transport};

    use super::super::testing::{allowed, head, headers, placeholder, secrets, spec, text};
    use super::*;

    fn three() -> Secrets {
        let https_only = SecretSpec { https_only: true, ..spec("TLS", "tls-value", "example.com") };
        secrets(vec![
            spec("OWN", "va/l ue=+%", "example.com"),
            spec("FOREIGN", "foreign-value", "example.net"),
            https_only,
        ])
    }

    /// With `1`, `2` and `3` in braces for the placeholders.
    fn run(
        transport: Transport,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Result<(String, Vec<String>), String> {
        let secrets = three();
        let fill = |text: &str| {
            (0..3).fold(text.to_owned(), |text, at| {
                text.replace(&format!("{{{}}}", at + 1), &placeholder(&secrets, at))
            })
        };
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, fill(value))).collect();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut head = head(&fill(target), &fields);
        let bound = secrets.reveal(&allowed("example.com"), transport);
        let used = request(&mut head, &bound).map_err(|leak| leak.secret.to_string())?;
        let text = (0..3).fold(text(&head), |text, at| {
            text.replace(&placeholder(&secrets, at), &format!("{{{}}}", at + 1))
        });
        Ok((text, used.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn placeholders_are_replaced_in_fields_and_query_only() {
        let fields = [("Host", "{1}"), ("Authorization", "Bearer {1}"), ("X", "a{3}{1}{1}b")];
        let (text, used) = run(Transport::Tls, "/p/{1}?k={1}&l=x{3}", &fields).unwrap();
        assert_eq!(
            text,
            "/p/{1}?k=va%2Fl%20ue%3D%2B%25&l=xtls-value\nHost: {1}\n\
             Authorization: Bearer va/l ue=+%\nX: atls-valueva/l ue=+%va/l ue=+%b"
        );
        assert_eq!(used, ["OWN", "TLS"]);
        let (text, used) = run(Transport::Tls, "/{1}", &[("A", "SANDBOX_SECRET_")]).unwrap();
        assert_eq!((text.as_str(), used.len()), ("/{1}\nA: SANDBOX_SECRET_", 0));
    }

    #[test]
    fn escaped_placeholders_in_queries_are_found() {
        let escaped: String =
            placeholder(&three(), 0).bytes().map(|byte| format!("%{byte:02x}")).collect();
        for query in [escaped.to_uppercase(), escaped] {
            let (text, _) = run(Transport::Tls, &format!("/?k={query}"), &[]).unwrap();
            assert_eq!(text, "/?k=va%2Fl%20ue%3D%2B%25");
        }
    }

    #[test]
    fn basic_credentials_are_replaced_inside() {
        let placeholder = placeholder(&three(), 0);
        for user in ["u", "us", "use"] {
            let (old, new) = (format!("{user}:{placeholder}"), format!("{user}:va/l ue=+%"));
            let padded = format!("Basic {}", STANDARD.encode(&old));
            let fields = [("authorization", padded.as_str())];
            let (text, used) = run(Transport::Tls, "/", &fields).unwrap();
            assert_eq!(text, format!("/\nauthorization: Basic {}", STANDARD.encode(&new)));
            assert_eq!(used, ["OWN"]);
            if !old.len().is_multiple_of(3) {
                let bare = format!("basic {}", STANDARD_NO_PAD.encode(&old));
                let (text, _) =
                    run(Transport::Tls, "/", &[("Proxy-Authorization", &bare)]).unwrap();
                let expected = STANDARD_NO_PAD.encode(&new);
                assert_eq!(text, format!("/\nProxy-Authorization: basic {expected}"));
            }
        }
    }

    #[test]
    fn foreign_placeholders_are_refused_wherever_they_are() {
        let foreign = placeholder(&three(), 1);
        let basic = format!("Basic {}", STANDARD.encode(format!("user:{foreign}")));
        let escaped = foreign.replace('_', "%5f");
        for (target, name, value) in [
            ("/{2}", "A", "b"),
            ("/?{2}", "A", "b"),
            (&format!("/{escaped}"), "A", "b"),
            (&format!("/?a={escaped}"), "A", "b"),
            ("/", "Host", "{2}"),
            ("/", "A", "b {2}"),
            ("/", foreign.as_str(), "b"),
            ("/", "Authorization", basic.as_str()),
            ("/", "Cookie", &basic[6..]),
            ("/", "A", escaped.as_str()),
        ] {
            let result = run(Transport::Tls, target, &[(name, value), ("B", "{1}")]);
            assert_eq!(result.unwrap_err(), "FOREIGN", "{target} {name}: {value}");
        }
        assert_eq!(run(Transport::Plain, "/", &[("A", "{3}")]).unwrap_err(), "TLS");
        assert!(run(Transport::Plain, "/", &[("A", "{1}")]).is_ok());
    }

    #[test]
    fn trailers_are_fields_too() {
        let secrets = three();
        let bound = secrets.reveal(&allowed("example.com"), Transport::Tls);
        let mut fields = headers(&[("A", &placeholder(&secrets, 2))]);
        assert_eq!(trailers(&mut fields, &bound).unwrap().len(), 1);
        assert_eq!(fields, headers(&[("A", "tls-value")]));
        let mut foreign = headers(&[("A", &placeholder(&secrets, 1))]);
        assert_eq!(trailers(&mut foreign, &bound).unwrap_err().secret.as_str(), "FOREIGN");
    }

    #[test]
    fn a_value_that_no_field_can_have_is_not_sent() {
        let secrets = secrets(vec![spec("ODD", "a\x01bcd", "*")]);
        let bound = secrets.reveal(&allowed("example.com"), Transport::Tls);
        let before = head("/", &[("A", &placeholder(&secrets, 0))]);
        let mut after = before.clone();
        assert_eq!(request(&mut after, &bound), Ok(Vec::new()));
        assert_eq!(after, before);
    }
}
