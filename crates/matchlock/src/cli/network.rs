//! The flags that decide about the network of a sandbox.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use clap::Args;

use crate::options::size;

/// What the sandbox may reach, and what is recorded.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Hosts that may be reached, separated by commas: names, *.example.com, addresses, CIDR, each
    /// optionally with :PORT; "*" is the public network. :PORT/tcp lets bytes pass unread, :PORT/tls
    /// TLS for that name
    /// [default: none; $MATCHLOCK_DEFAULT_EGRESS=public opens the public network]
    #[arg(long, value_name = "HOSTS")]
    pub(crate) allow_host: Vec<String>,

    /// Let allowed names and addresses be private: without a value those of RFC 1918, fc00::/7 and
    /// 100.64.0.0/10; others (loopback, link-local) only by their CIDR
    #[arg(long, value_name = "CIDR", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) allow_private: Vec<String>,

    /// Secret that only requests to these hosts receive; the sandbox holds a placeholder in $NAME.
    /// NAME@HOST,… takes the value from the environment, where other users cannot see it
    #[arg(long, value_name = "NAME[=VALUE]@HOST,…")]
    pub(crate) secret: Vec<SecretText>,

    /// JSON file of secrets: {"NAME": {"value": "…", "placeholder": "…", "hosts": ["…"]}}, also with
    /// "body", "https_only", "scrub": true
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Vec<OsString>,

    /// Placeholder of a secret, for programs that check its format
    #[arg(long, value_name = "NAME=PLACEHOLDER")]
    pub(crate) secret_placeholder: Vec<String>,

    /// Put the secret into bodies of requests too, not only headers and queries
    #[arg(long, value_name = "NAME")]
    pub(crate) secret_body: Vec<String>,

    /// Never send the secret without TLS
    #[arg(long, value_name = "NAME")]
    pub(crate) secret_https_only: Vec<String>,

    /// Replace the secret by its placeholder where responses contain it
    #[arg(long, value_name = "NAME")]
    pub(crate) secret_scrub: Vec<String>,

    /// DNS servers to use, IP or IP:PORT [default: the host's]
    #[arg(long, value_name = "SERVERS")]
    pub(crate) dns_servers: Vec<String>,

    /// Lines for the sandbox's /etc/hosts; the name must be allowed too
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,

    /// Largest packet of the sandbox in bytes
    #[arg(long, value_name = "BYTES", default_value = "1500", allow_negative_numbers = true,
          value_parser = size::packet)]
    pub(crate) mtu: i64,

    /// No network device at all
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) no_network: bool,

    /// Terminate TLS and parse HTTP even if no other flag needs it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) network_intercept: bool,

    /// PEM file of certificate authorities to trust for upstream servers, in addition to the host's
    #[arg(long, value_name = "FILE")]
    pub(crate) upstream_ca: Vec<OsString>,

    /// Append the audit trail to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<OsString>,
}

/// Ports of the sandbox that can be reached from outside.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct PublishArgs {
    /// Forward a port of the host to the sandbox's loopback
    #[arg(short, long, value_name = "[LOCAL:]REMOTE")]
    pub(crate) publish: Vec<String>,

    /// Addresses of the host to publish ports on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESSES")]
    pub(crate) address: Vec<String>,
}

/// The value of `--secret`, which is not shown.
#[derive(Clone)]
pub(crate) struct SecretText(String);

impl SecretText {
    /// The text, secret and all.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}
