//! Whose a line was that is too long to be read.
//!
//! A client waits for an answer with its id, so it is worth a look at what is left of the line. Published
//! clients write the id before the parameters (Python), or as the last key (Go).

use serde::Deserialize;

use crate::id::RequestId;

#[derive(Default, Deserialize)]
struct Whose {
    method: Option<String>,
    id: Option<RequestId>,
}

/// Method and id, as far as they can be told for sure if the line is an object at all.
pub(super) fn whose(head: &[u8], tail: &[u8]) -> (Option<String>, Option<RequestId>) {
    let Whose { method, id } = before_params(head).unwrap_or_default();
    (method, id.or_else(|| last_key(tail)))
}

/// The keys before `params`. If they are an object once it is closed there, the cut was not within a
/// text or another object.
fn before_params(head: &[u8]) -> Option<Whose> {
    const NEXT: &[u8] = b"\"params\"";
    memchr::memmem::find_iter(head, NEXT).find_map(|at| {
        let kept = head[..at].trim_ascii_end().strip_suffix(b",")?;
        serde_json::from_slice(&[kept, b"}"].concat()).ok()
    })
}

/// An id directly before the bracket that closes the line. The comma before it is the object's own, for
/// what is between the two has no quote but the key's.
fn last_key(tail: &[u8]) -> Option<RequestId> {
    const KEY: &[u8] = b"\"id\"";
    let object = tail.trim_ascii_end().strip_suffix(b"}")?;
    let at = memchr::memmem::rfind(object, KEY)?;
    object[..at].trim_ascii_end().strip_suffix(b",")?;
    let value = object[at + KEY.len()..].trim_ascii_start().strip_prefix(b":")?;
    // A text might be the end of a longer one.
    serde_json::from_slice::<u64>(value).ok().map(RequestId::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(head: &str, tail: &str) -> Option<u64> {
        match whose(head.as_bytes(), tail.as_bytes()).1? {
            RequestId::Number(number) => Some(number),
            RequestId::Text(_) => None,
        }
    }

    #[test]
    fn an_id_before_the_parameters_is_found() {
        let python = r#"{"jsonrpc": "2.0", "method": "write_file", "id": 7, "params": {"path": "/"#;
        assert_eq!(id(python, "xxxx"), Some(7));
        let (method, _) = whose(python.as_bytes(), b"");
        assert_eq!(method.as_deref(), Some("write_file"));
    }

    #[test]
    fn an_id_behind_the_parameters_is_found() {
        let go = r#"{"jsonrpc":"2.0","method":"write_file","params":{"content":"AAAA"#;
        assert_eq!(id(go, r#"AAAA","mode":420},"id":12}"#), Some(12));
    }

    #[test]
    fn what_only_looks_like_an_id_is_not_one() {
        let go = r#"{"jsonrpc":"2.0","method":"exec","params":{"command":"#;
        for tail in
            [r#"xx,"id":12"}}"#, r#""id":12}"#, r#","id":-1}"#, r#","id":"x"}"#, r#","id":1"#, ""]
        {
            assert_eq!(id(go, tail), None, "{tail}");
        }
        let within = r#"{"method":"{\"id\":3,\"params\"","x":{"id":4,"params":{"#;
        assert_eq!(id(within, ""), None, "of another object");
    }
}
