//! `matchlock stats`: what sandboxes use.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use matchlock_core::api::NoParams;
use matchlock_core::control::{StatsResult, control_method};
use matchlock_core::text::escape;
use serde::Serialize;

use super::enter::{Running, describe};
use crate::cli::StatsArgs;
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop::block_on;
use crate::printer::Printer;
use crate::signals::Interrupts;

/// Between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);

/// To the upper left corner, and everything away.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// The JSON object of one sandbox: docs/json.md.
#[derive(Debug, Serialize)]
struct Measured {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Of one CPU, between the last two measurements.
    cpu_percent: f64,
    #[serde(flatten)]
    stats: StatsResult,
}

pub(crate) fn run(
    args: &StatsArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let live = std::io::stdout().is_terminal() && !args.no_stream && args.json.is_none();
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::select! {
            shown = show(&args.positionals, live, environment, printer) => shown,
            signal = interrupts.next() => match live {
                // It is how a person ends it.
                true => Ok(0),
                false => Err(CliError::interrupted(signal)),
            },
        }
    })
}

async fn show(
    wanted: &[String],
    live: bool,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let mut last = HashMap::new();
    measure(wanted, &mut last, environment).await?;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let measured = measure(wanted, &mut last, environment).await?;
        if live {
            printer.raw(CLEAR);
        }
        printer.fitted_table(HEADING, measured.iter().map(row).collect(), NAME);
        if !live {
            printer.json(&measured)?;
            return Ok(0);
        }
    }
}

/// Measures the sandboxes that are named, or all that run; `last` is what they used before.
async fn measure(
    wanted: &[String],
    last: &mut HashMap<String, StatsResult>,
    environment: &Environment,
) -> Result<Vec<Measured>, CliError> {
    let mut sandboxes = Vec::new();
    for wanted in wanted {
        sandboxes.push(Running::find(wanted, environment).await?);
    }
    if wanted.is_empty() {
        sandboxes = Running::all(environment).await?;
    }
    let mut measured = Vec::new();
    for sandbox in sandboxes {
        let stats = match ask(&sandbox).await {
            Ok(stats) => stats,
            // One of all that is just starting or ending is none that is missed.
            Err(_) if wanted.is_empty() => continue,
            Err(error) => return Err(error),
        };
        let id = sandbox.id.to_string();
        let before = last.insert(id.clone(), stats.clone());
        let cpu_percent = before.map_or(0.0, |before| percent(&before, &stats));
        measured.push(Measured { id, name: sandbox.name, cpu_percent, stats });
    }
    last.retain(|id, _| measured.iter().any(|one| one.id == *id));
    Ok(measured)
}

async fn ask(sandbox: &Running) -> Result<StatsResult, CliError> {
    let asked = sandbox.connect().await?.call::<control_method::Stats>(NoParams {}).await;
    asked.map_err(|error| describe(&error))
}

/// CPU time in the time between, in percent of one CPU.
fn percent(before: &StatsResult, now: &StatsResult) -> f64 {
    let time = now.at_us.saturating_sub(before.at_us);
    if time == 0 {
        return 0.0;
    }
    let used = now.cpu_us.saturating_sub(before.cpu_us);
    // To a hundredth: more is noise.
    (used as f64 * 10_000.0 / time as f64).round() / 100.0
}

const HEADING: [&str; 8] =
    ["ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "HOST MEM", "NET I/O", "DISK I/O", "PIDS"];

/// The column of the table that gives way on a narrow terminal.
const NAME: usize = 1;

fn row(measured: &Measured) -> [String; 8] {
    let Measured { id, name, cpu_percent, stats } = measured;
    let pair = |one: u64, other: u64| format!("{} / {}", bytes(one), bytes(other));
    let network = match (stats.network_received, stats.network_sent) {
        (Some(received), Some(sent)) => pair(received, sent),
        _ => "-".to_owned(),
    };
    [
        id.clone(),
        name.as_deref().map_or("-".to_owned(), escape::one_line),
        format!("{cpu_percent:.2}%"),
        pair(stats.memory_used, stats.memory_limit),
        bytes(stats.host_memory),
        network,
        pair(stats.disk_read, stats.disk_written),
        stats.processes.to_string(),
    ]
}

/// Bytes in the largest unit that they are one of, as Docker's `stats`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut number = bytes as f64;
    let mut unit = "B";
    for larger in units {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, larger);
    }
    match unit {
        "B" => format!("{bytes}B"),
        unit if number < 10.0 => format!("{number:.2}{unit}"),
        unit if number < 100.0 => format!("{number:.1}{unit}"),
        unit => format!("{number:.0}{unit}"),
    }
}

/// A CPU time as `top` has it: minutes, seconds and hundredths.
pub(super) fn milliseconds(ms: u64) -> String {
    format!("{}:{:02}.{:02}", ms / 60_000, ms / 1000 % 60, ms / 10 % 100)
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let stats =
        StatsResult { network_received: Some(1), network_sent: Some(1), ..StatsResult::default() };
    let one = Measured { id: String::new(), name: Some(String::new()), cpu_percent: 1.0, stats };
    serde_json::to_value([one]).expect("JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_fit_their_columns() {
        let all = |number: u64| StatsResult {
            at_us: 2_000_000,
            cpu_us: number,
            host_memory: number,
            memory_used: number,
            memory_limit: number,
            network_received: Some(number),
            network_sent: None,
            disk_read: number,
            disk_written: number,
            processes: number,
        };
        let one = Measured {
            id: "vm-1".into(),
            name: Some("\x1b[2J".into()),
            cpu_percent: percent(&StatsResult::default(), &all(u64::MAX)),
            stats: all(u64::MAX),
        };
        let row = row(&one);
        assert!(row.iter().all(|cell| cell.len() < 32 && !cell.contains('\x1b')), "{row:?}");
        assert_eq!((row[3].as_str(), row[5].as_str()), ("16.0EiB / 16.0EiB", "-"));
        assert_eq!(percent(&all(0), &all(0)), 0.0);
        let half = StatsResult { at_us: 4_000_000, ..all(1_000_000) };
        assert_eq!(percent(&all(0), &half), 50.0);
    }

    #[test]
    fn units_are_those_of_docker() {
        for (number, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00KiB"),
            (12_345, "12.1KiB"),
            (512 << 20, "512MiB"),
            (3 << 30, "3.00GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(milliseconds(3_723_456), "62:03.45");
    }
}
