//! Durations as Go's `time.ParseDuration` reads them: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

/// Most digits of a number.
const MAX_DIGITS: usize = 15;

/// Reads a duration; `None` when the text is none, or negative, or longer than Go's 292 years.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_of_number(c))?;
        let (number, after) = rest.split_at(end);
        let (unit, next) = after.split_at(after.find(is_of_number).unwrap_or(after.len()));
        total = total.checked_add(nanoseconds(number, unit)?)?;
        rest = next;
    }
    let total = i64::try_from(total).ok()?;
    Some(Duration::from_nanos(total.unsigned_abs()))
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

fn nanoseconds(number: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.len() > MAX_DIGITS || whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)? * unit + digits(fraction)? * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn durations_of_go() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("+5s", 5000),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("300ms", 300),
            ("5000us", 5),
            ("5000µs", 5),
            ("5000000ns", 5),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        let bad =
            ["", "+", "5", "s", "5x", "5 s", "1.2.3s", "-1s", "9999999999h", ".s", "..s", "1e3s"];
        for bad in bad {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9.hmsµ+-]{0,30}") {
            let _ = parse(&text);
        }
    }
}
