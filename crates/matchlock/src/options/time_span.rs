//! Times: `30` is in seconds, or with units: `500ms`, `30s`, `5m`, `1h30m`.

use std::str::FromStr;
use std::time::Duration;

use super::duration;

/// A time that a flag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TimeSpan(Duration);

impl TimeSpan {
    /// The time itself.
    pub(crate) fn duration(self) -> Duration {
        self.0
    }

    /// The time as a limit; 0 means no limit.
    pub(crate) fn limit(self) -> Option<Duration> {
        Some(self.0).filter(|time| !time.is_zero())
    }
}

impl FromStr for TimeSpan {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = || text.parse().ok().map(Duration::from_secs);
        let time = if is_number { seconds() } else { duration::parse(text) };
        time.map(Self).ok_or("use a number of seconds, or units: 500ms, 30s, 5m, 1h30m")
    }
}

/// A time as people read it: `90 s`, `0.5 s`.
pub(crate) fn in_seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_in_seconds() {
        let parse = |text: &str| text.parse().map(TimeSpan::duration);
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("9223372036854775807"), Ok(Duration::from_secs(i64::MAX as u64)));
        for bad in ["", "soon", "-1", "-5s", "5x", "1e3", "99999999999999999999"] {
            assert!(bad.parse::<TimeSpan>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_time_is_no_limit() {
        let limit = |text: &str| text.parse().map(TimeSpan::limit);
        assert_eq!(limit("0"), Ok(None));
        assert_eq!(limit("0s"), Ok(None));
        assert_eq!(limit("2"), Ok(Some(Duration::from_secs(2))));
    }

    #[test]
    fn times_are_shown_in_seconds() {
        assert_eq!(in_seconds(Duration::from_secs(90)), "90 s");
        assert_eq!(in_seconds(Duration::from_millis(500)), "0.5 s");
    }
}
