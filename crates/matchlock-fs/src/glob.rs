//! Patterns of paths: `*` is any run of bytes within a component, `**` any number of components. ASCII case
//! does not matter, since on some file systems it does not matter for what a name opens.

/// A pattern of a relative path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Vec<u8>>);

impl Pattern {
    pub(crate) fn new(pattern: &str) -> Self {
        Self(pattern.split('/').map(|part| part.as_bytes().to_vec()).collect())
    }

    /// Whether the pattern covers the whole of a path, given as its components.
    pub(crate) fn matches(&self, components: &[&[u8]]) -> bool {
        matches_path(&self.0, components)
    }
}

fn matches_path(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == b"**" => {
            (0..=path.len()).any(|skipped| matches_path(rest, &path[skipped..]))
        }
        (Some((first, rest)), Some((name, below))) => {
            matches_name(first, name) && matches_path(rest, below)
        }
        _ => false,
    }
}

/// The usual two-pointer walk: on a mismatch the last `*` takes one byte more.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while pos < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, pos));
            at += 1;
        } else if pattern.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&name[pos])) {
            at += 1;
            pos += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            at = star_at + 1;
            pos = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn stars() {
        for (pattern, path, expected) in [
            ("shadow*", "shadow", true),
            ("shadow*", "shadow-", true),
            ("shadow*", "SHADOW-", true),
            ("shadow*", "shadows/x", false),
            ("ssh/ssh_host_*_key", "ssh/ssh_host_ed25519_key", true),
            ("ssh/ssh_host_*_key", "ssh/ssh_host_ed25519_key.pub", false),
            ("pki/**/private", "pki/private", true),
            ("pki/**/private", "pki/tls/a/private", true),
            ("pki/**/private", "pki/tls/privates", false),
            ("**/*.p12", "a.p12", true),
            ("**/*.p12", "x/y/a.p12", true),
            ("a*b*c", "a-b-bc", true),
            ("a*b*c", "a-b-b", false),
            ("*", "", true),
            ("**", "a/b", true),
        ] {
            let components: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            assert_eq!(Pattern::new(pattern).matches(&components), expected, "{pattern} {path}");
        }
    }
}
