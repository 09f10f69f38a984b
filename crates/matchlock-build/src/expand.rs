//! Variables in words, and the removal of quotes (Dockerfile reference, "Environment replacement").

use matchlock_text::glob::Wildcard;

use super::error::Problem;

/// Deepest `${a:-${b:-…}}`.
const MAX_DEPTH: u32 = 64;
/// Longest result, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// Most comparisons of one pattern within `${…}`.
const MAX_STEPS: usize = 50_000_000;

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces variables in a word and removes its quotes and escapes.
pub(crate) fn expand(word: &str, escape: char, variables: Lookup<'_>) -> Result<String, Problem> {
    Expander { rest: word, word, escape, variables }.run()
}

/// Replaces variables in the text of a here-document. Quotes stay; the escape character counts only
/// before itself and `$`, as in a shell (POSIX XCU 2.7.4).
pub(crate) fn expand_text(
    text: &str,
    escape: char,
    variables: Lookup<'_>,
) -> Result<String, Problem> {
    let mut result = String::with_capacity(text.len());
    let mut expander = Expander { rest: text, word: text, escape, variables };
    while let Some(c) = expander.next() {
        if c == '$' {
            result.push_str(&expander.variable(0)?);
        } else if c == escape && expander.rest.starts_with(['$', escape]) {
            result.extend(expander.next());
        } else {
            result.push(c);
        }
        if result.len() > MAX_LENGTH {
            return Err(Problem::ExpansionLimit);
        }
    }
    Ok(result)
}

/// Whether a variable can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

struct Expander<'a> {
    rest: &'a str,
    word: &'a str,
    escape: char,
    variables: Lookup<'a>,
}

impl Expander<'_> {
    fn run(mut self) -> Result<String, Problem> {
        self.until(None, 0)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.rest.strip_prefix(wanted).map(|rest| self.rest = rest).is_some()
    }

    fn bad(&self) -> Problem {
        Problem::BadSubstitution(self.word.chars().take(80).collect())
    }

    fn open(&self, quote: char) -> Problem {
        Problem::OpenQuote(quote, self.word.chars().take(80).collect())
    }

    /// Up to `end`, which is consumed, or to the end of the word.
    fn until(&mut self, end: Option<char>, depth: u32) -> Result<String, Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::ExpansionLimit);
        }
        let mut result = String::new();
        loop {
            if result.len() > MAX_LENGTH {
                return Err(Problem::ExpansionLimit);
            }
            match self.next() {
                None if end.is_some() => return Err(self.bad()),
                None => return Ok(result),
                c if c == end => return Ok(result),
                Some('\'') => self.single_quoted(&mut result)?,
                Some('"') => self.double_quoted(&mut result, depth)?,
                Some('$') => result.push_str(&self.variable(depth)?),
                Some(c) if c == self.escape => result.extend(self.next()),
                Some(c) => result.push(c),
            }
        }
    }

    fn single_quoted(&mut self, result: &mut String) -> Result<(), Problem> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => result.push(c),
                None => return Err(self.open('\'')),
            }
        }
    }

    fn double_quoted(&mut self, result: &mut String, depth: u32) -> Result<(), Problem> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => result.push_str(&self.variable(depth)?),
                Some(c) if c == self.escape => match self.next() {
                    Some(next @ ('"' | '$')) => result.push(next),
                    Some(next) if next == self.escape => result.push(next),
                    Some(next) => result.extend([c, next]),
                    None => return Err(self.open('"')),
                },
                Some(c) => result.push(c),
                None => return Err(self.open('"')),
            }
            if result.len() > MAX_LENGTH {
                return Err(Problem::ExpansionLimit);
            }
        }
    }

    fn name(&mut self) -> String {
        let digit = |c: char| c.is_ascii_digit();
        let end = if self.rest.starts_with(digit) {
            1
        } else {
            let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            self.rest.find(|c| !word(c)).unwrap_or(self.rest.len())
        };
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    /// Behind a `$`.
    fn variable(&mut self, depth: u32) -> Result<String, Problem> {
        if !self.eat('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.get(&name) });
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.bad());
        }
        if self.eat('}') {
            return Ok(self.get(&name));
        }
        let colon = self.eat(':');
        let operator = self.next().ok_or_else(|| self.bad())?;
        let value = (self.variables)(&name).filter(|value| !(colon && value.is_empty()));
        match operator {
            '-' | '+' | '?' => {
                let word = self.until(Some('}'), depth + 1)?;
                match (operator, value) {
                    ('-', value) => Ok(value.unwrap_or(word)),
                    ('+', value) => Ok(if value.is_some() { word } else { String::new() }),
                    (_, Some(value)) => Ok(value),
                    (_, None) => {
                        let message = if word.is_empty() { "is not set".to_owned() } else { word };
                        Err(Problem::Required { name, message })
                    }
                }
            }
            '#' | '%' if !colon => {
                let greedy = self.eat(operator);
                let pattern = self.until(Some('}'), depth + 1)?;
                let value = value.unwrap_or_default();
                trim(&value, &pattern, operator == '#', greedy)
            }
            '/' if !colon => {
                let all = self.eat('/');
                let pattern = self.until(Some('/'), depth + 1)?;
                let new = self.until(Some('}'), depth + 1)?;
                replace(&value.unwrap_or_default(), &pattern, &new, all)
            }
            _ => Err(self.bad()),
        }
    }

    fn get(&self, name: &str) -> String {
        (self.variables)(name).unwrap_or_default()
    }
}

/// `${x#a}`, `${x##a}`, `${x%a}`, `${x%%a}` (POSIX XCU 2.6.2).
fn trim(value: &str, pattern: &str, prefix: bool, greedy: bool) -> Result<String, Problem> {
    let mut chars: Vec<char> = value.chars().collect();
    let mut pattern = Wildcard::new(pattern);
    if !prefix {
        // What an end is, is a beginning backwards.
        chars.reverse();
        pattern = pattern.reversed();
    }
    afford(chars.len(), &pattern)?;
    let mut lengths = pattern.beginnings(&chars);
    let cut = if greedy { lengths.next_back() } else { lengths.next() }.unwrap_or(0);
    let rest = &chars[cut..];
    Ok(if prefix { rest.iter().collect() } else { rest.iter().rev().collect() })
}

/// `${x/a/b}` and `${x//a/b}`: the longest match at each place.
fn replace(value: &str, pattern: &str, new: &str, all: bool) -> Result<String, Problem> {
    let chars: Vec<char> = value.chars().collect();
    let pattern = Wildcard::new(pattern);
    afford(chars.len().saturating_mul(chars.len()), &pattern)?;
    let mut result = String::new();
    let mut at = 0;
    while at < chars.len() {
        match pattern.beginnings(&chars[at..]).next_back().filter(|length| *length > 0) {
            Some(length) => {
                result.push_str(new);
                at += length;
                if !all {
                    break;
                }
            }
            None => {
                result.push(chars[at]);
                at += 1;
            }
        }
        if result.len() > MAX_LENGTH {
            return Err(Problem::ExpansionLimit);
        }
    }
    result.extend(&chars[at..]);
    Ok(result)
}

/// A file of a stranger must not keep this busy for long.
fn afford(characters: usize, pattern: &Wildcard) -> Result<(), Problem> {
    let steps = characters.saturating_mul(pattern.cost());
    if steps > MAX_STEPS { Err(Problem::ExpansionLimit) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".into()),
            "EMPTY" => Some(String::new()),
            "P" => Some("a/b/c.tar.gz".into()),
            "Q" => Some("x 'y' \"z\" $A".into()),
            _ => None,
        }
    }

    #[test]
    fn words_become_values() {
        for (word, expected) in [
            ("$A", "one"),
            ("${A}x$Ax", "onex"),
            ("\\$A", "$A"),
            ("'$A'", "$A"),
            ("\"$A \\\"q\\\" \\n\"", "one \"q\" \\n"),
            ("a\\ b", "a b"),
            ("$", "$"),
            ("$/", "$/"),
            ("$NONE-", "-"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:+set}", "set"),
            ("${EMPTY:+set}", ""),
            ("${EMPTY+set}", "set"),
            ("${NONE:-${A}/\"b c\"}", "one/b c"),
            ("${NONE:-\\}}", "}"),
            ("${P#*/}", "b/c.tar.gz"),
            ("${P##*/}", "c.tar.gz"),
            ("${P%.*}", "a/b/c.tar"),
            ("${P%%.*}", "a/b/c"),
            ("${P/b\\/c/x}", "a/x.tar.gz"),
            ("${P//?\\//-}", "--c.tar.gz"),
            ("$Q", "x 'y' \"z\" $A"),
        ] {
            assert_eq!(expand(word, '\\', &variables), Ok(expected.into()), "{word}");
        }
        assert_eq!(expand("`$A\\x", '`', &variables), Ok("$A\\x".into()));
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        for word in [
            "'a", "\"a", "\"a\\", "${A", "${", "${}", "${A:", "${A:=x}", "${A:-x", "${!A}",
            "${A/x}",
        ] {
            assert!(expand(word, '\\', &variables).is_err(), "{word}");
        }
        let required = expand("${NONE:?give it}", '\\', &variables).expect_err("not set");
        assert_eq!(required.to_string(), "NONE: give it");
        let deep = format!("{}x{}", "${N:-".repeat(10_000), "}".repeat(10_000));
        assert_eq!(expand(&deep, '\\', &variables), Err(Problem::ExpansionLimit));
        let lengthy = |_: &str| Some("x".repeat(100_000));
        assert_eq!(expand("${a//?y/}", '\\', &lengthy), Err(Problem::ExpansionLimit));
        assert_eq!(expand("${a%y*}", '\\', &lengthy).map(|value| value.len()), Ok(100_000));
        let long = |_: &str| Some("x".repeat(1 << 19));
        assert_eq!(expand("$a$a$a$a", '\\', &long), Err(Problem::ExpansionLimit));
    }

    #[test]
    fn here_documents_keep_quotes_and_backslashes() {
        assert_eq!(
            expand_text("'$A' \\$A \\n \\\\ \"${NONE:-d}\"", '\\', &variables),
            Ok("'one' $A \\n \\ \"d\"".into())
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(word in "[$A{}:\\-+?#%/'\"\\\\`*a ]{0,40}") {
            let _ = expand(&word, '\\', &variables);
            let _ = expand_text(&word, '`', &variables);
        }

        #[test]
        fn single_quotes_keep_all(text in "[^']{0,40}") {
            prop_assert_eq!(expand(&format!("'{text}'"), '\\', &variables), Ok(text));
        }
    }
}
