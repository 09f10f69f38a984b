//! The only place that writes to the terminal.
#![expect(clippy::print_stderr, reason = "this is the printer")]

mod bars;
mod build_log;
mod json;
mod own_line;

use std::io::{IsTerminal, Write, stderr, stdout};

use rustix::termios::tcgetwinsize;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{CliError, Kind};

pub(crate) use self::bars::{ByteProgress, ImageProgress};
pub(crate) use self::build_log::BuildLog;
pub(crate) use self::json::JsonOutput;
pub(crate) use self::own_line::{Standard, note_output, own_line};

/// Writes messages for people on standard error, results on standard output, and the JSON of a
/// command to where it was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    terminal: bool,
    json: JsonOutput,
}

/// An error in JSON.
#[derive(Debug, Serialize)]
struct ErrorReport<'a> {
    kind: Kind,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// A line on the terminal while something takes its time; it vanishes when this value is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

impl Printer {
    pub(crate) fn new(json: JsonOutput) -> Self {
        Self { terminal: stderr().is_terminal(), json }
    }

    /// Refuses a place for the JSON that cannot be written.
    pub(crate) fn check(self) -> Result<(), CliError> {
        self.json.check()
    }

    /// Whether a person reads the messages.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// A message for the user.
    pub(crate) fn note(self, text: &str) {
        own_line(format!("matchlock: {text}\n").as_bytes());
    }

    /// A line on standard error, never glued to what a program wrote there.
    pub(crate) fn line(self, text: &str) {
        own_line(format!("{text}\n").as_bytes());
    }

    /// A result for people, on standard output; nothing if that is for JSON.
    ///
    /// A reader that has gone away (`| head`) is no error worth a message.
    pub(crate) fn result(self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// The same without a line end of ours.
    pub(crate) fn raw(self, text: &[u8]) {
        if self.json != JsonOutput::Stdout {
            drop(stdout().write_all(text));
        }
    }

    /// What happens, on standard error; nothing if standard output is for JSON, whose readers may
    /// take both together.
    pub(crate) fn step(self, text: &str) {
        if self.json != JsonOutput::Stdout {
            self.line(text);
        }
    }

    /// A result for programs: one line of JSON, if it was asked for.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), CliError> {
        let line = || {
            serde_json::to_string(value).map_err(|error| {
                CliError::new(format!("cannot write JSON: {error}")).of_kind(Kind::Internal)
            })
        };
        match self.json {
            JsonOutput::Off => {}
            JsonOutput::Stdout => drop(writeln!(stdout(), "{}", line()?)),
            JsonOutput::Stderr => self.line(&line()?),
            JsonOutput::File(path) => json::write(path, &line()?)?,
        }
        Ok(())
    }

    /// Tells of an error that ends the command with this status: for people, and as the JSON object.
    pub(crate) fn failure(self, error: &CliError, status: u8) {
        self.error(error);
        let written = self.json(&failure_object(error, status));
        // That the place for JSON cannot be written may be the very error.
        if let Err(other) = written.as_ref().map_err(CliError::message)
            && other != error.message()
        {
            self.line(&format!("Error: {other}"));
        }
    }

    /// A result in columns, left aligned, with a heading.
    pub(crate) fn table<const N: usize>(self, heading: [&str; N], rows: &[[String; N]]) {
        self.raw(table(heading, rows).as_bytes());
    }

    /// The same, no wider than the terminal if it goes to one: then cells of the column `flexible` are
    /// shortened.
    pub(crate) fn fitted_table<const N: usize>(
        self,
        heading: [&str; N],
        mut rows: Vec<[String; N]>,
        flexible: usize,
    ) {
        if let Some(columns) = columns() {
            fit(heading, &mut rows, flexible, columns);
        }
        self.table(heading, &rows);
    }

    /// A line of a result, cut to the terminal's width if it goes to one.
    pub(crate) fn fitted_line(self, text: &str) {
        let width = columns().filter(|width| text.chars().count() > *width);
        match width {
            Some(width) => {
                let cut: String = text.chars().take(width.saturating_sub(1)).chain(['…']).collect();
                self.result(&cut);
            }
            None => self.result(text),
        }
    }

    /// An error with its causes on one line, and a hint on the next.
    fn error(self, error: &CliError) {
        if error.is_said() {
            return;
        }
        let hint = error.hint().map(|hint| format!("  hint: {hint}\n")).unwrap_or_default();
        own_line(format!("Error: {}\n{hint}", error.message()).as_bytes());
    }

    /// Shows how far an image has come while the result lives, on a terminal only.
    pub(crate) fn image_progress(self, image: &str) -> ImageProgress {
        ImageProgress::new(image, self.terminal)
    }

    /// Shows how many bytes have been copied, on a terminal only.
    pub(crate) fn byte_progress(self, text: &str) -> ByteProgress {
        ByteProgress::new(text, self.terminal)
    }

    /// Whether standard output is for JSON.
    pub(crate) fn json_has_stdout(self) -> bool {
        self.json == JsonOutput::Stdout
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

/// The width of the terminal that standard output is, if it is one.
fn columns() -> Option<usize> {
    let stdout = stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// What JSON has of an error.
pub(crate) fn failure_object(error: &CliError, status: u8) -> Map<String, Value> {
    let report = ErrorReport { kind: error.kind(), message: error.message(), hint: error.hint() };
    let mut object = error.details().clone();
    object.insert("exit_code".to_owned(), status.into());
    object.insert("error".to_owned(), serde_json::to_value(report).unwrap_or_default());
    object
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

/// Shortens cells of one column until the table has this width, as far as that goes.
fn fit<const N: usize>(
    heading: [&str; N],
    rows: &mut [[String; N]],
    flexible: usize,
    width: usize,
) {
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let others: usize = (0..N).filter(|column| *column != flexible).map(widest).sum();
    let room = width.saturating_sub(others + 2 * (N - 1)).max(heading[flexible].len());
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(flexible)) {
        if cell.chars().count() > room {
            *cell = cell.chars().take(room.saturating_sub(1)).chain(['…']).collect();
        }
    }
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
    fn one_column_gives_way_to_the_width_of_the_terminal() {
        let row = |image: &str| ["vm-1".to_owned(), image.to_owned(), "123".to_owned()];
        let heading = ["ID", "IMAGE", "PID"];
        let fitted = |width| {
            let mut rows = [row("registry.example.com/a:1"), row("host")];
            fit(heading, &mut rows, 1, width);
            table(heading, &rows)
        };
        assert_eq!(
            fitted(21),
            "ID    IMAGE       PID\nvm-1  registry.…  123\nvm-1  host        123\n"
        );
        assert!(fitted(80).contains("registry.example.com/a:1"));
        // Too narrow for everything: the heading is still whole.
        assert_eq!(fitted(3), "ID    IMAGE  PID\nvm-1  regi…  123\nvm-1  host   123\n");
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
