//! Names with `*` in them.

use crate::name::{HostName, InvalidName, MAX_LABEL, MAX_NAME, check_label, ends_in_number};
use crate::pattern::InvalidPattern;

/// The literal parts between the `*`s of a pattern: always at least two.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Glob(Vec<Box<str>>);

impl Glob {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'*'))
            && text.bytes().any(|byte| byte.is_ascii_digit())
        {
            return Err(InvalidPattern::AddressWildcard);
        }
        let labels: Vec<String> = text
            .split('.')
            .map(parse_label)
            .collect::<Result<_, _>>()
            .map_err(InvalidPattern::Name)?;
        let text = labels.join(".");
        if text.len() > MAX_NAME {
            return Err(InvalidPattern::Name(InvalidName::TooLong));
        }
        // No name ends so: the pattern would match nothing.
        if ends_in_number(&text) {
            return Err(InvalidPattern::AddressWildcard);
        }
        Ok(Self(text.split('*').map(Into::into).collect()))
    }

    pub(super) fn matches(&self, name: &HostName) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return false;
        };
        let Some(rest) = name.as_str().strip_prefix(&**first) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&**last) else {
            return false;
        };
        // The leftmost place for each part leaves the most room for the others.
        for part in middle {
            let Some(at) = rest.find(&**part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        true
    }

    pub(super) fn is_broad(&self) -> bool {
        let Some(suffix) = self.0.last().and_then(|last| last.strip_prefix('.')) else {
            return true;
        };
        // Below a public suffix, each name has an owner of its own.
        psl::domain_str(suffix).is_none()
    }
}

/// One label, with or without `*`, in the form that names have.
fn parse_label(label: &str) -> Result<String, InvalidName> {
    if !label.contains('*') {
        return parse_plain_label(label);
    }
    if label.len() > MAX_LABEL {
        return Err(InvalidName::LongLabel);
    }
    let label = label.to_ascii_lowercase();
    // A `*` may stand for what is missing: `-*` cannot match, but `a-*` can.
    label.split('*').filter(|part| !part.is_empty()).try_for_each(check_part)?;
    if label.starts_with('-') || label.ends_with('-') {
        return Err(InvalidName::Hyphen);
    }
    Ok(label)
}

fn check_part(part: &str) -> Result<(), InvalidName> {
    match check_label(part) {
        Err(InvalidName::Hyphen) => Ok(()),
        result => result,
    }
}

fn parse_plain_label(label: &str) -> Result<String, InvalidName> {
    match label.parse::<HostName>() {
        Ok(name) if name.labels().count() == 1 => Ok(name.as_str().to_owned()),
        // `2.example.com` has a numeric label that is not the last one.
        Err(InvalidName::Address) => Ok(label.to_ascii_lowercase()),
        Ok(_) | Err(InvalidName::Empty) => Err(InvalidName::EmptyLabel),
        Err(error) => Err(error),
    }
}
