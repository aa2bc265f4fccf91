//! Sizes and durations as texts.

use crate::error::{Error, Result};

/// Bytes of `512m`, `1.5 GiB` or `100`; a unit is a power of 1024.
pub(crate) fn bytes(text: &str) -> Result<i64> {
    let wrong = || Error::new(format!("invalid size: {text:?}"));
    let end = text.rfind(|it: char| it.is_ascii_digit() || matches!(it, '.' | ' '));
    let end = end.ok_or_else(wrong)?;
    let (number, unit) = match text.as_bytes()[end] {
        b' ' => (&text[..end], &text[end + 1..]),
        _ => text.split_at(end + 1),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.to_lowercase();
    let mut letters = unit.chars();
    let factor = match (letters.next(), letters.as_str()) {
        (None | Some('b'), "") => 1.0,
        (Some(letter), "" | "b" | "ib") => {
            let power = "kmgtp".find(letter).ok_or_else(wrong)?;
            1024f64.powi(i32::try_from(power).unwrap_or(0) + 1)
        }
        _ => return Err(wrong()),
    };
    if number < 0.0 {
        return Err(wrong());
    }
    Ok(whole(number * factor))
}

/// What is before the point.
#[expect(clippy::cast_possible_truncation, reason = "saturates, which is what is wanted of a size")]
pub(crate) fn whole(number: f64) -> i64 {
    number as i64
}

const UNITS: &[(&str, i64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Nanoseconds of `1h30m`, `1.5s`, `2d`.
pub(crate) fn duration(text: &str) -> Result<i64> {
    let wrong = |why: &str| Error::new(format!("{why} in duration {text:?}"));
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong("nothing"));
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(wrong("missing unit"));
        }
        let (_, factor) =
            UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| wrong("unknown unit"))?;
        let (before, behind) = number.split_once('.').unwrap_or((number, ""));
        if before.is_empty() && behind.is_empty() || behind.contains('.') {
            return Err(wrong("no number"));
        }
        let whole: i64 =
            if before.is_empty() { 0 } else { before.parse().map_err(|_| wrong("too large"))? };
        let fraction: f64 = format!("0.{behind}0").parse().unwrap_or(0.0);
        #[expect(clippy::cast_precision_loss, reason = "a unit is a small number")]
        let fraction = self::whole(fraction * *factor as f64);
        total = whole
            .checked_mul(*factor)
            .and_then(|it| it.checked_add(fraction))
            .and_then(|it| total.checked_add(it))
            .ok_or_else(|| wrong("too large"))?;
        rest = after;
    }
    Ok(sign * total)
}

/// `1h30m0s`, `1.5s`, `20ms`: what Go writes.
pub(crate) fn shown_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < 1_000_000_000 {
        let (unit, size) = match total {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", fractional(total, size));
    }
    let minutes = total / 60_000_000_000;
    let seconds = fractional(total % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn fractional(number: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", number % unit);
    let fraction = fraction.trim_end_matches('0');
    let whole = number / unit;
    if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in [
            ("100", 100),
            ("100b", 100),
            ("1k", 1024),
            ("1.5gb", 1_610_612_736),
            ("2 MiB", 2_097_152),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "12x", "1kbb", "-1", "1.2.3"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (text, expected) in [
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1.5s", "1.5s"),
            ("250ms", "250ms"),
            ("1d", "24h0m0s"),
            ("0", "0s"),
            ("1m0.25s", "1m0.25s"),
        ] {
            assert_eq!(duration(text).map(shown_duration).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "30", "s", "1x", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
