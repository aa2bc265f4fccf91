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
