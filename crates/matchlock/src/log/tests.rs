//! What is logged, how much of it, and in which form.

use std::io::Write;
use std::time::Duration;

use super::limit::{LINES, WINDOW};
use super::sink::{MAX_HELD, MAX_LINE};
use super::*;

/// A file that remembers what was written to it.
#[derive(Debug, Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn sink(&self, shared: bool, left: u64) -> Arc<Sink> {
        Arc::new(Sink::new(Box::new(self.clone()), shared, left))
    }

    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
    }
}

/// What `events` log at a level.
fn logged(level: LogLevel, events: impl FnOnce()) -> Vec<String> {
    let paper = Paper::default();
    tracing::subscriber::with_default(subscriber(level, &paper.sink(false, 1 << 20)), events);
    paper.lines()
}

#[test]
fn a_level_shows_what_is_at_least_as_serious() {
    let events = || {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::trace!("t");
    };
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];
    for (level, count) in levels.into_iter().zip(1..) {
        assert_eq!(logged(level, events).len(), count, "{level:?}");
    }
}

#[test]
fn a_line_names_its_time_level_and_place() {
    let lines = logged(LogLevel::Warn, || tracing::warn!(server = "a.example", "it is gone"));
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let (time, rest) = line.split_once(' ').expect("a time");
    assert!(time.ends_with('Z') && time.contains('T'), "{line}");
    assert_eq!(rest.trim(), "WARN matchlock::log::tests: it is gone server=\"a.example\"");
}

#[test]
fn lines_of_other_crates_are_left_out() {
    let lines = logged(LogLevel::Debug, || {
        tracing::error!(target: "h2::codec", "authorization: Bearer key");
        tracing::error!(target: "matchlocked", "x");
        tracing::error!(target: "matchlock_net::engine", "y");
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn what_a_guest_chose_is_one_line_that_no_terminal_obeys() {
    let hostile = "a\nERROR forged\x1b[2J\u{202e}";
    let lines = logged(LogLevel::Warn, || tracing::warn!(why = %hostile, "{hostile}"));
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(!line.contains(['\x1b', '\u{202e}', '\n']), "{line:?}");
}

#[test]
fn a_flood_of_one_kind_is_cut_and_counted() {
    let mut limiter = Limiter::default();
    let site = tracing::callsite!(name: "flood", kind: tracing::metadata::Kind::EVENT, fields: a);
    let site = tracing::callsite::Callsite::metadata(site).callsite();
    let start = Instant::now();
    let admitted = (0..1000).filter(|_| limiter.admit(site.clone(), false, start).is_some());
    assert_eq!(admitted.count(), LINES as usize);
    let later = start + WINDOW - Duration::from_millis(1);
    assert_eq!(limiter.admit(site.clone(), false, later), None);
    assert_eq!(limiter.admit(site.clone(), false, start + WINDOW), Some(1001 - u64::from(LINES)));
    assert_eq!(limiter.admit(site, false, start + WINDOW), Some(0));

    let lines = logged(LogLevel::Warn, || (0..100).for_each(|_| tracing::warn!("flood")));
    assert_eq!(lines.len(), LINES as usize);
}

#[test]
fn a_log_and_a_line_have_an_end() {
    let paper = Paper::default();
    let sink = paper.sink(false, 5000);
    for _ in 0..3 {
        sink.line(&"é".repeat(MAX_LINE));
    }
    let lines = paper.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("é…") && lines[0].len() <= MAX_LINE + 4);
    assert!(lines[1].starts_with("the log is full"), "{lines:?}");
}

#[test]
fn lines_wait_until_the_terminal_is_ours_again() {
    let paper = Paper::default();
    let sink = paper.sink(true, 1 << 20);
    sink.hold();
    for number in 0..MAX_HELD + 2 {
        sink.line(&number.to_string());
    }
    assert!(paper.lines().is_empty());
    sink.release();
    let lines = paper.lines();
    assert_eq!(lines.len(), MAX_HELD + 1);
    assert_eq!(&lines[..2], ["2 lines of the log were dropped", "2"]);

    let paper = Paper::default();
    let file = paper.sink(false, 1 << 20);
    file.hold();
    file.line("at once");
    assert_eq!(paper.lines(), ["at once"]);
}
