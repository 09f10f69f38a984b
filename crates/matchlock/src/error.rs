//! What the command line reports.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use matchlock_core::text::escape;
use matchlock_core::{Classified, DescribeChain, Hint, InvalidConfig};

/// docs/json.md has the meanings.
pub(crate) use matchlock_core::ErrorKind as Kind;

/// Exit status when our standard output has no reader any more: 128 + SIGPIPE.
pub(crate) const OUTPUT_CLOSED: u8 = 141;

/// An error for the user: what failed, why, and what to do.
#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    hint: Option<String>,
    kind: Kind,
    /// `None`: the usual one of the command.
    status: Option<u8>,
    /// The user knows of it already.
    said: bool,
    /// What the JSON object of the command has beside the error.
    details: Map<String, Value>,
}

impl CliError {
    /// An error of the arguments or of the environment.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: escape::one_line(&message.into()),
            hint: None,
            kind: Kind::InvalidArgument,
            status: None,
            said: false,
            details: Map::new(),
        }
    }

    /// The host's files or sockets failed.
    pub(crate) fn of_io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(format!("{doing}: {error}")).of_kind(Kind::of_io(error))
    }

    /// A part of matchlock itself failed.
    pub(crate) fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        Self::new(format!("{what}: {error}")).of_kind(Kind::Internal)
    }

    /// A signal came before the command was done.
    pub(crate) fn interrupted(signal: u8) -> Self {
        Self::new(format!("interrupted by signal {signal}"))
            .of_kind(Kind::Cancelled)
            .with_status(128u8.saturating_add(signal))
            .said()
    }

    /// The user knows of it already: only JSON tells of it.
    pub(crate) fn said(mut self) -> Self {
        self.said = true;
        self
    }

    pub(crate) fn is_said(&self) -> bool {
        self.said
    }

    /// Sets the kind, which is otherwise that of wrong arguments.
    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds what the JSON object of the command has beside the error.
    pub(crate) fn with_details(mut self, details: &impl Serialize) -> Self {
        if let Ok(Value::Object(details)) = serde_json::to_value(details) {
            self.details.extend(details);
        }
        self
    }

    /// What the user does next.
    pub(crate) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Exit status other than the usual one of the command.
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn status(&self) -> Option<u8> {
        self.status
    }

    pub(crate) fn details(&self) -> &Map<String, Value> {
        &self.details
    }

    /// Puts what was being done before the message.
    pub(crate) fn context(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl<E: Classified> From<E> for CliError {
    fn from(error: E) -> Self {
        let this = Self::new(DescribeChain(&error).to_string()).of_kind(error.kind());
        Self { hint: error.hint().map(words), ..this }
    }
}

/// For `map_err`: names the flag that a value was given by.
pub(crate) fn given_by(flag: &str) -> impl FnOnce(InvalidConfig) -> CliError {
    move |error| {
        let message = escape::one_line(&error.named(flag).to_string());
        CliError { message, ..error.into() }
    }
}

/// A hint in the words of the command line.
pub(crate) fn words(hint: Hint) -> String {
    let text = match hint {
        Hint::Text(text) => text,
        Hint::CheckHost => "run `matchlock diagnose` to check this machine",
        Hint::CheckTrail(path) => {
            let file = path.display();
            return format!("name a new file; `matchlock audit verify {file}` checks this one");
        }
        Hint::ChooseAccelerator => {
            "unset MATCHLOCK_ACCEL to let matchlock fall back to software emulation"
        }
        Hint::EndSandbox => "`matchlock stop ID` ends it; `matchlock rm -f ID` ends and removes it",
        Hint::FindQemu => {
            "MATCHLOCK_QEMU must name a qemu-system-x86_64 program; unset it to use PATH"
        }
        Hint::FreeImages => "`matchlock image rm` and `matchlock image gc` free space",
        Hint::ImportArchive => {
            "`docker save IMAGE | matchlock image import TAG`; OCI layouts in a tar do too"
        }
        Hint::InstallQemu => {
            "install QEMU 7.2 or newer (Debian and Ubuntu: qemu-system-x86, Fedora: \
             qemu-system-x86-core, Arch: qemu-system-x86, Alpine: qemu-system-x86_64), or point \
             MATCHLOCK_QEMU to it"
        }
        Hint::ListImages => {
            "`matchlock image ls` lists the images that are here; they need no network"
        }
        Hint::ListSandboxes => "`matchlock list` lists them",
        Hint::ListVolumes => "`matchlock volume ls` lists them",
        Hint::OwnKernel => {
            "unset MATCHLOCK_KERNEL and --kernel to use the kernel that matchlock carries"
        }
        Hint::PullAgain => "`matchlock pull --force IMAGE` fetches what is missing",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_harmless_line() {
        let error = CliError::new("first\n\n  second\x1b[2J").context("doing");
        assert_eq!(error.message(), "doing: first | second\\u{1b}[2J");
    }
}
