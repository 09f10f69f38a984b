//! Flags that take lists: values separated by commas, with CSV's quotes, and given any number of
//! times.

/// Items of all values in order, trimmed; empty ones are left out.
pub(crate) fn split(values: &[String]) -> Result<Vec<String>, BadQuotes> {
    let mut items = Vec::new();
    for value in values {
        let mut rest = value.as_str();
        loop {
            let (item, tail) = first(rest)?;
            let item = item.trim();
            if !item.is_empty() {
                items.push(item.to_owned());
            }
            match tail {
                Some(tail) => rest = tail,
                None => break,
            }
        }
    }
    Ok(items)
}

/// A quote that is not closed, or is in the middle of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quote is out of place: write \"a,b\" for an item with a comma, \"\" for a quote in it")]
pub(crate) struct BadQuotes;

/// The first item, and what follows its comma.
fn first(text: &str) -> Result<(String, Option<&str>), BadQuotes> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let (item, tail) = match text.split_once(',') {
            Some((item, tail)) => (item, Some(tail)),
            None => (text, None),
        };
        return if item.contains('"') { Err(BadQuotes) } else { Ok((item.to_owned(), tail)) };
    };
    let mut item = String::new();
    loop {
        let (part, tail) = quoted.split_once('"').ok_or(BadQuotes)?;
        item.push_str(part);
        if let Some(tail) = tail.strip_prefix('"') {
            item.push('"');
            quoted = tail;
        } else if tail.is_empty() {
            return Ok((item, None));
        } else {
            return Ok((item, Some(tail.strip_prefix(',').ok_or(BadQuotes)?)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(values: &[&str]) -> Result<Vec<String>, BadQuotes> {
        split(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn commas_repetition_and_quotes() {
        let cases: [(&[&str], &[&str]); 8] = [
            (&[], &[]),
            (&[""], &[]),
            (&["a"], &["a"]),
            (&["a, b ,", ",c"], &["a", "b", "c"]),
            (&["\"a,b\",c"], &["a,b", "c"]),
            (&["\"say \"\"x\"\"\""], &["say \"x\""]),
            (&["\"\""], &[]),
            (&["\"a\","], &["a"]),
        ];
        for (values, expected) in cases {
            assert_eq!(items(values).expect("valid"), expected, "{values:?}");
        }
        for bad in ["\"a", "a\"b", "\"a\"b", "\"", "\"\"\""] {
            assert_eq!(items(&[bad]), Err(BadQuotes), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(list in proptest::collection::vec("[a-z\",]{1,8}", 0..5)) {
            let quoted: Vec<String> =
                list.iter().map(|item| format!("\"{}\"", item.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(&[quoted.join(",")]).expect("valid"), list);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = split(&[text]);
        }
    }
}
