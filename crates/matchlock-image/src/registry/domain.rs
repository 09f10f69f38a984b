//! Whether two hosts have one owner, as far as names tell.

use matchlock_policy::{Host, HostName};

/// Domains whose subdomains belong to whoever rents them.
const SHARED: &[&str] = &[
    "amazonaws.com",
    "appspot.com",
    "azurecr.io",
    "azurewebsites.net",
    "cloudfront.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "ngrok.io",
    "on.aws",
    "pages.dev",
    "pkg.dev",
    "run.app",
    "vercel.app",
    "windows.net",
    "workers.dev",
];

/// The same host, or both below one domain that can have an owner. Addresses are equal or not.
pub(crate) fn is_same(one: &Host, other: &Host) -> bool {
    if one == other {
        return true;
    }
    let (Some(one), Some(other)) = (one.name(), other.name()) else { return false };
    registrable(one).is_some_and(|domain| Some(domain) == registrable(other))
}

/// The last two labels of a name, or three where two look like a public suffix: `co.uk`. This is
/// narrower than the list of public suffixes, not wider, but for suffixes of two long labels.
fn registrable(name: &HostName) -> Option<&str> {
    let text = name.as_str();
    let starts: Vec<usize> = text.match_indices('.').map(|(at, _)| at + 1).collect();
    let (second, top) = text.get(begin(&starts, 2)?..)?.split_once('.')?;
    let suffix = top.len() == 2 && second.len() <= 3;
    let domain = text.get(begin(&starts, if suffix { 3 } else { 2 })?..)?;
    (!SHARED.contains(&domain)).then_some(domain)
}

/// Where the last `labels` labels begin.
fn begin(starts: &[usize], labels: usize) -> Option<usize> {
    match (starts.len() + 1).checked_sub(labels)? {
        0 => Some(0),
        skipped => starts.get(skipped - 1).copied(),
    }
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
