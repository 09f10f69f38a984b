//! What of a context is not seen (Dockerfile reference, ".dockerignore file").

use matchlock_text::glob::Glob;

use super::error::{Problem, Trouble};

/// Longest file of patterns that is read, in bytes.
pub(crate) const MAX_SIZE: usize = 1 << 20;
/// Most patterns: each is tried on each path.
const MAX_PATTERNS: usize = 10_000;

/// Patterns in their order; the last one that covers a path decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Glob,
    excludes: bool,
}

impl Ignore {
    /// Reads a file of patterns.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Trouble> {
        if bytes.len() > MAX_SIZE {
            return Err(Trouble { line: 1, problem: Problem::TooLarge });
        }
        let text = String::from_utf8_lossy(bytes);
        let mut rules = Vec::new();
        for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let fail =
                |problem| Trouble { line: u32::try_from(at + 1).unwrap_or(u32::MAX), problem };
            if line.starts_with('#') {
                continue;
            }
            let (excludes, pattern) = match line.trim().strip_prefix('!') {
                Some(pattern) => (false, pattern.trim()),
                None => (true, line.trim()),
            };
            let cleaned = clean(pattern);
            if cleaned.is_empty() {
                if excludes {
                    continue;
                }
                return Err(fail(Problem::Expected("!PATTERN")));
            }
            if rules.len() == MAX_PATTERNS {
                return Err(fail(Problem::TooManyInstructions));
            }
            let bad = |_| fail(Problem::BadPattern(cleaned.chars().take(80).collect()));
            let pattern = Glob::deep(&cleaned).map_err(bad)?;
            rules.push(Rule { pattern, excludes });
        }
        Ok(Self { rules })
    }

    /// Whether the path, relative and without `.` and `..`, is hidden: by a pattern that covers it or a
    /// directory above it.
    pub(crate) fn hides(&self, path: &[u8]) -> bool {
        let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        let above: Vec<&[u8]> = ends.map(|end| &path[..end]).collect();
        let covering = |rule: &&Rule| above.iter().any(|path| rule.pattern.matches(path));
        self.rules.iter().rev().find(covering).is_some_and(|rule| rule.excludes)
    }

    /// Whether something in a hidden directory may be seen all the same.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| !rule.excludes)
    }
}

/// `path.Clean` of Go, without the slash in front; empty for the root itself.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hidden(patterns: &str, path: &str) -> bool {
        Ignore::parse(patterns.as_bytes()).expect(patterns).hides(path.as_bytes())
    }

    #[test]
    fn the_last_pattern_decides() {
        for (patterns, path, expected) in [
            ("node_modules", "node_modules", true),
            ("node_modules", "node_modules/a/b", true),
            ("node_modules", "x/node_modules", false),
            ("**/node_modules", "x/node_modules/y", true),
            ("/a/../b/", "b/c", true),
            ("# b\n\n  b  ", "b", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*\n!src", "src/main.rs", false),
            ("*\n!src", "target/x", true),
            ("*/temp*", "a/temporary", true),
            ("*/temp*", "a/b/temporary", false),
            ("temp?", "tempa", true),
            (".git\n", ".gitignore", false),
            (".", "a", false),
        ] {
            assert_eq!(hidden(patterns, path), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn a_bad_pattern_names_its_line() {
        let trouble = Ignore::parse(b"a\n[\n").expect_err("not a pattern");
        assert_eq!(trouble.line, 2);
        assert_eq!(Ignore::parse(b"!").expect_err("no pattern").line, 1);
    }

    proptest! {
        #[test]
        fn no_file_panics(patterns in "[a*!?/.\\[\\]\\\\\n #]{0,40}", path in "[a./]{1,20}") {
            if let Ok(ignore) = Ignore::parse(patterns.as_bytes()) {
                ignore.hides(path.as_bytes());
            }
        }

        #[test]
        fn without_exceptions_what_is_below_a_hidden_directory_is_hidden(
            patterns in "[ab*/?\n]{0,20}", above in "[ab]{1,4}", name in "[ab]{1,4}"
        ) {
            let ignore = Ignore::parse(patterns.as_bytes()).expect("patterns");
            let below = format!("{above}/{name}");
            prop_assert!(!ignore.hides(above.as_bytes()) || ignore.hides(below.as_bytes()));
        }
    }
}
