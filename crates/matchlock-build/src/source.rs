//! From the text of a Dockerfile to instructions: directives, comments, continuations, heredocs
//! (Dockerfile reference, "Format", "Parser directives" and "Here-Documents").

use std::iter::Peekable;
use std::str::Lines;

use super::error::{Problem, Trouble};
use super::words;

/// Longest Dockerfile that is read, in bytes.
pub(crate) const MAX_SIZE: usize = 1 << 20;
/// Most instructions in a Dockerfile.
const MAX_INSTRUCTIONS: usize = 10_000;

/// Directives and instructions of a file.
#[derive(Debug)]
pub(crate) struct Source {
    /// What joins lines and quotes characters: `\` or a backtick.
    pub(crate) escape: char,
    /// In the order of the file.
    pub(crate) instructions: Vec<Raw>,
}

/// One instruction, its lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    /// Where it begins, from 1.
    pub(crate) line: u32,
    /// In upper case.
    pub(crate) keyword: String,
    /// What follows the keyword, without white space at both ends.
    pub(crate) rest: String,
    /// In the order of their markers.
    pub(crate) heredocs: Vec<Heredoc>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word that ends it.
    pub(crate) name: String,
    /// Its lines, each with its line feed.
    pub(crate) content: String,
    /// Whether variables in it are replaced: its word is not quoted.
    pub(crate) expand: bool,
    /// The marker as written, `<<-"EOF"`.
    pub(crate) marker: String,
}

type Numbered<'a> = Peekable<std::iter::Enumerate<Lines<'a>>>;

/// Takes a file apart.
pub(crate) fn split(bytes: &[u8]) -> Result<Source, Trouble> {
    if bytes.len() > MAX_SIZE {
        return Err(Trouble { line: 1, problem: Problem::TooLarge });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Trouble { line: number(line), problem: Problem::NotUtf8 }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().peekable();
    let escape = directives(&mut lines)?;
    let mut instructions = Vec::new();
    while let Some((at, first)) = lines.next() {
        if first.trim().is_empty() || first.trim_start().starts_with('#') {
            continue;
        }
        let line = number(at + 1);
        let fail = |problem| Trouble { line, problem };
        let joined = join(first.trim_start(), &mut lines, escape);
        let (keyword, rest) = keyword(&joined);
        let mut raw = Raw { line, keyword, rest: rest.to_owned(), heredocs: Vec::new() };
        for marker in markers(&raw, escape) {
            raw.heredocs.push(heredoc(marker, &mut lines).map_err(fail)?);
        }
        if instructions.len() == MAX_INSTRUCTIONS {
            return Err(fail(Problem::TooManyInstructions));
        }
        instructions.push(raw);
    }
    Ok(Source { escape, instructions })
}

/// The first word in upper case, and the rest.
pub(crate) fn keyword(text: &str) -> (String, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word.to_ascii_uppercase(), rest.trim_start())
}

fn number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// Directives are comments of the form `# name=value` before anything else.
fn directives(lines: &mut Numbered<'_>) -> Result<char, Trouble> {
    let mut escape = None;
    let mut seen: Vec<String> = Vec::new();
    while let Some((at, line)) = lines.peek() {
        let Some((name, value)) = directive(line) else { break };
        let fail = |problem| Trouble { line: number(*at + 1), problem };
        if seen.contains(&name) {
            return Err(fail(Problem::RepeatedDirective(name)));
        }
        if name == "escape" {
            escape = match value {
                "\\" => Some('\\'),
                "`" => Some('`'),
                _ => return Err(fail(Problem::BadEscape(value.to_owned()))),
            };
        }
        let image = value.trim_start_matches("docker.io/");
        if name == "syntax" && !image.starts_with("docker/dockerfile") {
            return Err(fail(Problem::needs_buildkit(format!("the syntax {value:?}"))));
        }
        seen.push(name);
        lines.next();
    }
    Ok(escape.unwrap_or('\\'))
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    matches!(name.as_str(), "syntax" | "escape" | "check").then_some((name, value.trim()))
}

/// A line and those that continue it. Comments and empty lines in between are dropped.
fn join(first: &str, lines: &mut Numbered<'_>, escape: char) -> String {
    let mut joined = String::new();
    let mut current = first;
    loop {
        let Some(part) = continued(current, escape) else {
            joined.push_str(current);
            return joined;
        };
        joined.push_str(part);
        loop {
            let Some((_, next)) = lines.next() else { return joined };
            if !next.trim().is_empty() && !next.trim_start().starts_with('#') {
                current = next;
                break;
            }
        }
    }
}

/// The line without its escape character, when that joins it with the next one.
fn continued(line: &str, escape: char) -> Option<&str> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

struct Marker {
    name: String,
    strip_tabs: bool,
    expand: bool,
    text: String,
}

fn markers(raw: &Raw, escape: char) -> Vec<Marker> {
    let (mut word, mut rest) = (raw.keyword.clone(), raw.rest.as_str());
    if word == "ONBUILD" {
        (word, rest) = keyword(rest);
    }
    if !matches!(word.as_str(), "RUN" | "COPY" | "ADD") {
        return Vec::new();
    }
    words::split(rest, escape).iter().filter_map(|word| marker(word, escape)).collect()
}

fn marker(word: &str, escape: char) -> Option<Marker> {
    let after = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, quoted) = match after.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, after),
    };
    let name = words::unquote(quoted, escape);
    let fit = !name.is_empty() && !name.contains(['<', '>', '|', ';', '&', '(', ')']);
    fit.then(|| Marker { expand: name == quoted, name, strip_tabs, text: word.to_owned() })
}

fn heredoc(marker: Marker, lines: &mut Numbered<'_>) -> Result<Heredoc, Problem> {
    let mut content = String::new();
    for (_, line) in lines {
        let line = if marker.strip_tabs { line.trim_start_matches('\t') } else { line };
        if line == marker.name {
            let Marker { name, expand, text, .. } = marker;
            return Ok(Heredoc { name, content, expand, marker: text });
        }
        content.push_str(line);
        content.push('\n');
    }
    Err(Problem::OpenHeredoc(marker.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> Vec<(u32, String)> {
        let source = split(text.as_bytes()).expect(text);
        source
            .instructions
            .into_iter()
            .map(|i| (i.line, format!("{} {}", i.keyword, i.rest)))
            .collect()
    }

    fn trouble(text: &str) -> (u32, String) {
        let trouble = split(text.as_bytes()).expect_err(text);
        (trouble.line, trouble.problem.to_string())
    }

    #[test]
    fn lines_are_joined_and_comments_dropped() {
        let text = "# syntax=docker/dockerfile:1\n\n# c\nfrom a\nRUN x \\\n  # inside\n\n  && y \\ \n z\nCMD b\\\\\n";
        assert_eq!(
            ok(text),
            [(4, "FROM a".into()), (5, "RUN x   && y  z".into()), (10, "CMD b\\\\".into())]
        );
    }

    #[test]
    fn the_escape_directive_is_obeyed_only_at_the_top() {
        assert_eq!(ok("# escape=`\nRUN a `\n b"), [(2, "RUN a  b".into())]);
        assert_eq!(
            ok("#x\n# escape=`\nRUN a `\nRUN b"),
            [(3, "RUN a `".into()), (4, "RUN b".into())]
        );
        assert_eq!(ok("RUN a\r\nRUN b\\\r\nc\r\n"), [(1, "RUN a".into()), (2, "RUN bc".into())]);
        assert_eq!(trouble("#syntax=docker/dockerfile\n# escape=x\nFROM a").0, 2);
        assert!(trouble("#syntax=other/language:1\nFROM a").1.contains("BuildKit can do it"));
        assert_eq!(trouble("#escape=`\n#Escape=\\\n").0, 2);
    }

    #[test]
    fn heredocs_end_at_their_word() {
        let text = "RUN <<A cat <<-\"B\" >x\n# not a comment\\\nA\n\t1\n\tB\nCMD <<C";
        let source = split(text.as_bytes()).expect("a file");
        let docs = &source.instructions[0].heredocs;
        assert_eq!(docs[0].content, "# not a comment\\\n");
        assert!(docs[0].expand && !docs[1].expand);
        assert_eq!((docs[1].name.as_str(), docs[1].content.as_str()), ("B", "1\n"));
        assert!(source.instructions[1].heredocs.is_empty());
        assert_eq!(trouble("FROM a\nRUN <<E\nx").0, 2);
    }

    #[test]
    fn shifts_and_here_strings_are_no_heredocs() {
        for line in ["RUN echo $((1<<2))", "RUN cat <<<x", "RUN a << b", "RUN [\"<<A\"]"] {
            assert!(
                split(line.as_bytes()).expect(line).instructions[0].heredocs.is_empty(),
                "{line}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_name_their_line() {
        let trouble = split(b"FROM a\nRUN \xff").expect_err("no text");
        assert_eq!(trouble.line, 2);
    }
}
