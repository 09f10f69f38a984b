//! What a build shows: a line for each step, and what its command writes.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use matchlock_core::dockerfile::{BuildEvent, BuildProgress};

/// Writes the progress of a build to standard error.
#[derive(Debug)]
pub(crate) struct BuildLog {
    paper: Mutex<Paper<std::io::Stderr>>,
}

#[derive(Debug)]
struct Paper<W> {
    out: W,
    /// What commands write must not steer the user's terminal.
    terminal: bool,
    /// The last line has no end yet.
    open: bool,
    /// The last byte of a command's output.
    last: u8,
}

impl BuildLog {
    pub(super) fn new(terminal: bool) -> Self {
        let paper = Paper { out: std::io::stderr(), terminal, open: false, last: 0 };
        Self { paper: Mutex::new(paper) }
    }
}

impl BuildProgress for BuildLog {
    fn event(&self, event: BuildEvent<'_>) {
        self.paper.lock().unwrap_or_else(PoisonError::into_inner).event(event);
    }
}

impl Drop for BuildLog {
    fn drop(&mut self) {
        // An error that follows stands on a line of its own.
        self.paper.get_mut().unwrap_or_else(PoisonError::into_inner).close();
    }
}

impl<W: Write> Paper<W> {
    fn event(&mut self, event: BuildEvent<'_>) {
        match event {
            BuildEvent::Step { number, total, stage, at } => {
                let stage = stage.map(|stage| format!("{stage} ")).unwrap_or_default();
                let text = if at.text.is_empty() { at.to_string() } else { at.text.clone() };
                self.line(&format!("[{stage}{number}/{total}] {text}"));
            }
            BuildEvent::Cached => self.line("CACHED"),
            BuildEvent::Output { bytes, .. } => self.output(bytes),
            BuildEvent::Storing => self.line("storing the image"),
            BuildEvent::Warning(text) => self.line(&format!("matchlock: warning: {text}")),
            BuildEvent::Resolving { image } => self.line(&format!("resolving {image}")),
            _ => {}
        }
    }

    fn line(&mut self, text: &str) {
        self.close();
        let harmless = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
        drop(writeln!(self.out, "{}", harmless.collect::<String>()));
    }

    /// Ends a line that a command has begun.
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            drop(writeln!(self.out));
        }
    }

    fn output(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.open = *last != b'\n';
        let written = if self.terminal {
            let harmless: Vec<u8> = bytes.iter().map(|byte| self.harmless(*byte)).collect();
            self.out.write_all(&harmless)
        } else {
            self.out.write_all(bytes)
        };
        // Nobody may be there to read it: the build is wanted all the same.
        drop(written.and_then(|()| self.out.flush()));
    }

    /// Control characters of ASCII, and those of ISO 6429 beyond it in UTF-8 (`C2 80` to `C2 9F`).
    fn harmless(&mut self, byte: u8) -> u8 {
        let before = std::mem::replace(&mut self.last, byte);
        match byte {
            b'\n' | b'\t' | b'\r' => byte,
            0..0x20 | 0x7f => b'?',
            0x80..0xa0 if before == 0xc2 => b'?',
            _ => byte,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use matchlock_core::dockerfile::{At, Stream};

    fn output(bytes: &[u8]) -> BuildEvent<'_> {
        BuildEvent::Output { stream: Stream::Stdout, bytes }
    }

    fn shown(terminal: bool, events: &[BuildEvent<'_>]) -> String {
        let mut paper = Paper { out: Vec::new(), terminal, open: false, last: 0 };
        for event in events {
            paper.event(*event);
        }
        paper.close();
        String::from_utf8_lossy(&paper.out).into_owned()
    }

    #[test]
    fn every_step_has_a_line() {
        let at = At::new(&"Dockerfile".into(), 2, "RUN  make");
        let step = |stage| BuildEvent::Step { number: 2, total: 3, stage, at: &at };
        let events = [step(None), output(b"no "), output(b"end"), step(Some("tools"))];
        assert_eq!(shown(false, &events), "[2/3] RUN make\nno end\n[tools 2/3] RUN make\n");
        let events = [step(None), BuildEvent::Cached, BuildEvent::Warning("odd\x1b")];
        let expected = "[2/3] RUN make\nCACHED\nmatchlock: warning: odd\u{fffd}\n";
        assert_eq!(shown(true, &events), expected);
    }

    #[test]
    fn a_command_does_not_steer_the_terminal() {
        let events = [output(b"\x1b[2Ja\xc2"), output(b"\x9b\xc3\xa4\x07\tb\r\n")];
        assert_eq!(shown(true, &events), "?[2Ja\u{fffd}?ä?\tb\r\n");
        assert_eq!(shown(false, &events), "\x1b[2Ja\u{9b}ä\x07\tb\r\n");
    }
}
