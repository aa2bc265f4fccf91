//! Times: nanoseconds since the epoch in the engine, text or seconds on the wire.

use jiff::Timestamp;

/// What Go programs take for "never".
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with nine digits, as every log line and every inspect has it.
pub(crate) fn text(nanos: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// How long ago, in the words of Docker's lists.
pub(crate) fn since(nanos: i64) -> String {
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    duration((now - nanos).max(0) / 1_000_000_000)
}

fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

pub(crate) fn seconds(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000_000)
}

/// Seconds of an RFC 3339 text; 0 for what is none.
pub(crate) fn seconds_of(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

/// Nanoseconds of what clients send as a moment: `1600000000`, `1600000000.000000001`, RFC 3339. Finer fractions are cut off.
pub(crate) fn moment(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return i64::try_from(at.as_nanosecond()).ok();
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// As [`moment`], or how long ago that was: `24h`, `1h30m`.
pub(crate) fn until(text: &str) -> Option<i64> {
    if let Some(at) = moment(text) {
        return Some(at);
    }
    let (mut ago, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit()).filter(|count| *count > 0)?;
        let (number, unit_and_rest) = rest.split_at_checked(digits)?;
        let units = [
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let (name, nanos) = units.iter().find(|(name, _)| unit_and_rest.starts_with(name))?;
        ago = ago.checked_add(number.parse::<i64>().ok()?.checked_mul(*nanos)?)?;
        rest = unit_and_rest.strip_prefix(name)?;
    }
    let now = i64::try_from(Timestamp::now().as_nanosecond()).ok()?;
    (!text.is_empty()).then(|| now.saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_is_a_moment_or_how_long_ago() {
        let now = Timestamp::now().as_second();
        let ago = |text: &str| now - seconds(until(text).unwrap());
        for (text, expected) in [("24h", 86_400), ("1h30m", 5_400), ("90s", 90), ("1500ms", 1)] {
            assert!((expected..=expected + 60).contains(&ago(text)), "{text}");
        }
        assert_eq!(until("1600000000"), Some(1_600_000_000_000_000_000));
        for text in ["", "h", "1", "10x", "-1h", "1h2", "99999999999999999h"] {
            assert!(text == "1" || until(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_time_has_nine_digits() {
        assert_eq!(text(1_000_000_000), "1970-01-01T00:00:01.000000000Z");
        assert_eq!(text(1), "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn durations_have_dockers_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86_400, "3 days"),
            (21 * 86_400, "3 weeks"),
            (100 * 86_400, "3 months"),
            (1000 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn moments_are_read_in_all_three_spellings() {
        for (text, nanos) in [
            ("5", 5_000_000_000),
            ("1.000000001", 1_000_000_001),
            ("1.5", 1_500_000_000),
            ("1.0000000019", 1_000_000_001),
            ("1970-01-01T00:00:02Z", 2_000_000_000),
            ("1970-01-01T01:00:02+01:00", 2_000_000_000),
        ] {
            assert_eq!(moment(text), Some(nanos), "{text}");
        }
        for text in ["", "soon", "1.x", "1.000000000x", "99999999999999999999"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
