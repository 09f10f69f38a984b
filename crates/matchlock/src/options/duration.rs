//! Durations as Go writes them: `300ms`, `5s`, `1m30s`, `1.5h`.

use std::time::Duration;

/// Units from the longest name to the shortest, so that `ms` is not read as `m`.
const UNITS: [(&str, f64); 7] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Parses a duration; `None` when it is none, or negative, or longer than a year.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    const YEAR: f64 = 365.0 * 24.0 * 3600.0;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail.strip_prefix(unit)?;
    }
    (seconds <= YEAR).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(parse("0"), ms(0));
        assert_eq!(parse("0s"), ms(0));
        assert_eq!(parse("300ms"), ms(300));
        assert_eq!(parse("5s"), ms(5000));
        assert_eq!(parse("1m30s"), ms(90_000));
        assert_eq!(parse("1.5h"), ms(5_400_000));
        for bad in ["", "5", "s", "-5s", "5 s", "5x", "1e3s", "..s", "99999999h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
