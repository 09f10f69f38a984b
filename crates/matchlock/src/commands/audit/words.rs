//! Records of an audit trail in words. The file may be anything: every text is made harmless.

use std::collections::{HashMap, VecDeque};

use matchlock_core::text::escape;
use serde_json::Value;

/// Requests whose answers are waited for. Of more, the answers have no address.
const MAX_OPEN: usize = 4096;

/// Whether a record tells of something that was refused.
pub(super) fn is_denied(record: &Value) -> bool {
    let event = record.get("event").and_then(Value::as_str);
    record.get("decision").and_then(Value::as_str) == Some("denied")
        || matches!(event, Some("flow_refused" | "secret_leak"))
}

/// What requests asked for, by sandbox and number, until they are answered.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: HashMap<(String, u64), String>,
    order: VecDeque<(String, u64)>,
}

impl Requests {
    /// A record as one line: when, what, and the rest.
    pub(super) fn line(&mut self, record: &Value) -> String {
        let fields = Fields(record);
        let time = fields.text("time");
        // Down to the millisecond, as `YYYY-MM-DD HH:MM:SS.mmm`.
        let time = time.get(..23).unwrap_or(&time).replacen('T', " ", 1);
        let (what, rest) = self.words(&fields);
        escape::one_line(&format!("{time}  {what:<8}  {rest}"))
    }

    fn words(&mut self, fields: &Fields<'_>) -> (String, String) {
        let f = |key: &str| fields.text(key);
        let what = |word: &str, rest: String| (word.to_owned(), rest);
        match f("event").as_str() {
            "start" => {
                what("start", format!("image {}{}", f("image"), network(fields.0.get("network"))))
            }
            "policy_changed" => {
                what("policy", network(Some(fields.0)).trim_start_matches(", ").to_owned())
            }
            "secret_changed" => what("secret", format!("{} {}", f("secret"), f("change"))),
            "exec" => what("exec", format!("#{} {}", f("exec"), words(fields.0.get("argv")))),
            "exec_end" => what("exec", format!("#{} {}", f("exec"), outcome(fields))),
            "forward" => what("forward", format!("#{} to port {}", f("forward"), f("port"))),
            "forward_end" => what("forward", format!("#{} {}", f("forward"), outcome(fields))),
            "dns" => what("name", format!("{} {}{}", f("name"), f("qtype"), decision(fields))),
            "flow_open" => {
                let host = Some(f("host")).filter(|host| !host.is_empty()).unwrap_or(f("address"));
                let to = format!("#{} {} {host}:{}", f("flow"), f("protocol"), f("port"));
                what("connect", to + &decision(fields))
            }
            "flow_refused" => {
                what("connect", format!("#{} {}{}", f("flow"), f("sni"), decision(fields)))
            }
            "flow_relayed" => {
                what("connect", format!("#{} passes unread: {}", f("flow"), f("spoken")))
            }
            "upstream_failed" => {
                let to = format!("#{} {}:{}", f("flow"), f("host"), f("port"));
                what("connect", format!("{to} failed: {}", f("reason")))
            }
            "flow_close" => what("connect", format!("#{} closed{}", f("flow"), traffic(fields))),
            "request" => {
                let asked = format!("{} {}://{}{}", f("method"), f("scheme"), f("host"), f("path"));
                let line =
                    format!("#{} {asked}{}{}", f("request"), decision(fields), secrets(fields));
                self.begin(fields, asked);
                what("request", line)
            }
            "response" => {
                let asked = self.end(fields).map(|asked| format!(" {asked}")).unwrap_or_default();
                let status = format!("#{} {}{asked}", f("request"), f("status"));
                let error = Some(f("error")).filter(|error| !error.is_empty());
                let error = error.map(|error| format!(", {error}")).unwrap_or_default();
                what("response", format!("{status}{}{}{error}", traffic(fields), secrets(fields)))
            }
            "secret_leak" => {
                let text =
                    format!("placeholder of {} was on its way to {}", f("secret"), f("host"));
                what("LEAK", text)
            }
            "end" => what("end", format!("{}, because: {}", f("reason"), f("cause"))),
            other => what(other, String::new()),
        }
    }

    fn begin(&mut self, fields: &Fields<'_>, asked: String) {
        let Some(key) = fields.request() else { return };
        if self.order.len() >= MAX_OPEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.open.insert(key, asked);
    }

    fn end(&mut self, fields: &Fields<'_>) -> Option<String> {
        let key = fields.request()?;
        let asked = self.open.remove(&key)?;
        self.order.retain(|other| *other != key);
        Some(asked)
    }
}

/// The fields of a record, which may be of any kind.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    /// A field as text; empty if it is not there.
    fn text(&self, key: &str) -> String {
        match self.0.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    fn request(&self) -> Option<(String, u64)> {
        Some((self.text("sandbox"), self.0.get("request")?.as_u64()?))
    }
}

/// Texts of an array with blanks between them.
fn words(value: Option<&Value>) -> String {
    joined(value, " ")
}

fn joined(value: Option<&Value>, between: &str) -> String {
    let texts = value.and_then(Value::as_array).into_iter().flatten();
    texts.filter_map(Value::as_str).collect::<Vec<_>>().join(between)
}

fn decision(fields: &Fields<'_>) -> String {
    let parts = ["decision", "rule", "reason"].map(|key| fields.text(key));
    let [decision, rule, reason] = &parts;
    let mut text = match decision.as_str() {
        "" => String::new(),
        "denied" => " DENIED".to_owned(),
        decision => format!(" {decision}"),
    };
    let why: Vec<_> = [rule, reason].into_iter().filter(|why| !why.is_empty()).cloned().collect();
    if !why.is_empty() {
        text += &format!(" ({})", why.join(": "));
    }
    text
}

fn secrets(fields: &Fields<'_>) -> String {
    match joined(fields.0.get("secrets"), ", ") {
        names if names.is_empty() => names,
        names => format!(", secrets: {names}"),
    }
}

fn traffic(fields: &Fields<'_>) -> String {
    let f = |key: &str| fields.text(key);
    format!(", {} bytes up, {} down, {} ms", f("bytes_up"), f("bytes_down"), f("duration_ms"))
}

fn outcome(fields: &Fields<'_>) -> String {
    for key in ["status", "signal", "error"] {
        let text = fields.text(key);
        if !text.is_empty() {
            return format!("ended: {key} {text}");
        }
    }
    "ended".to_owned()
}

/// A policy, after a comma.
fn network(value: Option<&Value>) -> String {
    let Some(network) = value.filter(|value| value.is_object()) else {
        return ", no network".to_owned();
    };
    let hosts = joined(network.get("allowed_hosts"), ", ");
    let names = network.get("secrets").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<_> = names.filter_map(|secret| secret.get("name")?.as_str()).collect();
    let mut text = match network.get("sealed").and_then(Value::as_bool) {
        Some(true) => ", sealed".to_owned(),
        _ => ", open".to_owned(),
    };
    if !hosts.is_empty() {
        text += &format!(", hosts: {hosts}");
    }
    if !names.is_empty() {
        text += &format!(", secrets: {}", names.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn line(record: &Value) -> String {
        Requests::default().line(record)
    }

    #[test]
    fn each_event_has_its_words() {
        let time = "2026-11-21T22:25:15.482414Z";
        let dns = json!({"time": time, "event": "dns", "name": "a.example", "qtype": "A",
            "decision": "denied", "rule": "not in the list", "reason": "not allowed"});
        let wanted =
            "2026-11-21 22:25:15.482  name      a.example A DENIED (not in the list: not allowed)";
        assert_eq!(line(&dns), wanted);
        let exec =
            json!({"time": time, "event": "exec", "exec": 1, "argv": ["sh", "-c", "x\u{1b}[2J"]});
        assert!(line(&exec).ends_with("exec      #1 sh -c x\\u{1b}[2J"));
        let start = json!({"event": "start", "image": "alpine", "network": {"sealed": true,
            "allowed_hosts": ["a", "b"], "secrets": [{"name": "KEY", "hosts": ["a"]}]}});
        assert!(line(&start).ends_with("image alpine, sealed, hosts: a, b, secrets: KEY"));
        let changed = json!({"event": "secret_changed", "secret": "KEY", "change": "rotated"});
        assert!(line(&changed).ends_with("secret    KEY rotated"));
    }

    #[test]
    fn an_answer_says_what_was_asked() {
        let mut requests = Requests::default();
        let asked = json!({"sandbox": "vm-1", "event": "request", "request": 7, "method": "GET",
            "scheme": "https", "host": "a", "path": "/x", "decision": "allowed", "secrets": ["KEY"]});
        let line = requests.line(&asked);
        assert!(line.ends_with("#7 GET https://a/x allowed, secrets: KEY"), "{line}");
        let answer = json!({"sandbox": "vm-1", "event": "response", "request": 7, "status": 200,
            "bytes_up": 1, "bytes_down": 2, "duration_ms": 3});
        let line = requests.line(&answer);
        assert!(line.ends_with("#7 200 GET https://a/x, 1 bytes up, 2 down, 3 ms"), "{line}");
        assert!(requests.open.is_empty() && requests.order.is_empty());
    }

    #[test]
    fn requests_without_an_answer_are_bounded() {
        let mut requests = Requests::default();
        for n in 0..2 * MAX_OPEN {
            requests.line(&json!({"event": "request", "request": n}));
        }
        assert!(requests.open.len() <= MAX_OPEN && requests.order.len() <= MAX_OPEN);
    }

    proptest! {
        /// Whoever wrote the file: one harmless line.
        #[test]
        fn any_record_is_one_harmless_line(
            event in "start|exec|exec_end|dns|flow_open|request|response|policy_changed|end|.{0,10}",
            texts in proptest::collection::vec("\\PC{0,8}|[\\x00-\\x1f\u{202e}]{1,4}", 6),
            number: u64,
        ) {
            let record = json!({"event": event, "time": texts[0], "argv": [texts[1], number],
                "name": texts[2], "network": {"allowed_hosts": [texts[3]], "secrets": texts[4]},
                "request": number, "decision": texts[5], "secrets": {"a": 1}, "status": [number]});
            let line = line(&record);
            prop_assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", line);
        }
    }
}
