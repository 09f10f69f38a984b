//! Sizes: `512` in the unit of the flag, or with a unit of their own: `512m`, `2g`, `1.5GiB`.

use std::str::FromStr;

/// Bytes of a MB: all units are powers of 1024, as Docker's.
const MEBIBYTE: u128 = 1 << 20;

/// A size in MB. A part of a MB counts as a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Megabytes(pub(crate) u64);

impl FromStr for Megabytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes(text, MEBIBYTE)
            .and_then(|bytes| u64::try_from(bytes.div_ceil(MEBIBYTE)).ok())
            .map(Self)
            .ok_or("use a number of MB, or a unit: 512m, 2g")
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = bytes(text, 1).and_then(|bytes| u64::try_from(bytes).ok());
        bytes.map(Self).ok_or("use a number of bytes, or a unit: 64m, 1g")
    }
}

/// A packet size in bytes. Zero and below are numbers, too: their check has words of its own.
pub(crate) fn packet(text: &str) -> Result<i64, &'static str> {
    let positive = || bytes(text, 1).and_then(|bytes| i64::try_from(bytes).ok());
    text.parse().ok().or_else(positive).ok_or("use a number of bytes, such as 1500")
}

/// Bytes; `unit` is what a bare number counts.
fn bytes(text: &str, unit: u128) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let unit = match suffix.to_ascii_lowercase().as_str() {
        "" => unit,
        "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    // As many digits as the products below have room for.
    if whole.len() > 19 || part.len() > 18 {
        return None;
    }
    let tens = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let (whole, part): (u128, u128) = (whole.parse().ok()?, part.parse().ok()?);
    (whole * unit).checked_add((part * unit).div_ceil(tens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bare_number_is_in_mb_and_units_are_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("512", 512),
            ("512m", 512),
            ("512M", 512),
            ("512MB", 512),
            ("512MiB", 512),
            ("2g", 2048),
            ("1.5g", 1536),
            ("1t", 1 << 20),
            ("1024k", 1),
            ("1025k", 2),
            ("1b", 1),
            ("0.1", 1),
            ("9223372036854775807", i64::MAX as u64),
        ];
        for (text, mebibytes) in cases {
            assert_eq!(text.parse(), Ok(Megabytes(mebibytes)), "{text}");
        }
        let bad = [
            "",
            "m",
            "2q",
            "-1",
            "+1",
            "1e3",
            "lots",
            "1 g",
            "1..5g",
            ".",
            "1.",
            ".5",
            "1gg",
            "99999999999999999999",
            "9999999999999999999t",
            "NaN",
            "٣",
        ];
        for text in bad {
            assert!(text.parse::<Megabytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_packet_size_is_in_bytes() {
        assert_eq!(packet("1500"), Ok(1500));
        assert_eq!(packet("9k"), Ok(9216));
        assert_eq!(packet("-1"), Ok(-1));
        assert!(packet("big").is_err() && packet("").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9.bkmgtiBKMGT+-]{0,40}") {
            let _ = text.parse::<Megabytes>();
            let _ = packet(&text);
        }

        #[test]
        fn a_unit_is_that_many_of_the_smaller(n in 0u64..1 << 40) {
            let parse = |text: String| text.parse::<Megabytes>().expect("valid").0;
            prop_assert_eq!(parse(format!("{n}g")), parse(format!("{}m", n * 1024)));
        }
    }
}
