//! The frequency of the host's time stamp counter.

use std::time::{Duration, Instant};

/// A guest that keeps time by this frequency is off by as much as the measurement is: 10 ms between
/// two readings that are good to 100 ns give 10 ppm, less than a quartz.
const SHORTEST: Duration = Duration::from_millis(10);

/// Reading the clock and the counter takes some 50 ns; with an interrupt in between, far more.
const TRIES: usize = 16;

/// Clock and counter at one moment.
#[derive(Debug, Clone, Copy)]
pub struct TscReading {
    clock: Instant,
    counter: u64,
}

impl TscReading {
    /// Clock and counter now; `None` where there is no counter of constant frequency.
    #[must_use]
    pub fn now() -> Option<Self> {
        if !is_constant() {
            return None;
        }
        let attempts = (0..TRIES).map(|_| {
            let before = Instant::now();
            let counter = read();
            let took = before.elapsed();
            (took, Self { clock: before + took / 2, counter })
        });
        attempts.min_by_key(|(took, _)| *took).map(|(_, reading)| reading)
    }

    /// The frequency in kHz, from this reading to now. Sleeps when that is too short a time.
    #[must_use]
    pub fn khz(self) -> Option<u64> {
        std::thread::sleep(SHORTEST.saturating_sub(self.clock.elapsed()));
        let later = Self::now()?;
        let nanoseconds = later.clock.duration_since(self.clock).as_nanos();
        let ticks = u128::from(later.counter.checked_sub(self.counter)?);
        u64::try_from((ticks * 1_000_000).checked_div(nanoseconds)?).ok().filter(|&khz| khz > 0)
    }
}

#[cfg(target_arch = "x86_64")]
fn read() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it unless they
    // ask otherwise (`PR_SET_TSC`), which we do not.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn read() -> u64 {
    0
}

/// Whether the counter runs at one frequency whatever the processor does (proc_cpuinfo flags).
fn is_constant() -> bool {
    if cfg!(not(target_arch = "x86_64")) {
        return false;
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    ["constant_tsc", "nonstop_tsc"].iter().all(|flag| flags.split(' ').any(|word| word == *flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let Some(reading) = TscReading::now() else {
            assert!(!is_constant(), "a constant counter can be read");
            return;
        };
        let first = reading.khz().expect("a frequency");
        let second = reading.khz().expect("a frequency");
        assert!(first.abs_diff(second) < first / 1000, "{first} and {second} kHz");
    }
}
