//! What one client may take of this machine: a host that serves many gives each a part.

use std::fmt::Display;

use matchlock_api::{Limits, RpcError};

use super::fault::invalid;

/// The most that a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Processors of its sandbox. `None`: those of this machine.
    pub cpus: Option<f64>,
    /// Memory of its sandbox in MB. `None`: that of this machine.
    pub memory_mb: Option<u64>,
    /// The writable layer in MB. `None`: what [`DiskSize`](crate::DiskSize) can be.
    pub disk_size_mb: Option<u64>,
    /// Requests that run, or whose answers wait to be read.
    pub requests: u16,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { cpus: None, memory_mb: None, disk_size_mb: None, requests: Self::MAX_REQUESTS }
    }
}

impl Bounds {
    /// The most requests of a client at one time.
    pub const MAX_REQUESTS: u16 = 512;

    /// What a client gets that does not ask: the defaults of the wire, or less.
    pub(super) fn defaults(&self) -> Limits {
        let default = Limits::default();
        Limits {
            cpus: self.cpus.map_or(default.cpus, |most| default.cpus.min(most)),
            memory_mb: self.memory_mb.unwrap_or(u64::MAX).min(default.memory_mb),
            disk_size_mb: self.disk_size_mb.unwrap_or(u64::MAX).min(default.disk_size_mb),
            ..default
        }
    }

    /// Refuses what is beyond a bound, by the name of its parameter.
    pub(super) fn check(&self, wanted: &Limits) -> Result<(), RpcError> {
        within("resources.cpus", wanted.cpus, self.cpus)?;
        within("resources.memory_mb", wanted.memory_mb, self.memory_mb)?;
        within("resources.disk_size_mb", wanted.disk_size_mb, self.disk_size_mb)
    }
}

fn within<T: PartialOrd + Display + Copy>(
    field: &str,
    wanted: T,
    most: Option<T>,
) -> Result<(), RpcError> {
    match most {
        Some(most) if wanted > most => {
            let text = format!("{field} must be <= {most}, the most that this service gives");
            Err(invalid(field, text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_the_bounds_and_more_is_refused_by_name() {
        let bounds = Bounds { cpus: Some(0.5), memory_mb: Some(256), ..Bounds::default() };
        let defaults = bounds.defaults();
        assert_eq!((defaults.cpus, defaults.memory_mb, defaults.disk_size_mb), (0.5, 256, 5120));
        bounds.check(&defaults).expect("within");
        let wanted = Limits { memory_mb: 257, ..defaults };
        let error = bounds.check(&wanted).expect_err("too much memory");
        let text = "resources.memory_mb must be <= 256, the most that this service gives";
        assert!(error.message.ends_with(text), "{}", error.message);
        assert!(bounds.check(&Limits { cpus: 0.6, ..defaults }).is_err());
        Bounds::default().check(&Limits { memory_mb: u64::MAX, ..defaults }).expect("no bound");
        assert_eq!(Bounds::default().defaults(), Limits::default());
    }
}
