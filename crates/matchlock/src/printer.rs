//! The only place that writes to the terminal.
#![expect(clippy::print_stderr, reason = "this is the printer")]

use std::io::{IsTerminal, Write};

use crate::error::CliError;

/// Writes messages for people on standard error and results on standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    terminal: bool,
}

/// A line on the terminal while something takes its time; it vanishes when this value is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

impl Printer {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    /// Whether a person reads the messages.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// A message for the user.
    pub(crate) fn note(self, text: &str) {
        drop(writeln!(std::io::stderr(), "matchlock: {text}"));
    }

    /// A line on standard error exactly as given.
    pub(crate) fn line(self, text: &str) {
        drop(writeln!(std::io::stderr(), "{text}"));
    }

    /// A result on standard output.
    ///
    /// A reader that has gone away (`| head`) is no error worth a message.
    pub(crate) fn result(self, text: &str) {
        drop(writeln!(std::io::stdout(), "{text}"));
    }

    /// Text on standard output without a line end of ours.
    pub(crate) fn raw(self, text: &[u8]) {
        drop(std::io::stdout().write_all(text));
    }

    /// An error with its causes on one line, and a hint on the next.
    pub(crate) fn error(self, error: &CliError) {
        eprintln!("Error: {}", error.message());
        if let Some(hint) = error.hint() {
            eprintln!("  hint: {hint}");
        }
    }

    /// Shows `text` while the result lives, on a terminal only.
    pub(crate) fn progress(self, text: &str) -> Progress {
        if self.terminal {
            eprint!("{text}");
        }
        Progress { shown: self.terminal }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            // Carriage return, erase the line (ECMA-48 EL 2).
            eprint!("\r\x1b[2K");
        }
    }
}
