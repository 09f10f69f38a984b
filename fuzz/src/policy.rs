//! Text that decides what a sandbox may reach: names from the guest, patterns and secrets from the
//! command line, a client or a file.

use std::error::Error;

use matchlock_policy::{Endpoint, Host, HostName, HostPattern, SecretSpec};

/// A pattern in the first line, a host in the second.
pub fn host_pattern(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (pattern, host) = text.split_once('\n').unwrap_or((&text, ""));
    let host = host_is_canonical(host);
    host_is_canonical(pattern);

    let Ok(own) = pattern.parse::<HostPattern>() else {
        return;
    };
    assert_eq!(own.to_string().parse().as_ref(), Ok(&own), "printing changes a pattern");
    let port = own.port().unwrap_or(443);
    for service in [HostName::HOST_MATCHLOCK, HostName::HOST_DOCKER] {
        let service: Host = service.parse().expect("a name");
        let named = own.port().is_some() && !pattern.contains('*');
        assert!(named || !own.matches(&service, port), "a pattern opens the host's services");
    }
    let Some(host) = host else {
        return;
    };
    let matches = own.matches(&host, port);
    let literal = host.ip().is_some() && pattern.contains('*');
    let star = pattern.trim() == "*" || pattern.trim().starts_with("*:");
    assert!(!(matches && literal && !star), "a wildcard matches an address");
    if let Ok(upper) = pattern.to_ascii_uppercase().parse::<HostPattern>() {
        assert_eq!(upper.matches(&host, port), matches, "case matters");
    }
    assert!(!own.matches(&host, port ^ 1) || own.port().is_none(), "the port does not matter");
}

/// A name in the first line, and the value and what follows it in the rest; the whole is also read as
/// the content of a file.
pub fn secret_spec(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (name, rest) = text.split_once('\n').unwrap_or(("K", &text));
    let composed = format!("{name}={CANARY}{rest}");
    if !name.contains(CANARY)
        && let Err(error) = SecretSpec::parse(&composed, &|_| None)
    {
        assert!(!tells(&error), "an error tells the value");
    }
    match SecretSpec::parse(&text, &|name| (name.len() % 2 == 0).then(|| CANARY.to_owned())) {
        Ok(spec) => assert!(!spec.hosts.is_empty(), "a secret for every host"),
        Err(error) => {
            assert!(error.name().is_some_and(|n| text.contains(n.as_str())) || !tells(&error))
        }
    }
    match SecretSpec::parse_file(input) {
        Ok(specs) => assert!(specs.iter().all(|spec| !spec.hosts.is_empty())),
        Err(matchlock_policy::InvalidSecretFile::Secret(error)) => {
            assert!(error.name().is_some_and(|n| n.as_str().contains(CANARY)) || !tells(&error));
        }
        Err(error) => assert!(!tells(&error), "an error tells a part of the file"),
    }
}

const CANARY: &str = "CaNaRy";

/// The host in `text`, if there is one; it must stay what it is when it is printed and read again.
fn host_is_canonical(text: &str) -> Option<Host> {
    let host = text.parse::<Host>().ok()?;
    assert_eq!(host.to_string().parse().as_ref(), Ok(&host), "printing changes a host");
    if let Some(name) = host.name() {
        let fine = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        assert!(name.as_str().bytes().all(fine) && name.as_str().len() <= 253);
        assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
    }
    let endpoint = Endpoint::new(host.clone(), 443);
    assert_eq!(Endpoint::parse(&endpoint.to_string(), 1), Ok(endpoint), "printing changes it");
    Some(host)
}

fn tells(error: &(dyn Error + 'static)) -> bool {
    let mut text = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&error.to_string());
        next = error.source();
    }
    text.contains(CANARY)
}
