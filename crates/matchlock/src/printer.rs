//! The only place that writes to the terminal.
#![expect(clippy::print_stderr, reason = "this is the printer")]

mod bars;
mod build_log;
mod own_line;

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::error::CliError;

pub(crate) use self::bars::ImageProgress;
pub(crate) use self::build_log::BuildLog;
pub(crate) use self::own_line::{Standard, note_output, own_line};

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
        own_line(format!("matchlock: {text}\n").as_bytes());
    }

    /// A line on standard error exactly as given.
    pub(crate) fn line(self, text: &str) {
        own_line(format!("{text}\n").as_bytes());
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

    /// A result for programs: one line of JSON on standard output.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), CliError> {
        let json = serde_json::to_string(value)
            .map_err(|error| CliError::new(format!("cannot write JSON: {error}")))?;
        self.result(&json);
        Ok(())
    }

    /// A result in columns, left aligned, with a heading.
    pub(crate) fn table<const N: usize>(self, heading: [&str; N], rows: &[[String; N]]) {
        self.raw(table(heading, rows).as_bytes());
    }

    /// An error with its causes on one line, and a hint on the next.
    pub(crate) fn error(self, error: &CliError) {
        let hint = error.hint().map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
        own_line(format!("Error: {}\n{hint}", error.message()).as_bytes());
    }

    /// Shows how far an image has come while the result lives, on a terminal only.
    pub(crate) fn image_progress(self, image: &str) -> ImageProgress {
        ImageProgress::new(image, self.terminal)
    }

    /// Shows what a build does.
    pub(crate) fn build_log(self) -> BuildLog {
        BuildLog::new(self.terminal)
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

/// Lines of cells; two spaces at least are between them, none at the ends.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    };
    line(heading);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

/// A size as people and the reference's clients read it: MB are 2^20 bytes.
pub(crate) fn megabytes(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10;
    let tenths = (tenths + (1 << 19)) >> 20;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "long cell".to_owned()], ["ä".repeat(7), "x".to_owned()]];
        let text = table(["NAME", "SIZE"], &rows);
        assert_eq!(text, "NAME     SIZE\na        long cell\näääääää  x\n");
        assert_eq!(table(["NAME", "SIZE"], &[]), "NAME  SIZE\n");
    }

    #[test]
    fn megabytes_have_one_decimal() {
        let cases = [
            (0, "0.0 MB"),
            (52_428, "0.0 MB"),
            (52_429, "0.1 MB"),
            (16 << 20, "16.0 MB"),
            ((10 << 30) + (1 << 19), "10240.5 MB"),
            (u64::MAX, "17592186044416.0 MB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(megabytes(bytes), text);
        }
    }
}
