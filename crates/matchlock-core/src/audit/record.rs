//! Records that are not of the network: a sandbox's start and end, and what was run in it.

use std::net::SocketAddr;

use matchlock_net::{Decision, Event};
use matchlock_proto::{ExecRequest, ExitStatus};
use serde::Serialize;

/// Something in the life of a sandbox.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Lifecycle<'a> {
    /// The first record.
    Start(Start),
    /// A program is about to be started.
    Exec(Exec),
    /// A program has ended, or was not started.
    ExecEnd {
        exec: u64,
        #[serde(flatten)]
        end: ExecEnd<'a>,
    },
    /// Somebody connected to a published port.
    Forward {
        forward: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
        port: u16,
    },
    /// That connection is over.
    ForwardEnd {
        forward: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
    /// The network's policy is about to be replaced by this one.
    PolicyChanged(Network),
    /// A secret of a sandbox that runs is about to be added, to have another value, or to go.
    SecretChanged { secret: &'a str, change: SecretChange },
    /// The last record.
    End {
        reason: EndReason,
        /// What led to it.
        cause: &'a str,
        #[serde(flatten)]
        totals: Totals,
    },
}

/// What a sandbox began with. Names of secrets and their hosts, never values or placeholders.
#[derive(Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) version: &'static str,
    pub(crate) image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_digest: Option<String>,
    pub(crate) privileged: bool,
    /// `null`: there is no network device.
    pub(crate) network: Option<Network>,
}

/// Policy of the network at the start.
#[derive(Debug, Serialize)]
pub(crate) struct Network {
    pub(crate) sealed: bool,
    pub(crate) intercepted: bool,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) secrets: Vec<SecretSummary>,
}

/// What happens to a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SecretChange {
    Added,
    Rotated,
    Removed,
}

/// A secret without what makes it one.
#[derive(Debug, Serialize)]
pub(crate) struct SecretSummary {
    pub(crate) name: String,
    pub(crate) hosts: Vec<String>,
}

/// A program as it was asked for. Bytes that are not UTF-8 appear as `\xHH`.
#[derive(Debug, Serialize)]
pub(crate) struct Exec {
    exec: u64,
    argv: Vec<String>,
    user: String,
    cwd: String,
    tty: bool,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExecEnd<'a> {
    Status(u8),
    Signal(u8),
    Error(&'a str),
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// It never came up.
    StartFailed,
    /// Its programs were asked to end, then it was ended.
    Stopped,
    /// It was ended at once.
    Ended,
}

/// Sums over a sandbox's records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Records before the last one.
    pub records: u64,
    /// Names asked for.
    pub dns: u64,
    /// Flows opened or refused.
    pub flows: u64,
    /// Requests sent on or refused.
    pub requests: u64,
    /// Names, flows and requests that were refused.
    pub denied: u64,
    /// Bytes of payload that left the guest.
    pub bytes_up: u64,
    /// Bytes of payload that reached the guest.
    pub bytes_down: u64,
}

impl Exec {
    pub(crate) fn new(exec: u64, request: &ExecRequest) -> Self {
        let cwd = request.working_dir.as_deref().map_or_else(|| "/".to_owned(), readable);
        Self {
            exec,
            argv: request.argv.iter().map(|word| readable(word)).collect(),
            user: request.user.clone().unwrap_or_else(|| "root".to_owned()),
            cwd,
            tty: request.tty.is_some(),
        }
    }
}

impl From<ExitStatus> for ExecEnd<'_> {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Code(code) => Self::Status(code),
            ExitStatus::Signal(number) => Self::Signal(number),
        }
    }
}

impl Totals {
    pub(super) fn count(&mut self, event: &Event) {
        let decision = match event {
            Event::Dns { decision, .. } => {
                self.dns += 1;
                *decision
            }
            Event::FlowOpen { decision, .. } => {
                self.flows += 1;
                *decision
            }
            Event::Request { decision, .. } => {
                self.requests += 1;
                *decision
            }
            Event::FlowRefused { decision, .. } => *decision,
            Event::FlowClose { bytes_up, bytes_down, .. } => {
                self.bytes_up = self.bytes_up.saturating_add(*bytes_up);
                self.bytes_down = self.bytes_down.saturating_add(*bytes_down);
                return;
            }
            _ => return,
        };
        self.denied += u64::from(decision == Decision::Denied);
    }
}

fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Infallible: a `String` takes every write.
            let _ = std::fmt::Write::write_fmt(&mut text, format_args!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_without_its_environment() {
        let request = ExecRequest {
            argv: vec![b"echo".to_vec(), b"a\xff\xfeb".to_vec()],
            env: vec![(b"TOKEN".to_vec(), b"canary-value".to_vec())],
            ..ExecRequest::default()
        };
        let json = serde_json::to_string(&Lifecycle::Exec(Exec::new(3, &request))).expect("JSON");
        assert_eq!(
            json,
            r#"{"event":"exec","exec":3,"argv":["echo","a\\xff\\xfeb"],"user":"root","cwd":"/","tty":false}"#
        );
    }

    #[test]
    fn the_end_of_a_program_is_a_status_a_signal_or_an_error() {
        let json = |end| serde_json::to_string(&Lifecycle::ExecEnd { exec: 1, end }).expect("JSON");
        let status = json(ExitStatus::Code(7).into());
        assert_eq!(status, r#"{"event":"exec_end","exec":1,"status":7}"#);
        assert!(json(ExitStatus::Signal(9).into()).contains(r#""signal":9"#));
        assert!(json(ExecEnd::Error("lost")).contains(r#""error":"lost""#));
    }
}
