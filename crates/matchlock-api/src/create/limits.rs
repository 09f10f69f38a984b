//! How much of the machine a sandbox gets.

use serde::{Deserialize, Serialize};

/// How much of this machine the sandbox gets. A value that is not above 0 is the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resources {
    /// Processors; a fraction limits their time. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Memory in MB (1024 × 1024 bytes). Default: 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<i64>,
    /// The writable layer in MB (1024 × 1024 bytes). Default: 5120.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_size_mb: Option<i64>,
    /// Seconds. It is stored, and ends nothing. Default: 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
}

/// Resources with the defaults of the wire, which are not those of the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Processors.
    pub cpus: f64,
    /// Memory in MB.
    pub memory_mb: u64,
    /// The writable layer in MB.
    pub disk_size_mb: u64,
    /// Seconds; nothing ends by them.
    pub timeout_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpus: 1.0, memory_mb: 512, disk_size_mb: 5120, timeout_seconds: 300 }
    }
}

impl Resources {
    /// With the default in the place of what is absent, or not above 0.
    #[must_use]
    pub fn limits(&self, default: Limits) -> Limits {
        let given = |value, default| above_0(value).unwrap_or(default);
        Limits {
            cpus: self.cpus.filter(|cpus| *cpus > 0.0).unwrap_or(default.cpus),
            memory_mb: given(self.memory_mb, default.memory_mb),
            disk_size_mb: given(self.disk_size_mb, default.disk_size_mb),
            timeout_seconds: given(self.timeout_seconds, default.timeout_seconds),
        }
    }
}

/// What is not above 0 is as if it were absent.
pub(super) fn above_0(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_above_0_is_the_default() {
        let limits = |text| {
            let given: Resources = serde_json::from_str(text).expect("params");
            given.limits(Limits::default())
        };
        assert_eq!(limits("{}"), Limits::default());
        let zeros = r#"{"cpus":0,"memory_mb":0,"disk_size_mb":-1,"timeout_seconds":null}"#;
        assert_eq!(limits(zeros), Limits::default());
        let given = limits(r#"{"cpus":0.5,"memory_mb":1024,"disk_size_mb":1,"timeout_seconds":2}"#);
        let expected = Limits { cpus: 0.5, memory_mb: 1024, disk_size_mb: 1, timeout_seconds: 2 };
        assert_eq!(given, expected);
        assert_eq!(limits(r#"{"cpus":2}"#).cpus, 2.0, "a whole number");
    }
}
