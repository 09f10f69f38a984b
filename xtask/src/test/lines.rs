//! Lines of Cargo and of Rust's test harness.

use std::time::Duration;

/// How many tests of a suite ended in which way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

/// The suite that Cargo begins to run: the name of its crate.
pub(super) fn suite_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(name);
    }
    let (_, path) = line.strip_prefix("Running ")?.rsplit_once('(')?;
    let file = path.strip_suffix(')')?.rsplit('/').next()?;
    file.rsplit_once('-').map(|(name, _hash)| name)
}

/// The time of a case, as `--report-time` shows it: `test NAME ... ok <1.234s>`.
pub(super) fn case_time(line: &str) -> Option<(&str, Duration)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let (_, time) = rest.strip_suffix('>')?.rsplit_once('<')?;
    Some((name.trim_end_matches(" - should panic"), seconds(time)?))
}

/// Reads the line with which the harness ends: what came of its tests, and the time of all of them.
pub(super) fn closing_line(line: &str) -> Option<(Counts, Duration)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut result = Counts::default();
    let mut time = Duration::ZERO;
    for part in counts.split("; ") {
        if let Some(finished) = part.strip_prefix("finished in ") {
            time = seconds(finished)?;
        }
        let Some((number, what)) = part.split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => result.passed = number,
            "failed" => result.failed = number,
            "ignored" => result.skipped = number,
            _ => {}
        }
    }
    Some((result, time))
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let line = "test result: FAILED. 6 passed; 1 failed; 2 ignored; 0 measured; 3 filtered \
                    out; finished in 0.68s";
        let counts = Counts { passed: 6, failed: 1, skipped: 2 };
        assert_eq!(closing_line(line), Some((counts, Duration::from_millis(680))));
        assert_eq!(closing_line("test result_of_x ... ok"), None);
    }

    #[test]
    fn suites_and_times_of_cases_are_read() {
        let line = "     Running unittests src/lib.rs (target/debug/deps/matchlock_core-f00)";
        assert_eq!(suite_name(line), Some("matchlock_core"));
        assert_eq!(suite_name("   Doc-tests matchlock_fs"), Some("matchlock_fs"));
        assert_eq!(suite_name("Running is healthy"), None);
        let time = Duration::from_millis(1234);
        assert_eq!(case_time("test a::b ... ok <1.234s>"), Some(("a::b", time)));
        assert_eq!(case_time("test a - should panic ... FAILED <1.234s>"), Some(("a", time)));
        assert_eq!(case_time("test a::b ... ok"), None);
    }
}
