//! What has been run, how it ended, and how long it took.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, pipe};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
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
    pub(super) fn tests(&mut self, name: &str, command: Command) {
        self.lanes(name, vec![vec![command]]);
    }

    /// Runs lanes of calls of `cargo test` beside each other, those of a lane one after the other.
    pub(super) fn lanes(&mut self, name: &str, lanes: Vec<Vec<Command>>) {
        println!("== {name}");
        let start = Instant::now();
        let before = self.counts.failed;
        let many = lanes.len() > 1;
        let (tell, told) = mpsc::channel();
        let errors: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = (0..)
                .zip(lanes)
                .map(|(lane, commands)| {
                    let tell = tell.clone();
                    scope.spawn(move || run_lane(commands, |line| drop(tell.send((lane, line)))))
                })
                .collect();
            drop(tell);
            let mut suites = vec![String::new(); running.len()];
            for (lane, line) in told {
                let suite: &mut String = &mut suites[lane];
                self.read(&line, suite);
                // Lines of lanes come between each other.
                if many && !suite.is_empty() {
                    println!("{suite}: {line}");
                } else {
                    println!("{line}");
                }
            }
            running.into_iter().flat_map(|lane| lane.join().unwrap_or_default()).collect()
        });
        // A test binary that did not compile or died left no closing line.
        if !errors.is_empty() && self.counts.failed == before {
            self.counts.failed += 1;
        }
        self.failures.extend(errors.into_iter().map(|error| format!("{name}: {error:#}")));
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

    /// Takes what there is to know from a line.
    fn read(&mut self, line: &str, suite: &mut String) {
        if let Some(name) = suite_name(line) {
            name.clone_into(suite);
        } else if let Some((case, time)) = case_time(line) {
            self.cases.push((format!("{suite}::{case}"), time));
        } else if let Some(skip) = line.strip_prefix(SKIPPED) {
            self.skips.push(format!("{suite}::{skip}"));
        } else if let Some((counts, time)) = closing_line(line) {
            self.counts.passed += counts.passed;
            self.counts.failed += counts.failed;
            self.counts.skipped += counts.skipped;
            self.suites.push((std::mem::take(suite), time));
            self.closing_lines.push(line.to_owned());
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

/// Runs commands one after the other, whatever comes of each; returns what went wrong.
fn run_lane(commands: Vec<Command>, mut tell: impl FnMut(String)) -> Vec<anyhow::Error> {
    commands.into_iter().filter_map(|command| run_tests(command, &mut tell).err()).collect()
}

/// Runs a command, and tells each of its lines.
fn run_tests(mut command: Command, tell: &mut impl FnMut(String)) -> Result<()> {
    let shown = run::display(&command);
    // One pipe for both, for Cargo names the suites on its standard error.
    let (output, ours) = pipe().context("no pipe for the tests")?;
    let theirs = ours.try_clone().context("no pipe for the tests")?;
    let child = command.stdout(ours).stderr(theirs).spawn();
    let mut child = child.with_context(|| format!("cannot run {shown}"))?;
    // The command holds the other end of the pipe open.
    drop(command);
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output of the tests")?;
        tell(String::from_utf8_lossy(&line).into_owned());
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
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
        report.tests("dies", shell("echo hello; exit 3"));
        assert_eq!(report.counts.failed, 1);
        let closing = "echo 'test result: FAILED. 1 passed; 2 failed; finished in 1.00s'; exit 1";
        report.tests("counts", shell(closing));
        assert_eq!(report.counts, Counts { passed: 1, failed: 3, skipped: 0 });
        assert!(report.finish(false).is_err());
    }

    #[test]
    fn lanes_run_beside_each_other_and_each_knows_its_suite() {
        let directory = tempfile::tempdir().expect("a directory");
        let (there, back) = (directory.path().join("there"), directory.path().join("back"));
        let mkfifo = |path| Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
        assert!(mkfifo(&there).success() && mkfifo(&back).success());
        let suite = |name: &str, between: String| {
            shell(&format!(
                "echo '     Running tests/{name}.rs (target/debug/deps/{name}-0123456789abcdef)'
                {between}
                echo 'test one ... ok <1.000s>'
                echo 'test result: ok. 1 passed; 0 failed; 0 ignored; finished in 1.00s'"
            ))
        };
        // Neither ends without the other.
        let first = format!("echo x > {}; read -r x < {}", there.display(), back.display());
        let second = format!("read -r x < {}; echo x > {}", there.display(), back.display());
        let lanes = vec![
            vec![shell("exit 1"), suite("x", first), suite("y", String::new())],
            vec![suite("z", second)],
        ];
        let mut report = Report::default();
        report.lanes("lanes", lanes);
        assert_eq!(report.counts, Counts { passed: 3, failed: 1, skipped: 0 });
        assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
        let mut cases: Vec<_> = report.cases.iter().map(|(name, _)| &**name).collect();
        cases.sort_unstable();
        assert_eq!(cases, ["x::one", "y::one", "z::one"]);
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
            report.tests("skips", shell(script));
            report
        };
        assert!(run().finish(false).is_ok());
        assert!(run().finish(true).is_err());
        let mut ignored = Report::default();
        let closing = "echo 'test result: ok. 1 passed; 0 failed; 2 ignored; finished in 1.00s'";
        ignored.tests("processes that other tests start", shell(closing));
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
