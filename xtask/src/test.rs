//! `cargo xtask test`: everything that has to hold, from a fresh clone.

mod lines;
mod report;
mod sdk;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use matchlock_testkit::{CASE_TIMES, NO_SKIPS, PYTHON_SDK, TEST_IMAGES, TEST_KERNEL};

use crate::workspace::Workspace;
use crate::{build, fuzz, guest, image, lint, run, setup};
use report::Report;

/// Package of the end-to-end tests, which start real virtual machines.
const END_TO_END: &str = "matchlock-e2e";

/// Has each test run with a variable that makes the harness of a stable toolchain take `-Z`. As a
/// variable of Cargo's it would have packages built again whose build scripts look at it.
pub(crate) const RUNNER: &str = r#"target."cfg(unix)".runner=["env","RUSTC_BOOTSTRAP=1"]"#;

/// Makes the harness show the time of each case.
const REPORT_TIME: [&str; 4] = ["--", "-Z", "unstable-options", "--report-time"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests that start virtual machines.
    #[arg(long)]
    no_vm: bool,
    /// Fail when a test cannot show on this machine what it is for.
    #[arg(long, conflicts_with = "no_vm")]
    no_skips: bool,
    /// Test the binary as it is released, which takes minutes longer to build.
    #[arg(long, conflicts_with = "no_vm")]
    released: bool,
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
    let mut unit = unit_tests(workspace, args, "--tests");
    if !args.no_vm {
        report.step("kernel of the device tests", || {
            unit.env(TEST_KERNEL, unpacked_kernel(workspace)?);
            Ok(())
        });
    }
    unit.args(REPORT_TIME);
    report.tests("unit tests", unit);
    report.tests("examples in documentation", unit_tests(workspace, args, "--doc"));
    report.tests("fuzz targets", fuzz::smoke_test(workspace));
    if workspace.path("guest/kernel/manifest.json").exists() {
        // As a call of its own, so that its arguments are read where they are defined.
        report.step("kernel", || {
            let own = std::env::current_exe().context("cannot find this program")?;
            run::checked(Command::new(own).args(["kernel", "--check"]))
        });
    }
    if !args.no_vm {
        end_to_end(workspace, args, &mut report)?;
    }
    report.finish(args.no_skips)
}

/// Builds what the end-to-end tests need, and runs them.
fn end_to_end(workspace: &Workspace, args: &Args, report: &mut Report) -> Result<()> {
    report.step("programs for guests", || setup::ensure(&setup::GUEST_TESTS));
    report.step("network clients", || setup::ensure(&setup::NETWORK_TESTS));
    let mut images = None;
    report.step("images", || {
        images = Some(image::make(workspace)?);
        Ok(())
    });
    let mut binary = None;
    report.step("build", || {
        let build = if args.released { build::run } else { build::for_tests };
        binary = Some(build(workspace)?);
        Ok(())
    });
    let mut python = None;
    report.step("Python SDK", || {
        python = Some(sdk::python(workspace)?);
        Ok(())
    });
    let Some(binary) = binary else { return Ok(()) };
    let times = tempfile::NamedTempFile::new().context("no file for the times of cases")?;
    let tests = |suites: &[&str]| {
        let mut cargo = cargo_test(workspace, args);
        cargo.args(["--package", END_TO_END]).env("MATCHLOCK_BIN", &binary);
        cargo.args(suites.iter().flat_map(|suite| ["--test", suite]));
        cargo.env(CASE_TIMES, times.path());
        if let Some(images) = &images {
            cargo.env(TEST_IMAGES, images);
        }
        if let Some(python) = &python {
            cargo.env(PYTHON_SDK, python);
        }
        cargo
    };
    report.step("build of the end-to-end tests", || {
        run::checked(tests(&["cli", "sdk", "guest", "images", "network"]).arg("--no-run"))
    });
    // Cases wait for their guests half of the time, so more of them run at once than there are
    // processors: those of the longest suite beside those of all others.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut network = tests(&["network"]);
    network.args(["--", "--test-threads", &(processors + processors.div_ceil(2)).to_string()]);
    let mut cli = tests(&["cli", "sdk"]);
    cli.args(REPORT_TIME);
    let lanes = vec![vec![network], vec![cli, tests(&["guest", "images"])]];
    report.lanes("end to end", lanes);
    report.recorded_times(&fs::read_to_string(times.path()).context("no times of cases")?);
    Ok(())
}

/// The tests of all packages but the end-to-end tests.
fn unit_tests(workspace: &Workspace, args: &Args, kind: &str) -> Command {
    let mut cargo = cargo_test(workspace, args);
    cargo.args(["--workspace", "--exclude", END_TO_END, kind]);
    cargo
}

fn cargo_test(workspace: &Workspace, args: &Args) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["--config", RUNNER, "test", "--no-fail-fast"]);
    if args.no_skips {
        cargo.env(NO_SKIPS, "1");
    }
    cargo
}

/// The guest's kernel as QEMU boots it by itself.
fn unpacked_kernel(workspace: &Workspace) -> Result<std::path::PathBuf> {
    let packed = fs::read(workspace.path("guest/kernel/vmlinux-x86_64.zst"))?;
    let kernel = workspace.target().join("test/vmlinux");
    fs::create_dir_all(workspace.target().join("test"))?;
    fs::write(&kernel, zstd::decode_all(&*packed)?)?;
    Ok(kernel)
}
