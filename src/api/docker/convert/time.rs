//! Times: nanoseconds since the epoch in the engine, text or seconds on the wire.

use jiff::Timestamp;

/// What Go programs take for "never".
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

pub(crate) fn seconds(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000_000)
}

/// Seconds of an RFC 3339 text; 0 for what is none.
pub(crate) fn seconds_of(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, Timestamp::as_second)
}

/// Nanoseconds of what clients send as a moment: `1600000000`, `1600000000.000000001`, RFC 3339.
pub(crate) fn moment(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return i64::try_from(at.as_nanosecond()).ok();
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_all_three_spellings() {
        for (text, nanos) in [
            ("5", 5_000_000_000),
            ("1.000000001", 1_000_000_001),
            ("1.5", 1_500_000_000),
            ("1970-01-01T00:00:02Z", 2_000_000_000),
            ("1970-01-01T01:00:02+01:00", 2_000_000_000),
        ] {
            assert_eq!(moment(text), Some(nanos), "{text}");
        }
        for text in ["", "soon", "1.0000000001", "1.x", "99999999999999999999"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
