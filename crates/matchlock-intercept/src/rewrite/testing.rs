//! What the tests of this crate start from.

use matchlock_policy::{
    Allowed, DefaultEgress, Endpoint, Host, Policy, PolicyConfig, SecretSpec, Secrets,
};

use crate::h1::{Method, RequestHead, Target, Version};
use crate::headers::{HeaderName, HeaderValue, Headers};

/// A secret with everything switched on.
pub(crate) fn spec(name: &str, value: &str, host: &str) -> SecretSpec {
    let mut spec = SecretSpec::from_parts(name, value.to_owned(), &[host]).expect("a secret");
    (spec.body, spec.scrub) = (true, true);
    spec
}

/// With placeholders of ones, twos and so on.
pub(crate) fn secrets(specs: Vec<SecretSpec>) -> Secrets {
    let mut number = 0;
    let mut entropy = || {
        number += 0x11;
        [number; 16]
    };
    Secrets::new(specs, &mut entropy).expect("secrets")
}

/// The placeholder of the secret that is so far down the list.
pub(crate) fn placeholder(secrets: &Secrets, at: usize) -> String {
    secrets.iter().nth(at).expect("a secret").placeholder.as_str().to_owned()
}

pub(crate) fn allowed(host: &str) -> Allowed {
    let config = PolicyConfig {
        default_egress: DefaultEgress::Public,
        intercept: true,
        ..PolicyConfig::default()
    };
    let host: Host = host.parse().expect("a host");
    Policy::new(config).connect(&Endpoint::new(host, 443)).expect("a public host")
}

pub(crate) fn head(target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let method = Method::try_from("GET").expect("a method");
    let target = Target::parse(&method, &target.to_owned().into()).expect("a target");
    RequestHead { method, target, version: Version::Http11, headers: headers(fields) }
}

pub(crate) fn headers(fields: &[(&str, &str)]) -> Headers {
    let field = |(name, value): &(&str, &str)| {
        let name = HeaderName::try_from(*name).expect("a name");
        (name, HeaderValue::try_from(*value).expect("a value"))
    };
    fields.iter().map(field).collect()
}

/// Everything that a head consists of, a part a line.
pub(crate) fn text(head: &RequestHead) -> String {
    let target = head.target.path_and_query().map_or(&b""[..], |target| target.as_bytes());
    let fields = head
        .headers
        .iter()
        .map(|(name, value)| format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    String::from_utf8_lossy(target).into_owned() + &fields.collect::<String>()
}
