//! `cargo xtask test`: everything that has to hold, from a fresh clone.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use matchlock_testkit::TEST_IMAGES;

use crate::workspace::Workspace;
use crate::{build, fuzz, guest, image, lint, run, setup};

/// Package of the end-to-end tests, which start real virtual machines.
const END_TO_END: &str = "matchlock-e2e";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests that start virtual machines.
    #[arg(long)]
    no_vm: bool,
}

/// Installs what is missing, builds, and runs every test.
///
/// # Errors
/// When anything failed, after all the rest has been run.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    setup::run()?;
    guest::run(workspace)?;
    let mut report = Report::default();
    report.step("tools of the image tests", || setup::ensure(&setup::IMAGE_TESTS));
    report.step("format", || lint::format(workspace));
    report.step("clippy", || lint::clippy(workspace));
    report.tests("unit tests", &mut unit_tests(workspace));
    report.tests("fuzz targets", &mut fuzz::smoke_test(workspace));
    if workspace.path("guest/kernel/manifest.json").exists() {
        // As a call of its own, so that its arguments are read where they are defined.
        report.step("kernel", || {
            let own = std::env::current_exe().context("cannot find this program")?;
            run::checked(Command::new(own).args(["kernel", "--check"]))
        });
    }
    if has_end_to_end(workspace) && !args.no_vm {
        report.step("network clients", || setup::ensure(&setup::NETWORK_TESTS));
        let mut tests = workspace.cargo();
        tests.args(["test", "--no-fail-fast", "--package", END_TO_END]);
        report.step("images", || {
            tests.env(TEST_IMAGES, image::make(workspace)?);
            Ok(())
        });
        match build::run(workspace) {
            Ok(binary) => report.tests("end to end", tests.env("MATCHLOCK_BIN", binary)),
            Err(error) => report.step("build", || Err(error)),
        }
    }
    report.finish()
}

fn unit_tests(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--no-fail-fast", "--workspace"]);
    if has_end_to_end(workspace) {
        cargo.args(["--exclude", END_TO_END]);
    }
    cargo
}

fn has_end_to_end(workspace: &Workspace) -> bool {
    workspace.path("tests/Cargo.toml").exists()
}

/// What has been run and how it ended.
#[derive(Debug, Default)]
struct Report {
    closing_lines: Vec<String>,
    counts: Counts,
    failures: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Report {
    /// Runs a step that is no test; its failure counts as one.
    fn step(&mut self, name: &str, action: impl FnOnce() -> Result<()>) {
        println!("== {name}");
        if let Err(error) = action() {
            self.counts.failed += 1;
            self.failures.push(format!("{name}: {error:#}"));
        }
    }

    /// Runs a call of `cargo test` and adds up its closing lines.
    fn tests(&mut self, name: &str, command: &mut Command) {
        println!("== {name}");
        let before = self.counts.failed;
        if let Err(error) = self.run_tests(command) {
            // A test binary that did not compile or died left no closing line.
            if self.counts.failed == before {
                self.counts.failed += 1;
            }
            self.failures.push(format!("{name}: {error:#}"));
        }
    }

    fn run_tests(&mut self, command: &mut Command) -> Result<()> {
        let shown = run::display(command);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {shown}"))?;
        let stdout = child.stdout.take().context("no pipe to the tests")?;
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read the output of the tests")?;
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("{line}");
            if let Some(counts) = closing_line(&line) {
                self.counts.passed += counts.passed;
                self.counts.failed += counts.failed;
                self.counts.skipped += counts.skipped;
                self.closing_lines.push(line);
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("{shown} failed ({status})");
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        println!("== closing lines");
        for line in &self.closing_lines {
            println!("{line}");
        }
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        let Counts { passed, failed, skipped } = self.counts;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        println!("{passed} passed, {failed} failed{skipped}");
        if failed > 0 || !self.failures.is_empty() {
            bail!("not everything passed");
        }
        Ok(())
    }
}

/// Reads the line with which Rust's test harness ends.
fn closing_line(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut result = Counts::default();
    for part in counts.split("; ") {
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
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let line = "test result: FAILED. 6 passed; 1 failed; 2 ignored; 0 measured; 3 filtered \
                    out; finished in 0.68s";
        assert_eq!(closing_line(line), Some(Counts { passed: 6, failed: 1, skipped: 2 }));
        assert_eq!(closing_line("test result_of_x ... ok"), None);
    }

    #[test]
    fn a_runner_that_dies_without_a_closing_line_counts_as_a_failure() {
        let mut report = Report::default();
        report.tests("dies", Command::new("sh").args(["-c", "echo hello; exit 3"]));
        assert_eq!(report.counts.failed, 1);
        report.tests(
            "counts",
            Command::new("sh")
                .args(["-c", "echo 'test result: FAILED. 1 passed; 2 failed'; exit 1"]),
        );
        assert_eq!(report.counts, Counts { passed: 1, failed: 3, skipped: 0 });
        assert!(report.finish().is_err());
    }
}
