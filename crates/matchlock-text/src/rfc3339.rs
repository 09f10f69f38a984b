//! Points in time as RFC 3339 has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// UTC with microseconds: `2026-11-21T21:50:31.000042Z`. Times before 1970 are shown as 1970.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// A point in time from 1970 to 9999, in any zone, with fractions of a second or without. `None` for other
/// text.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = (text.get(..10)?, text.get(10..)?);
    let time = time.strip_prefix(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time.get(..8)?, ':', [2, 2, 2])?;
    let valid = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let (micros, zone) = fraction(time.get(8..)?)?;
    let seconds = days(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second;
    let (ahead, offset) = offset(zone)?;
    let seconds = if ahead { seconds.checked_sub(offset)? } else { seconds.checked_add(offset)? };
    Some(UNIX_EPOCH + Duration::new(seconds, micros * 1000))
}

/// Three numbers of so many digits each.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let mut next = |digits| number(parts.next()?, digits);
    let [a, b, c] = digits;
    let found = [next(a)?, next(b)?, next(c)?];
    parts.next().is_none().then_some(found)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Microseconds of a fraction, if there is one, and what follows it.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, zone) = rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    let micros: String = digits.chars().chain("000000".chars()).take(6).collect();
    Some((micros.parse().ok()?, zone))
}

/// Whether a zone is ahead of UTC, and by how many seconds.
fn offset(zone: &str) -> Option<(bool, u64)> {
    if zone.eq_ignore_ascii_case("z") {
        return Some((true, 0));
    }
    let (ahead, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (true, rest),
        ("-", rest) => (false, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some((ahead, hours * 3600 + minutes * 60))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The number of a Gregorian date, counted from 1970-01-01: [`date`] the other way round.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The Gregorian date of a day counted from 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March put the leap day last, and 400 of them always have 146097 days.
    let since_march_0000 = days + 719_468;
    let era = since_march_0000 / 146_097;
    let day_of_era = since_march_0000 % 146_097;
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_moments() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, 999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000001Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000Z"),
            (1_709_251_199, 0, "2024-02-29T23:59:59.000000Z"),
            (1_735_689_599, 0, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ];
        for (seconds, micros, text) in cases {
            let at = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
            assert_eq!(rfc3339(at), text);
        }
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), rfc3339(UNIX_EPOCH));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for day in 0..60_000 {
            let at = UNIX_EPOCH + Duration::new(day * 86_400 + day % 86_400, 123_456_000);
            assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
        }
    }

    #[test]
    fn zones_and_fractions_are_read_and_other_text_is_not() {
        let at = UNIX_EPOCH + Duration::from_millis(951_782_400_500);
        for text in [
            "2000-02-29T00:00:00.5Z",
            "2000-02-29 00:00:00.500000999z",
            "2000-02-29T02:30:00.5+02:30",
            "2000-02-28t23:00:00.5-01:00",
        ] {
            assert_eq!(parse_rfc3339(text), Some(at), "{text}");
        }
        for bad in [
            "",
            "2000-02-29",
            "2000-02-29T00:00:00",
            "2000-02-30T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2000-13-01T00:00:00Z",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:60:00Z",
            "2000-01-01T00:00:60Z",
            "2000-01-01T00:00:00.Z",
            "2000-01-01T00:00:00+2:00",
            "2000-01-01T00:00:00+24:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "+000-01-01T00:00:00Z",
            "2000-01-01T00:00:00ZZ",
            "öööööT00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_follow_each_other() {
        let mut last = date(0);
        for day in 1..60_000 {
            let next = date(day);
            let (year, month, of_month) = last;
            let follows = next == (year, month, of_month + 1)
                || next == (year, month + 1, 1)
                || next == (year + 1, 1, 1) && (month, of_month) == (12, 31);
            assert!(follows && next.2 <= 31, "{last:?} {next:?}");
            last = next;
        }
    }
}
