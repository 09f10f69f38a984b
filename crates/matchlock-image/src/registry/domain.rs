//! Whether two hosts have one owner, as far as names tell.

use matchlock_policy::{Host, HostName};

/// Domains that rent subdomains, of registries too, and are not in the list of public suffixes.
const SHARED: &[&str] =
    &["amazonaws.com", "azurecr.io", "on.aws", "pkg.dev", "run.app", "windows.net"];

/// The same host, or both below one domain that can have an owner. Addresses are equal or not.
pub(crate) fn is_same(one: &Host, other: &Host) -> bool {
    if one == other {
        return true;
    }
    let (Some(one), Some(other)) = (one.name(), other.name()) else { return false };
    registrable(one).is_some_and(|domain| Some(domain) == registrable(other))
}

/// What somebody can own of a name: one label below the longest public suffix, be it a registry's like
/// `co.uk` or that of a company that rents subdomains, like `github.io`.
fn registrable(name: &HostName) -> Option<&str> {
    psl::domain_str(name.as_str()).filter(|domain| !SHARED.contains(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_owner() {
        let cases = [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("r.example", "r.example", true),
            ("a.r.example", "b.r.example", true),
            ("r.example", "auth.r.example", true),
            ("registry.example.co.uk", "auth.example.co.uk", true),
            ("registry.co.uk", "evil.co.uk", false),
            ("registry.docker.io", "auth.docker.com", false),
            ("registry.docker.io", "docker.io.evil.example", false),
            ("registry.docker.io", "evildocker.io", false),
            ("r.example", "s.example", false),
            ("one.azurecr.io", "two.azurecr.io", false),
            ("one.azurecr.io", "one.azurecr.io", true),
            ("one.amazonaws.com", "two.amazonaws.com", false),
            ("one.on.aws", "two.on.aws", false),
            ("one.pkg.dev", "two.pkg.dev", false),
            ("one.run.app", "two.run.app", false),
            ("one.windows.net", "two.windows.net", false),
            ("one.herokuapp.com", "two.herokuapp.com", false),
            ("one.vercel.app", "two.vercel.app", false),
            ("one.workers.dev", "two.workers.dev", false),
            ("one.fly.dev", "two.fly.dev", false),
            ("one.r2.dev", "two.r2.dev", false),
            ("one.onrender.com", "two.onrender.com", false),
            ("one.web.app", "two.web.app", false),
            ("one.trycloudflare.com", "two.trycloudflare.com", false),
            ("r.example.github.io", "auth.example.github.io", true),
            ("registry", "auth", false),
            ("registry", "registry", true),
            ("localhost", "auth.localhost", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "r.example", false),
        ];
        for (one, other, same) in cases {
            let (a, b) = (one.parse().expect("a host"), other.parse().expect("a host"));
            assert_eq!(is_same(&a, &b), same, "{one} {other}");
            assert_eq!(is_same(&b, &a), same, "{other} {one}");
        }
    }
}
