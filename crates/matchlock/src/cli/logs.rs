//! The grammar of `log`.

use std::time::SystemTime;

use clap::Args;
use matchlock_core::log::LogSelection;
use matchlock_core::text::parse_rfc3339;

use crate::options::time_span::TimeSpan;

/// `log`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock log [OPTIONS] ID|NAME")]
pub(crate) struct LogsArgs {
    /// Go on with what comes, until the sandbox ends
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<usize>,

    /// Begin this long ago, in seconds or as 30s, 10m, 1h30m, or at a point in time as
    /// 2026-11-29T10:42:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<SystemTime>,

    /// Only what comes from there: command, agent or console [default: all of them]
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Vec<LogSelection>,

    /// Print one JSON object for each record instead of its text
    #[arg(long)]
    pub(crate) json: bool,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// A time until now, or a point in time.
fn since(text: &str) -> Result<SystemTime, &'static str> {
    if let Ok(span) = text.parse::<TimeSpan>() {
        // Longer ago than the clock can say is from the begin.
        let at = SystemTime::now().checked_sub(span.duration());
        return Ok(at.unwrap_or(SystemTime::UNIX_EPOCH));
    }
    parse_rfc3339(text)
        .ok_or("use a time until now, as 10m, or a point in time, as 2026-11-29T10:42:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_begin_is_a_time_until_now_or_a_point_in_time() {
        let at = since("1970-01-01T00:01:00Z").expect("a point in time");
        assert_eq!(at, SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        let before = SystemTime::now() - Duration::from_secs(600);
        assert!(since("10m").expect("a time") >= before);
        assert!(since("99999999999999999").is_ok(), "from the begin");
        for bad in ["", "yesterday", "2026-11-29", "-5"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
