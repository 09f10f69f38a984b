//! Queries as lists of names and values (URL Standard, section 5).

use crate::rewrite::percent;

/// The pairs of a query, decoded, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    pub(super) fn parse(query: &[u8]) -> Self {
        let pairs = query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty());
        let split = |pair: &[u8]| {
            let name = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
            (decode(&pair[..name]), decode(pair.get(name + 1..).unwrap_or_default()))
        };
        Self(pairs.map(split).collect())
    }

    /// The first value of each name, in the order of the names.
    pub(super) fn first_values(&self) -> std::collections::BTreeMap<String, String> {
        let mut first = std::collections::BTreeMap::new();
        for (name, value) in &self.0 {
            let name = String::from_utf8_lossy(name).into_owned();
            first.entry(name).or_insert_with(|| String::from_utf8_lossy(value).into_owned());
        }
        first
    }

    /// Makes this the only value of its name.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.append(name, value);
    }

    pub(super) fn append(&mut self, name: &str, value: &str) {
        self.0.push((name.into(), value.into()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name.as_bytes());
    }

    /// Encoded, in the order of the names; values of one name stay in theirs. `None` if it is
    /// empty.
    pub(super) fn encode(mut self) -> Option<Vec<u8>> {
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut out = Vec::new();
        for (name, value) in &self.0 {
            if !out.is_empty() {
                out.push(b'&');
            }
            encode(name, &mut out);
            out.push(b'=');
            encode(value, &mut out);
        }
        (!out.is_empty()).then_some(out)
    }
}

fn decode(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent::decode(&spaced)
}

fn encode(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    percent::encode_into(text, b" ", out);
    for byte in &mut out[start..] {
        if *byte == b' ' {
            *byte = b'+';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_values_keep_their_order() {
        let mut query = Query::parse(b"b=2&a=1&b=1&&c&d=%2f+%2B&=e");
        assert_eq!(query.first_values()["b"], "2");
        query.set("a", "x y&z");
        query.remove("c");
        assert_eq!(query.encode().unwrap(), b"=e&a=x+y%26z&b=2&b=1&d=%2F+%2B");
        assert_eq!(Query::parse(b"").encode(), None);
    }
}
