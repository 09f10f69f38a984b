//! `matchlock diagnose`: can this machine run sandboxes, and how well.

use matchlock_core::vmm::{Accelerator, AcceleratorChoice, QemuBinary, landlock_version};
use matchlock_core::{GuestFiles, HostSetup, Swept, host_memory_mib};
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::printer::Printer;

/// Memory in MiB below which the default sandbox of 512 MB is likely to be refused.
const MEMORY_WANTED_MIB: u64 = 1024;

/// Free disk space in MiB below which the default writable layer of 2048 MB cannot fill up.
const DISK_WANTED_MIB: u64 = 2048;

/// Descriptors that a busy file server wants.
const FILES_WANTED: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Pass,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    ok: bool,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerator: Option<AcceleratorChoice>,
}

/// Prints the result of every check; fails when one of them fails.
pub(crate) fn run(environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let diagnosis = diagnose(environment);
    for check in &diagnosis.checks {
        print(check, printer);
    }
    if diagnosis.ok {
        printer.json(&diagnosis)?;
        return Ok(0);
    }
    let failed = "diagnose failed: one or more checks failed";
    printer.line(failed);
    Err(CliError::new(failed).of_kind(Kind::Unavailable).with_details(&diagnosis).said())
}

fn print(check: &Check, printer: Printer) {
    let sign = match check.status {
        Status::Pass => '✓',
        Status::Warn => '⚠',
        Status::Fail => '✗',
    };
    printer.result(&format!("{sign} {}: {}", check.name, check.message));
    if let Some(fix) = &check.fix {
        printer.result(&format!("  fix: {fix}"));
    }
}

fn diagnose(environment: &Environment) -> Diagnosis {
    let mut checks = Vec::new();
    let host = environment.kernel(None).and_then(|kernel| environment.host(kernel));
    let accelerator = match host {
        Ok(host) => check_host(&host, &mut checks),
        Err(error) => {
            checks.push(failed("environment", &error));
            None
        }
    };
    checks.extend([jail_check(), memory_check(), disk_check(environment), open_files_check()]);
    let ok = checks.iter().all(|check| check.status != Status::Fail);
    Diagnosis { ok, checks, accelerator }
}

/// The steps of every start, one by one.
fn check_host(host: &HostSetup, checks: &mut Vec<Check>) -> Option<AcceleratorChoice> {
    let (qemu, kernel) = (host.monitor(), host.guest());
    let choice = match (&qemu, &kernel) {
        // A proof of earlier is no diagnosis of today.
        (Ok(qemu), Ok(guest)) => Some(host.choose(qemu, guest, false)),
        _ => None,
    };
    checks.push(qemu.map_or_else(|error| failed("qemu", &error.into()), |qemu| qemu_check(&qemu)));
    checks.push(
        kernel.map_or_else(|error| failed("kernel", &error.into()), |guest| kernel_check(&guest)),
    );
    let choice = choice.and_then(|choice| {
        let choice = choice.map_err(CliError::from);
        checks.push(
            choice.as_ref().map_or_else(|error| failed("accelerator", error), accelerator_check),
        );
        choice.ok()
    });
    let swept = host.sweep();
    checks.push(
        swept.map_or_else(|error| failed("state", &error.into()), |swept| state_check(&swept)),
    );
    choice
}

fn qemu_check(qemu: &QemuBinary) -> Check {
    let (major, minor) = qemu.version();
    passed("qemu", format!("version {major}.{minor} at {}", qemu.path().display()))
}

fn kernel_check(guest: &GuestFiles) -> Check {
    let mib = guest.kernel.metadata().map_or(0, |meta| meta.len()) >> 20;
    passed("kernel", format!("guest kernel of {mib} MB is intact"))
}

fn accelerator_check(choice: &AcceleratorChoice) -> Check {
    let message = format!("{}: {}", choice.accelerator, choice.reason);
    match choice.accelerator {
        Accelerator::Kvm => passed("accelerator", message),
        Accelerator::Tcg => Check {
            name: "accelerator",
            status: Status::Warn,
            message,
            fix: Some(
                "sandboxes run, slower; enable virtualisation in the firmware or the cloud \
                 instance, load kvm_intel or kvm_amd, and join the group kvm for hardware speed"
                    .into(),
            ),
        },
    }
}

fn state_check(swept: &Swept) -> Check {
    if swept.removed.is_empty() {
        return passed("state", "no leftovers of earlier sandboxes");
    }
    passed("state", format!("removed what was left of {}", swept.removed.join(", ")))
}

/// What QEMU is confined by, should a guest take it over.
fn jail_check() -> Check {
    match landlock_version() {
        Some(version) => passed(
            "jail",
            format!(
                "QEMU is confined by Landlock (version {version}) and a filter of system calls"
            ),
        ),
        None => warned(
            "jail",
            "QEMU is confined by a filter of system calls only: this kernel has no Landlock"
                .to_owned(),
            "use Linux 5.13 or newer, and add landlock to its parameter lsm= if it is not there",
        ),
    }
}

fn memory_check() -> Check {
    let mib = host_memory_mib();
    let message = format!("{mib} MB");
    if mib >= MEMORY_WANTED_MIB {
        return passed("memory", message);
    }
    warned("memory", message, "give sandboxes less with --memory 256")
}

fn disk_check(environment: &Environment) -> Check {
    let home = match environment.home() {
        Ok(home) => home,
        Err(error) => return failed("disk", &error),
    };
    match statvfs(home) {
        Ok(stat) => {
            let mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
            let message = format!("{mib} MB free in {}", home.display());
            if mib >= DISK_WANTED_MIB {
                passed("disk", message)
            } else {
                warned("disk", message, "free some space, or give sandboxes a smaller --disk-size")
            }
        }
        Err(error) => failed("disk", &CliError::new(format!("{}: {error}", home.display()))),
    }
}

fn open_files_check() -> Check {
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < FILES_WANTED => warned(
            "open-files",
            format!("at most {limit}"),
            "raise the hard limit (ulimit -Hn), or expect slower file access in sandboxes",
        ),
        Some(limit) => passed("open-files", format!("at most {limit}")),
        None => passed("open-files", "unlimited"),
    }
}

fn passed(name: &'static str, message: impl Into<String>) -> Check {
    Check { name, status: Status::Pass, message: message.into(), fix: None }
}

fn warned(name: &'static str, message: String, fix: &str) -> Check {
    Check { name, status: Status::Warn, message, fix: Some(fix.to_owned()) }
}

fn failed(name: &'static str, error: &CliError) -> Check {
    let fix = error.hint().map(str::to_owned);
    Check { name, status: Status::Fail, message: error.message().to_owned(), fix }
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let checks = vec![warned("memory", "1 MB".to_owned(), "add some")];
    let accelerator = Accelerator::Tcg;
    let choice = AcceleratorChoice { accelerator, reason: "none".to_owned() };
    serde_json::to_value(Diagnosis { ok: true, checks, accelerator: Some(choice) }).expect("JSON")
}
