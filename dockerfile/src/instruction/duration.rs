//! Durations in Go's spelling: `1h30m`, `1.5s`, `100ms`.

use std::time::Duration;

use crate::quote::quote;

/// Nanoseconds of each unit.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// What a signed duration of 64 bits holds.
const LARGEST: u128 = i64::MAX as u128;

/// None for a negative one.
pub(super) fn parse(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, behind) = number(rest);
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let length = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, more) = behind.split_at(length);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let unit = quote(unit);
            return Err(format!("time: unknown unit {unit} in duration {}", quote(text)));
        };
        total = nanoseconds(number, *nanos)
            .and_then(|nanos| total.checked_add(nanos))
            .filter(|total| *total <= LARGEST)
            .ok_or_else(invalid)?;
        rest = more;
    }
    let nanos = u64::try_from(total).map_err(|_| invalid())?;
    Ok((!is_negative || nanos == 0).then(|| Duration::from_nanos(nanos)))
}

/// Digits with at most one point among them.
fn number(text: &str) -> (&str, &str) {
    let mut has_point = false;
    let end = text.find(|character: char| match character {
        '.' => std::mem::replace(&mut has_point, true),
        _ => !character.is_ascii_digit(),
    });
    text.split_at(end.unwrap_or(text.len()))
}

fn nanoseconds(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // Digits beyond these are below a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = u32::try_from(fraction.len()).ok()?;
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    u128::from(whole).checked_mul(unit)?.checked_add(part * unit / 10u128.pow(digits))
}

/// As Go writes one: `1h0m0s`, `1m30s`, `1.5s`, `500ms`, `0s`.
pub(crate) fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let unit = |size: u128, name: &str| {
        let fraction = format!("{:0width$}", nanos % size, width = size.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}{name}", nanos / size)
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => unit(1_000, "µs"),
        1_000_000..1_000_000_000 => unit(1_000_000, "ms"),
        _ => {
            let minutes = duration.as_secs() / 60;
            let nanos = nanos - u128::from(minutes) * 60_000_000_000;
            let fraction = format!("{:09}", nanos % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let seconds = format!("{}{point}{fraction}s", nanos / 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_as_in_go() {
        for (text, shown) in [
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1.5s", "1.5s"),
            (".25s", "250ms"),
            ("1h2m3.004s", "1h2m3.004s"),
            ("1us", "1µs"),
            ("+0", "0s"),
            ("2ms500us", "2.5ms"),
        ] {
            assert_eq!(show(parse(text).unwrap().unwrap()), shown, "{text}");
        }
        assert_eq!(parse("-1s"), Ok(None));
        for (text, why) in [
            ("", "time: invalid duration \"\""),
            ("1", "time: missing unit in duration \"1\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
            ("s", "time: invalid duration \"s\""),
            ("99999999999h", "time: invalid duration \"99999999999h\""),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }
}
