//! What a run says about itself: the emulation notice and the `--json` object.

use std::path::Path;
use std::time::{Duration, Instant};

use matchlock_core::vmm::{Accelerator, AcceleratorChoice};
use matchlock_core::{BootTimes, SandboxId};
use serde::Serialize;

use super::refused::Refused;
use crate::printer::Printer;

/// The object of `--json`, if the sandbox has started.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    id: &'a str,
    accelerator: &'a AcceleratorChoice,
    exit_code: u8,
    timed_out: bool,
    kernel: &'a str,
    phases_ms: Phases,
    guest_us: GuestTimes,
    refused: &'a [Refused],
    /// The audit trail, when it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a Path>,
}

/// How the run ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub(super) exit_code: u8,
    pub(super) timed_out: bool,
    pub(super) refused: &'a [Refused],
    pub(super) audit: Option<&'a Path>,
}

/// Milliseconds that each part of the run took; together they are the whole.
#[derive(Debug, Serialize)]
struct Phases {
    process_start: f64,
    vmm_start: f64,
    kernel_to_agent: f64,
    root_mounted: f64,
    first_exec_byte: f64,
    command: f64,
    teardown: f64,
    total: f64,
}

/// The guest's own clock, in microseconds since its kernel started it.
#[derive(Debug, Serialize)]
struct GuestTimes {
    agent_start: u64,
    config: u64,
    root: u64,
    ready: u64,
}

/// The moments that only the session sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub(super) started: Instant,
    pub(super) first_byte: Instant,
    pub(super) command_ended: Instant,
    pub(super) gone: Instant,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        id: &'a SandboxId,
        accelerator: &'a AcceleratorChoice,
        times: &'a BootTimes,
        moments: Moments,
        outcome: Outcome<'a>,
    ) -> Self {
        let ms = |from: Instant, to: Instant| round(to.saturating_duration_since(from));
        let Moments { started, first_byte, command_ended, gone } = moments;
        let Outcome { exit_code, timed_out, refused, audit } = outcome;
        let guest = &times.guest;
        Self {
            id: id.as_str(),
            accelerator,
            exit_code,
            timed_out,
            kernel: &guest.kernel,
            phases_ms: Phases {
                process_start: ms(started, times.prepared),
                vmm_start: ms(times.prepared, times.vmm_started),
                kernel_to_agent: ms(times.vmm_started, times.agent_reached),
                root_mounted: ms(times.agent_reached, times.ready),
                first_exec_byte: ms(times.ready, first_byte),
                command: ms(first_byte, command_ended),
                teardown: ms(command_ended, gone),
                total: ms(started, gone),
            },
            guest_us: GuestTimes {
                agent_start: guest.agent_start_us,
                config: guest.config_us,
                root: guest.root_us,
                ready: guest.ready_us,
            },
            refused,
            audit,
        }
    }
}

/// Says once that the guest runs slower than it could, and why.
pub(in crate::commands) fn announce(choice: &AcceleratorChoice, printer: Printer) {
    if choice.accelerator == Accelerator::Tcg {
        printer.note(&format!("using software emulation, which is slower: {}", choice.reason));
    }
}

fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
pub(in crate::commands) fn sample() -> serde_json::Value {
    let accelerator = Accelerator::Tcg;
    let phases_ms = Phases {
        process_start: 1.0,
        vmm_start: 1.0,
        kernel_to_agent: 1.0,
        root_mounted: 1.0,
        first_exec_byte: 1.0,
        command: 1.0,
        teardown: 1.0,
        total: 7.0,
    };
    let report = Report {
        id: "vm-0",
        accelerator: &AcceleratorChoice { accelerator, reason: "none".to_owned() },
        exit_code: 0,
        timed_out: false,
        kernel: "6.12",
        phases_ms,
        guest_us: GuestTimes { agent_start: 1, config: 2, root: 3, ready: 4 },
        refused: &[super::refused::sample()],
        audit: Some(Path::new("audit.jsonl")),
    };
    serde_json::to_value(report).expect("JSON")
}
