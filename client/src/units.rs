//! Sizes, durations and times as docker writes and reads them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// In powers of 1000, with so many digits: `1.24MB`.
pub(crate) fn size(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, digits, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"])
}

/// Of a whole number of bytes, with the three digits of most lists.
pub(crate) fn short_size(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    size(bytes as f64, 3)
}

/// In powers of 1024, with four digits: `7.5MiB`.
pub(crate) fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"])
}

fn scaled(mut amount: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut unit = 0;
    while amount >= base && unit + 1 < units.len() {
        amount /= base;
        unit += 1;
    }
    format!("{}{}", general(amount, digits), units[unit])
}

/// `%.Ng` of C and Go: N significant digits, without zeros at the end, with an exponent where it is shorter.
pub(crate) fn general(number: f64, digits: usize) -> String {
    // Go's `%v` asks for the shortest form that reads back as the same number.
    if digits >= 17 {
        let magnitude = number.abs();
        if number == 0.0 || (1e-4..1e21).contains(&magnitude) {
            return format!("{number}");
        }
        return with_exponent(&format!("{number:e}"));
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{number:.*e}", digits.max(1) - 1);
    let exponent: i32 = scientific.split_once('e').and_then(|(_, it)| it.parse().ok()).unwrap_or(0);
    let precision = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= precision {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return with_exponent(&format!("{}e{exponent}", without_zeros(mantissa)));
    }
    let decimals = usize::try_from(precision - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{number:.decimals$}")).to_owned()
}

/// Rust writes `1e3`, C and Go `1e+03`.
fn with_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return text.to_owned() };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// `64m`, `1.5g`, `10 MiB`: bytes in powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end =
        text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, unit) = text.split_at(end + 1);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().map_err(|_| invalid())?;
    if number < 0.0 {
        return Err(invalid());
    }
    let unit = unit.to_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        _ => {
            let rest = unit.get(1..).unwrap_or_default();
            let power = unit.chars().next().and_then(|c| "kmgtp".find(c));
            match (power, rest) {
                (Some(power), "" | "b" | "ib") => power + 1,
                _ => return Err(format!("invalid suffix: '{unit}'")),
            }
        }
    };
    #[expect(clippy::cast_possible_truncation, reason = "as large as the number may be")]
    Ok((number * 1024_f64.powi(i32::try_from(power).unwrap_or(0))) as i64)
}

/// `1h30m`, `1.5s`, `300ms`: nanoseconds, as Go's `ParseDuration` reads them.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut nanos = 0.0;
    while !rest.is_empty() || nanos == 0.0 {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| {
            if rest.is_empty() {
                invalid()
            } else {
                format!("time: missing unit in duration {text:?}")
            }
        })?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        rest = &rest[end..];
        nanos += number * unit;
        if rest.is_empty() {
            break;
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "as long as the number may be")]
    Ok((sign * nanos).round() as i64)
}

/// A span of seconds for people: `About a minute`, `3 weeks`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, what is shorter is cut.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago this second of the Unix epoch was, with `ago`.
pub(crate) fn ago(unix_seconds: i64) -> String {
    format!("{} ago", human_duration(Timestamp::now().as_second() - unix_seconds))
}

/// A second of the Unix epoch in the local zone: `2026-11-26 15:12:15 +0000 UTC`.
pub(crate) fn local_time(unix_seconds: i64) -> String {
    let Ok(at) = Timestamp::from_second(unix_seconds) else { return unix_seconds.to_string() };
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// A second of the Unix epoch in the local zone: `2026-11-26T15:12:15Z`.
pub(crate) fn local_rfc3339(unix_seconds: i64) -> String {
    let Ok(at) = Timestamp::from_second(unix_seconds) else { return unix_seconds.to_string() };
    let at = at.to_zoned(TimeZone::system());
    format!("{}{}", at.strftime("%Y-%m-%dT%H:%M:%S"), zone(&at))
}

fn zone(at: &jiff::Zoned) -> String {
    if at.offset().is_zero() { "Z".to_owned() } else { at.strftime("%:z").to_string() }
}

/// Nanoseconds of the Unix epoch in the local zone, as Go's `RFC3339NanoFixed`.
pub(crate) fn local_nanos(unix_nanos: i64) -> String {
    let Ok(at) = Timestamp::from_nanosecond(i128::from(unix_nanos)) else {
        return unix_nanos.to_string();
    };
    let at = at.to_zoned(TimeZone::system());
    format!("{}{}", at.strftime("%Y-%m-%dT%H:%M:%S.%9f"), zone(&at))
}

/// The time that it is, in the same form.
pub(crate) fn now_in_nanos() -> String {
    local_nanos(i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default())
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Nanoseconds of the Unix epoch in the local zone, to a millionth of a second: `2026-11-26 15:12:15.123456`.
pub(crate) fn local_micros(unix_nanos: i64) -> String {
    let Ok(at) = Timestamp::from_nanosecond(i128::from(unix_nanos)) else {
        return unix_nanos.to_string();
    };
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string()
}

/// Seconds of the Unix epoch of a time in RFC 3339; zero for what is none.
pub(crate) fn unix_seconds(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

/// A time in RFC 3339 as Go's `Time.String` has it: `2026-11-26 15:12:15.5 +0000 UTC`.
pub(crate) fn go_time(text: &str) -> String {
    let Ok(at) = text.parse::<Timestamp>() else { return text.to_owned() };
    let fraction = match at.subsec_nanosecond() {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    let seconds = text.get(..19).unwrap_or(text).replace('T', " ");
    // The zone stands behind the time, and has no name but its offset.
    let zone =
        text.get(19..).and_then(|it| it.find(['+', '-']).map(|at| it[at..].replace(':', "")));
    match zone {
        Some(zone) => format!("{seconds}{fraction} {zone} {zone}"),
        None => format!("{seconds}{fraction} +0000 UTC"),
    }
}

/// What `--since` and `--until` take (a time, a day, a duration before now, seconds of the epoch) as the daemon takes it:
/// `SECONDS.NANOSECONDS`.
pub(crate) fn point_in_time(text: &str) -> Result<String, String> {
    // No duration, though it reads as one: the beginning of time.
    if text == "0" {
        return Ok(text.to_owned());
    }
    let now = Timestamp::now();
    if let Ok(nanos) = parse_duration(text) {
        let at = Timestamp::from_nanosecond(now.as_nanosecond() - i128::from(nanos));
        return Ok(at.unwrap_or(now).as_second().to_string());
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(format!("{}.{:09}", at.as_second(), at.subsec_nanosecond()));
    }
    if let Some(at) = local_day(text) {
        return Ok(format!("{}.{:09}", at.as_second(), at.subsec_nanosecond()));
    }
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
    if is_number(seconds.strip_prefix('-').unwrap_or(seconds)) && is_number(nanos) {
        return Ok(text.to_owned());
    }
    Err(format!("failed to parse value as time or duration: {text:?}"))
}

/// A date, or a date and a time, without a zone: the local one is meant.
fn local_day(text: &str) -> Option<Timestamp> {
    // Hours and minutes may stand alone, as in `2026-11-26T15:04` and `2026-11-26T15`.
    let full = match text.split_once('T') {
        Some((day, time)) if !time.contains(':') => format!("{day}T{time}:00"),
        _ => text.to_owned(),
    };
    let at = match full.parse::<jiff::civil::DateTime>() {
        Ok(at) => at,
        Err(_) => {
            full.parse::<jiff::civil::Date>().ok()?.to_datetime(jiff::civil::Time::midnight())
        }
    };
    at.to_zoned(TimeZone::system()).ok().map(|it| it.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_docker_writes_them() {
        for (bytes, expected) in [
            (0, "0B"),
            (5, "5B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_240_000, "1.24MB"),
            (4_269_678, "4.27MB"),
            (77_800_000, "77.8MB"),
            (999_900, "1e+03kB"),
            (1_000_000_000, "1GB"),
        ] {
            assert_eq!(short_size(bytes), expected, "{bytes}");
        }
        assert_eq!(size(13_256_000.0, 4), "13.26MB");
        assert_eq!(binary_size(0.0), "0B");
        assert_eq!(binary_size(7.5 * 1024.0 * 1024.0), "7.5MiB");
        assert_eq!(general(0.000_01, 3), "1e-05");
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("64m", 64 << 20),
            ("1g", 1 << 30),
            ("1.5k", 1536),
            ("10", 10),
            ("1GiB", 1 << 30),
            ("2 kb", 2048),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["abc", "", "-1", "1x", "1kk"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_bytes("abc").unwrap_err(), "invalid size: 'abc'");
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, nanos) in [
            ("3s", 3_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5ms", 1_500_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for text in ["", "3", "x", "3y", "s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for (seconds, expected) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (119, "About a minute"),
            (3599, "59 minutes"),
            (5399, "About an hour"),
            (3600 * 47, "47 hours"),
            (86400 * 13, "13 days"),
            (86400 * 20, "2 weeks"),
            (86400 * 90, "3 months"),
            (86400 * 800, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (text, expected) in [
            ("2026-11-26T16:00:22.5Z", "2026-11-26 16:00:22.5 +0000 UTC"),
            ("0001-01-01T00:00:00Z", "0001-01-01 00:00:00 +0000 UTC"),
            ("2026-11-26T16:00:22+01:00", "2026-11-26 16:00:22 +0100 +0100"),
        ] {
            assert_eq!(go_time(text), expected);
        }
    }

    #[test]
    fn points_in_time_have_many_spellings() {
        assert_eq!(point_in_time("2026-11-26T15:04:05Z").unwrap(), "1795705445.000000000");
        assert_eq!(point_in_time("2026-11-26T15:04:05.5+00:00").unwrap(), "1795705445.500000000");
        assert_eq!(point_in_time("1795705445.5").unwrap(), "1795705445.5");
        assert_eq!(point_in_time("0").unwrap(), "0");
        for text in ["10m", "2026-11-26", "2026-11-26T15:04", "2026-11-26T15"] {
            assert!(point_in_time(text).unwrap().parse::<f64>().is_ok(), "{text}");
        }
        assert!(point_in_time("yesterday").is_err());
    }
}
