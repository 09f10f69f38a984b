//! When a request is made again, and after how long.

use std::fmt::Debug;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{DATE, HeaderMap, RETRY_AFTER};

use super::dial::BoxFuture;

/// How often one request is made, or a transfer begun anew, without progress in between.
pub(crate) const ATTEMPTS: u32 = 5;
/// Before the second attempt; each further wait is twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait, whatever a server asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// Lets time pass between attempts.
pub trait Wait: Send + Sync + Debug {
    /// Waits.
    fn wait(&self, time: Duration) -> BoxFuture<'_, ()>;
}

/// The clock of tokio.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock;

impl Wait for Clock {
    fn wait(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// The wait after attempt `attempt`, the first is 1; `None` after the last.
pub(crate) fn backoff(attempt: u32) -> Option<Duration> {
    (1..ATTEMPTS).contains(&attempt).then(|| (FIRST * 2u32.pow(attempt - 1)).min(LONGEST))
}

/// The wait after an answer of `status` to attempt `attempt`; `None` when it is final.
pub(crate) fn after(status: StatusCode, headers: &HeaderMap, attempt: u32) -> Option<Duration> {
    let usual = backoff(attempt)?;
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Some(asked(headers).unwrap_or(usual)).filter(|wait| *wait <= LONGEST)
        }
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => Some(usual),
        _ => None,
    }
}

/// How long the server asks to wait (RFC 9110 section 10.2.3): in seconds, or as a date, which is
/// compared with that of the answer, so that no clock of ours has to be right.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let wait = date(after)?.saturating_sub(date(text(DATE)?)?);
    Some(Duration::from_secs(wait))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7, the form that
/// servers must write).
fn date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let day = day.parse::<u64>().ok().filter(|day| (1..=31).contains(day))?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0 && month.len() == 3)? as u64 / 3 + 1;
    let year = year.parse::<u64>().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut parts = time.split(':').map(|part| part.parse::<u64>().ok().filter(|n| *n <= 60));
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    // Days of the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some(days.checked_sub(719_468)? * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(fields: &[(hyper::header::HeaderName, &'static str)]) -> HeaderMap {
        let values = fields.iter().cloned();
        values.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn waits_double_and_end() {
        let waits: Vec<_> = (1..=ATTEMPTS).map(backoff).collect();
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(waits, [millis(500), millis(1000), millis(2000), millis(4000), None]);
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let none = HeaderMap::new();
        for status in [408, 429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(after(status, &none, 2), Some(Duration::from_secs(1)), "{status}");
            assert_eq!(after(status, &none, ATTEMPTS), None, "{status}");
        }
        for status in [200, 206, 307, 400, 401, 403, 404, 416, 501] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(after(status, &none, 1), None, "{status}");
        }
    }

    #[test]
    fn a_server_may_say_how_long_within_bounds() {
        let limited = StatusCode::TOO_MANY_REQUESTS;
        let seconds = |n| Some(Duration::from_secs(n));
        let of = |value| after(limited, &headers(&[(RETRY_AFTER, value)]), 1);
        assert_eq!(of("7"), seconds(7));
        assert_eq!(of("0"), seconds(0));
        assert_eq!(of("60"), seconds(60));
        assert_eq!(of("61"), None);
        assert_eq!(of("99999999999999999999"), Some(FIRST));
        assert_eq!(of("soon"), Some(FIRST));
        let dated = |at| headers(&[(DATE, "Sun, 06 Nov 1994 08:49:37 GMT"), (RETRY_AFTER, at)]);
        assert_eq!(asked(&dated("Sun, 06 Nov 1994 08:50:07 GMT")), seconds(30));
        assert_eq!(asked(&dated("Sun, 06 Nov 1994 08:00:00 GMT")), seconds(0));
        assert_eq!(asked(&dated("Sun, 06 Nov")), None);
        assert_eq!(asked(&headers(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:07 GMT")])), None);
    }

    #[test]
    fn dates() {
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(date("Tue, 29 Xeb 2000 00:00:00 GMT"), None);
        assert_eq!(date("Tue, 29 anF 2000 00:00:00 GMT"), None);
    }
}
