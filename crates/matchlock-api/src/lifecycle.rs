//! Ends: contract, sections 2.13 and 2.14.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::RequestId;
use crate::params::Params;

/// Which request to cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CancelParams {
    /// The id of that request.
    pub id: RequestId,
}

impl Params for CancelParams {}

/// Whether there was something to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CancelResult {
    /// False if no request with that id was running.
    pub cancelled: bool,
}

/// How long the end may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CloseParams {
    /// Seconds until the client kills the process. Clients send 2.0 if their user asked for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
}

impl Params for CloseParams {}

impl CloseParams {
    /// The time of a client that names none.
    pub const DEFAULT: Duration = Duration::from_secs(2);
    /// The longest that counts.
    pub const MAX: Duration = Duration::from_secs(3600);

    /// The time, within bounds.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        match self.timeout_seconds {
            Some(seconds) if seconds > 0.0 => {
                Duration::try_from_secs_f64(seconds).map_or(Self::MAX, |time| time.min(Self::MAX))
            }
            _ => Self::DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_close_is_in_seconds_and_bounded() {
        let timeout = |text| serde_json::from_str::<CloseParams>(text).expect("params").timeout();
        assert_eq!(timeout(r#"{"timeout_seconds":0.5}"#), Duration::from_millis(500));
        assert_eq!(timeout(r#"{"timeout_seconds":3}"#), Duration::from_secs(3));
        for default in ["{}", r#"{"timeout_seconds":0}"#, r#"{"timeout_seconds":-1e300}"#] {
            assert_eq!(timeout(default), CloseParams::DEFAULT, "{default}");
        }
        assert_eq!(timeout(r#"{"timeout_seconds":1e300}"#), CloseParams::MAX);
    }
}
