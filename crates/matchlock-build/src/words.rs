//! Words of an instruction: quotes and escapes are seen, and stay until variables are replaced.

use super::error::Problem;

/// `--name=value` or `--name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Without the dashes.
    pub(crate) name: String,
    /// `None` without `=`.
    pub(crate) value: Option<String>,
}

/// Splits at white space that is neither quoted nor escaped. An open quote lasts to the end.
pub(crate) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let length = word_length(rest, escape);
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    words
}

/// The flags before the first word that is none, and what follows them. A lone `--` ends them.
pub(crate) fn flags(text: &str, escape: char) -> Result<(Vec<Flag>, &str), Problem> {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while let Some(after) = rest.strip_prefix("--") {
        let length = word_length(after, escape);
        let (word, next) = (&after[..length], after[length..].trim_start());
        rest = next;
        if word.is_empty() {
            break;
        }
        let word = unquote(word, escape);
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if name.is_empty() {
            return Err(Problem::UnknownFlag(name));
        }
        flags.push(Flag { name, value });
    }
    Ok((flags, rest))
}

/// Removes quotes and escapes; variables stay.
pub(crate) fn unquote(word: &str, escape: char) -> String {
    let mut plain = String::with_capacity(word.len());
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape && quote != Some('\'') => plain.extend(chars.next()),
            _ => plain.push(c),
        }
    }
    plain
}

/// A list in JSON, when it is one. Anything else is for a shell.
pub(crate) fn json_list(text: &str) -> Result<Option<Vec<String>>, Problem> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) if !text.contains('\0') => Ok(text),
        _ => Err(Problem::JsonNotStrings),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

fn word_length(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return at,
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape && quote != Some('\'') => {
                chars.next();
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_keep_their_quotes() {
        assert_eq!(
            split(r#" a="b c" d\ e 'f g'h "open x"#, '\\'),
            [r#"a="b c""#, r"d\ e", "'f g'h", "\"open x"]
        );
        assert_eq!(split("a` b \\", '`'), ["a` b", "\\"]);
    }

    #[test]
    fn flags_come_first() {
        let (list, rest) = flags("--from=a --chown=\"a b\" --link x --y", '\\').expect("flags");
        let names: Vec<_> = list.iter().map(|f| (f.name.as_str(), f.value.as_deref())).collect();
        assert_eq!(names, [("from", Some("a")), ("chown", Some("a b")), ("link", None)]);
        assert_eq!(rest, "x --y");
        assert_eq!(flags("-- --x", '\\').expect("flags").1, "--x");
        assert!(flags("--=x", '\\').is_err());
    }

    #[test]
    fn json_is_a_list_of_strings_or_for_the_shell() {
        assert_eq!(
            json_list(r#"["a", "b c"]"#).expect("a list"),
            Some(vec!["a".into(), "b c".into()])
        );
        assert_eq!(json_list("[ -f x ] && y").expect("a command"), None);
        assert_eq!(json_list("['a']").expect("a command"), None);
        assert!(json_list("[1]").is_err());
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_but_white_space(text in "\\PC{0,60}") {
            let joined: String = split(&text, '\\').concat();
            let solid = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(solid(&joined), solid(&text));
            let _ = (unquote(&text, '\\'), flags(&text, '`'));
        }
    }
}
