//! Patterns of paths as Go's `path.Match` reads them.

/// A pattern of a whole path: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` do not, `\` takes the
/// next character for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Part>);

/// The pattern ends within something, or a class has no sensible end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the syntax of the path pattern is wrong")]
pub struct BadPattern;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Run,
    Any,
    Class { negated: bool, ranges: Vec<(char, char)> },
    Char(char),
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Result<Self, BadPattern> {
        let mut chars = pattern.chars().peekable();
        let mut parts = Vec::new();
        while let Some(char) = chars.next() {
            parts.push(match char {
                '*' => Part::Run,
                '?' => Part::Any,
                '[' => class(&mut chars)?,
                '\\' => Part::Char(chars.next().ok_or(BadPattern)?),
                char => Part::Char(char),
            });
        }
        Ok(Self(parts))
    }

    /// Bytes that are not UTF-8 are characters that no pattern names.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let path: Vec<char> = String::from_utf8_lossy(path).chars().collect();
        // Every place that the parts so far can reach, in order.
        let mut places = vec![0];
        for part in &self.0 {
            places = part.step(&path, &places);
            if places.is_empty() {
                return false;
            }
        }
        places.last() == Some(&path.len())
    }
}

impl Part {
    fn step(&self, path: &[char], places: &[usize]) -> Vec<usize> {
        let one = |accepts: &dyn Fn(char) -> bool| {
            let accepted = |place: &&usize| path.get(**place).is_some_and(|&char| accepts(char));
            places.iter().filter(accepted).map(|place| place + 1).collect()
        };
        match self {
            Self::Run => {
                let mut reached = Vec::new();
                for &place in places {
                    // What an earlier place reached needs no second walk.
                    let mut at = reached.last().map_or(place, |&last: &usize| place.max(last + 1));
                    if at == place {
                        reached.push(place);
                        at += 1;
                    }
                    while reached.last() == Some(&(at - 1))
                        && path.get(at - 1).is_some_and(|&char| char != '/')
                    {
                        reached.push(at);
                        at += 1;
                    }
                }
                reached
            }
            Self::Any => one(&|char| char != '/'),
            Self::Char(expected) => one(&|char| char == *expected),
            Self::Class { negated, ranges } => one(&|char| {
                let inside = ranges.iter().any(|(low, high)| (low..=high).contains(&&char));
                inside != *negated
            }),
        }
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn class(chars: &mut Chars<'_>) -> Result<Part, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { low };
        ranges.push((low, high));
    }
    Ok(Part::Class { negated, ranges })
}

/// `-` and `]` have to be escaped, even where they could mean nothing else.
fn class_char(chars: &mut Chars<'_>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(char) => Ok(char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, path, expected) in [
            ("/v1/*", "/v1/chat", true),
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v1/chat/completions", false),
            ("/v1/*", "/v1", false),
            ("/*/b", "/a/b", true),
            ("*", "", true),
            ("*", "/", false),
            ("/", "/", true),
            ("/a?c", "/abc", true),
            ("/a?c", "/a/c", false),
            ("/a?c", "/aéc", true),
            ("/[a-c]x", "/bx", true),
            ("/[a-c]x", "/dx", false),
            ("/[^a-c]x", "/dx", true),
            ("/a[^b]c", "/a/c", true),
            (r"/\*", "/*", true),
            (r"/\*", "/a", false),
            (r"/[\]\-]", "/]", true),
            (r"/[\]\-]", "/-", true),
            ("/*a*b*c", "/xaybzc", true),
            ("/*a*b*c", "/xaybz", false),
            ("/a*a*a*a*a*b", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("/a", "/ab", false),
            ("/ab", "/a", false),
        ] {
            let glob = Glob::new(pattern).expect(pattern);
            assert_eq!(glob.matches(path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(!Glob::new("/a").unwrap().matches(b"/\xff"));
        assert!(Glob::new("/?").unwrap().matches(b"/\xff"));
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for pattern in
            ["[", "[]", "[]a]", "[a", "[a-", "[a-]", "[-a]", "[^", "[^]", "\\", "[\\", "/*["]
        {
            assert_eq!(Glob::new(pattern), Err(BadPattern), "{pattern}");
        }
    }

    /// The definition, word for word.
    fn slow(parts: &[Part], path: &[char]) -> bool {
        match (parts.split_first(), path.split_first()) {
            (None, _) => path.is_empty(),
            (Some((Part::Run, rest)), None) => slow(rest, path),
            (Some((Part::Run, rest)), Some((first, below))) => {
                slow(rest, path) || (*first != '/' && slow(parts, below))
            }
            (Some(_), None) => false,
            (Some((part, rest)), Some((_, below))) => {
                part.step(path, &[0]) == [1] && slow(rest, below)
            }
        }
    }

    proptest! {
        #[test]
        fn equals_the_definition(pattern in "[ab/*?]{0,8}", path in "[ab/]{0,8}") {
            let glob = Glob::new(&pattern).unwrap();
            let chars: Vec<char> = path.chars().collect();
            prop_assert_eq!(glob.matches(path.as_bytes()), slow(&glob.0, &chars));
        }
    }
}
