//! What has been run, how it ended, and how long it took.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, pipe};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use matchlock_testkit::SKIPPED;

use super::lines::{Counts, case_time, closing_line, suite_name};
use crate::run;

/// How many of the slowest cases are shown.
const SLOWEST: usize = 10;

/// What is known of the steps so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    closing_lines: Vec<String>,
    counts: Counts,
    failures: Vec<String>,
    skips: Vec<String>,
    steps: Vec<(String, Duration)>,
    suites: Vec<(String, Duration)>,
    cases: Vec<(String, Duration)>,
}

impl Report {
    /// Runs a step that is no test; its failure counts as one.
    pub(super) fn step(&mut self, name: &str, action: impl FnOnce() -> Result<()>) {
        println!("== {name}");
        let start = Instant::now();
        if let Err(error) = action() {
            self.counts.failed += 1;
            self.failures.push(format!("{name}: {error:#}"));
        }
        self.steps.push((name.to_owned(), start.elapsed()));
    }

    /// Runs a call of `cargo test` and adds up its closing lines.
    pub(super) fn tests(&mut self, name: &str, command: &mut Command) {
        println!("== {name}");
        let start = Instant::now();
        let before = self.counts.failed;
        if let Err(error) = self.run_tests(command) {
            // A test binary that did not compile or died left no closing line.
            if self.counts.failed == before {
                self.counts.failed += 1;
            }
            self.failures.push(format!("{name}: {error:#}"));
        }
        self.steps.push((name.to_owned(), start.elapsed()));
    }

    /// Adds the times of cases that a harness of our own has recorded.
    pub(super) fn recorded_times(&mut self, text: &str) {
        let times = text.lines().filter_map(|line| {
            let (seconds, case) = line.split_once(' ')?;
            Some((case.to_owned(), Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
        });
        self.cases.extend(times);
    }

    fn run_tests(&mut self, command: &mut Command) -> Result<()> {
        let shown = run::display(command);
        // One pipe for both, for Cargo names the suites on its standard error.
        let (output, ours) = pipe().context("no pipe for the tests")?;
        let theirs = ours.try_clone().context("no pipe for the tests")?;
        let child = command.stdout(ours).stderr(theirs).spawn();
        let mut child = child.with_context(|| format!("cannot run {shown}"))?;
        // The command holds the other end of the pipe open.
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut suite = String::new();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read the output of the tests")?;
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("{line}");
            self.read(line, &mut suite);
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("{shown} failed ({status})");
        }
        Ok(())
    }

    /// Takes what there is to know from a line.
    fn read(&mut self, line: String, suite: &mut String) {
        if let Some(name) = suite_name(&line) {
            name.clone_into(suite);
        } else if let Some((case, time)) = case_time(&line) {
            self.cases.push((format!("{suite}::{case}"), time));
        } else if let Some(skip) = line.strip_prefix(SKIPPED) {
            self.skips.push(format!("{suite}::{skip}"));
        } else if let Some((counts, time)) = closing_line(&line) {
            self.counts.passed += counts.passed;
            self.counts.failed += counts.failed;
            self.counts.skipped += counts.skipped;
            self.suites.push((std::mem::take(suite), time));
            self.closing_lines.push(line);
        }
    }

    /// Prints the report.
    ///
    /// # Errors
    /// When something failed, or was skipped although that is not allowed.
    pub(super) fn finish(mut self, skips_are_failures: bool) -> Result<()> {
        // The harness took them for passed. What it ignores itself is no test of its own: a process that
        // another test starts, or a measurement.
        let skipped = self.skips.len() as u64;
        self.counts.skipped += skipped;
        self.counts.passed = self.counts.passed.saturating_sub(skipped);
        print!("{self}");
        let nothing_failed = self.counts.failed == 0 && self.failures.is_empty();
        if !nothing_failed || (skips_are_failures && skipped > 0) {
            bail!("not everything passed");
        }
        Ok(())
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("== closing lines\n")?;
        for line in &self.closing_lines {
            writeln!(f, "{line}")?;
        }
        f.write_str(&times("steps", &self.steps, usize::MAX))?;
        f.write_str(&times("suites", &self.suites, SLOWEST))?;
        f.write_str(&times("slowest cases", &self.cases, SLOWEST))?;
        for skip in &self.skips {
            writeln!(f, "{SKIPPED}{skip}")?;
        }
        for failure in &self.failures {
            writeln!(f, "failed: {failure}")?;
        }
        let Counts { passed, failed, skipped } = self.counts;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        writeln!(f, "{passed} passed, {failed} failed{skipped}")
    }
}

/// The longest of them, a line each.
fn times(title: &str, times: &[(String, Duration)], most: usize) -> String {
    let mut sorted: Vec<_> = times.iter().collect();
    sorted.sort_by(|(_, a), (_, b)| b.cmp(a));
    let total: Duration = times.iter().map(|(_, time)| time).sum();
    let mut text = format!("== {title}: {:.1} s in {}\n", total.as_secs_f64(), times.len());
    for (name, time) in sorted.into_iter().take(most) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>8.1} s  {name}", time.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_runner_that_dies_without_a_closing_line_counts_as_a_failure() {
        let mut report = Report::default();
        report.tests("dies", &mut shell("echo hello; exit 3"));
        assert_eq!(report.counts.failed, 1);
        let closing = "echo 'test result: FAILED. 1 passed; 2 failed; finished in 1.00s'; exit 1";
        report.tests("counts", &mut shell(closing));
        assert_eq!(report.counts, Counts { passed: 1, failed: 3, skipped: 0 });
        assert!(report.finish(false).is_err());
    }

    #[test]
    fn a_skip_is_no_pass_and_fails_where_none_may_be() {
        let run = || {
            let mut report = Report::default();
            let script = "echo '     Running tests/x.rs (target/debug/deps/x-0123456789abcdef)' >&2
                printf '\\nskipped: one: not root\\n'
                echo 'test one ... ok <0.010s>'
                echo 'test two ... ok <2.500s>'
                echo 'test result: ok. 2 passed; 0 failed; 0 ignored; finished in 2.51s'";
            report.tests("skips", &mut shell(script));
            report
        };
        assert!(run().finish(false).is_ok());
        assert!(run().finish(true).is_err());
        let mut ignored = Report::default();
        let closing = "echo 'test result: ok. 1 passed; 0 failed; 2 ignored; finished in 1.00s'";
        ignored.tests("processes that other tests start", &mut shell(closing));
        assert!(ignored.finish(true).is_ok());
        let mut report = run();
        assert_eq!(report.skips, ["x::one: not root"]);
        report.recorded_times("3.25 network::three\nnothing\n");
        let text = report.to_string();
        let cases = text.split_once("== slowest cases").expect("its heading").1;
        let order = ["network::three", "x::two", "x::one"].map(|name| cases.find(name));
        assert!(order.is_sorted() && order[0].is_some(), "{text}");
        assert!(text.contains("     2.5 s  x\n"), "{text}");
    }
}
