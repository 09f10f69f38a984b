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
        covers(
            &self.0,
            components,
            |part| part == b"**",
            |part, name| covers(part, name, |byte| *byte == b'*', u8::eq_ignore_ascii_case),
        )
    }
}

/// Whether a pattern covers all of `items`. On a mismatch its last star takes one item more, so this takes
/// no more steps than the product of both lengths.
fn covers<P, T>(
    pattern: &[P],
    items: &[T],
    is_star: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(item) = items.get(pos) {
        match pattern.get(at) {
            Some(part) if is_star(part) => {
                at += 1;
                star = Some((at, pos));
            }
            Some(part) if fits(part, item) => {
                at += 1;
                pos += 1;
            }
            _ => {
                let Some((after, taken)) = &mut star else { return false };
                *taken += 1;
                (at, pos) = (*after, *taken);
            }
        }
    }
    pattern.iter().skip(at).all(is_star)
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

    #[test]
    fn many_stars_do_not_multiply() {
        let pattern = format!("{}b", "**/a*a*a*/".repeat(20));
        let components = [b"aaaaaaaaaaaaaaaaaaaa".as_slice(); 100];
        assert!(!Pattern::new(&pattern).matches(&components));
    }
}
