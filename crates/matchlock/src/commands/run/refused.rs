//! What the sandbox was refused, with the flag that would have allowed it.

use matchlock_core::net::Refusal;
use matchlock_core::policy::Suggestion;
use serde::Serialize;

/// Refusals that the line for people names; the rest is counted.
const SHOWN: usize = 5;

/// One refusal of the `--json` object.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Refused {
    host: String,
    /// None where only the name was asked for.
    port: Option<u16>,
    reason: String,
    /// The flag that would have allowed it, if there is one.
    allow_with: Option<String>,
    count: u64,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { host, port, reason, suggestion, count } = refusal;
        Self { host, port, reason: reason.to_string(), allow_with: suggestion.map(flags), count }
    }
}

/// The flags of `run` that would allow it.
fn flags(Suggestion { allow_host, allow_private }: Suggestion) -> String {
    let host = allow_host.map(|host| format!("--allow-host {host}"));
    let private = allow_private.map(|range| format!("--allow-private={range}"));
    host.into_iter().chain(private).collect::<Vec<_>>().join(" ")
}

/// One line for people; `None` when nothing was refused.
pub(in crate::commands) fn line(refused: &[Refused]) -> Option<String> {
    let mut shown: Vec<String> = Vec::new();
    for refusal in refused {
        let target = match refusal.port {
            Some(port) => format!("{}:{port}", refusal.host),
            None => refusal.host.clone(),
        };
        let text = match &refusal.allow_with {
            Some(flag) => format!("{target} ({flag})"),
            None => format!("{target} ({})", refusal.reason),
        };
        // A name that was looked up and then dialled says nothing new.
        if !shown.contains(&text) {
            shown.push(text);
        }
    }
    let more = shown.len().saturating_sub(SHOWN);
    shown.truncate(SHOWN);
    if shown.is_empty() {
        return None;
    }
    let mut line = format!("refused: {}", shown.join(", "));
    if more > 0 {
        line.push_str(&format!(" and {more} more (--json lists them)"));
    }
    // The guest chose the names: none of them may steer the terminal.
    Some(line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
}

#[cfg(test)]
pub(in crate::commands) fn sample() -> Refused {
    let (host, reason) = ("example.com".to_owned(), "not allowed".to_owned());
    Refused { host, port: None, reason, allow_with: None, count: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_said_as_flags() {
        let range = || "10.0.0.5/32".parse().ok();
        let host = || Some("a.example:443/tls".to_owned());
        for (allow_host, allow_private, said) in [
            (host(), None, "--allow-host a.example:443/tls"),
            (None, range(), "--allow-private=10.0.0.5/32"),
            (host(), range(), "--allow-host a.example:443/tls --allow-private=10.0.0.5/32"),
        ] {
            assert_eq!(flags(Suggestion { allow_host, allow_private }), said);
        }
    }

    fn refused(host: &str, port: Option<u16>, flag: Option<&str>) -> Refused {
        Refused {
            host: host.into(),
            port,
            reason: "not allowed".into(),
            allow_with: flag.map(str::to_owned),
            count: 1,
        }
    }

    #[test]
    fn the_line_names_hosts_and_flags_and_is_bounded() {
        assert_eq!(line(&[]), None);
        let one = refused("evil.com", Some(443), Some("--allow-host evil.com"));
        let expected = "refused: evil.com:443 (--allow-host evil.com)";
        assert_eq!(line(&[one]).as_deref(), Some(expected));
        let many: Vec<Refused> =
            (0..9).map(|n| refused(&format!("h{n}.example.com"), None, None)).collect();
        let text = line(&many).expect("a line");
        assert!(
            text.ends_with("h4.example.com (not allowed) and 4 more (--json lists them)"),
            "{text}"
        );
        let hostile = line(&[refused("a\x1b[2J\nb", None, None)]).expect("a line");
        assert!(!hostile.chars().any(char::is_control), "{hostile:?}");
    }
}
