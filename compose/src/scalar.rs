//! Scalars between text and value, as Go's YAML library has them: YAML 1.2's words with YAML 1.1's octal numbers.

use crate::error::{Error, Result};
use crate::node::Value;

/// The value of a plain scalar.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.') {
        let bare = text.replace('_', "");
        if first != b'.'
            && let Some(number) = integer(&bare)
        {
            return Value::Int(number);
        }
        if is_float(&bare)
            && let Ok(number) = bare.parse()
        {
            return Value::Float(number);
        }
    }
    Value::Text(text.to_owned())
}

/// A number with the prefix of its base; a leading zero is octal.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

/// `[-+]? ( .DIGITS | DIGITS [.DIGITS?] ) [ e [-+]? DIGITS ]`
fn is_float(text: &str) -> bool {
    fn digits(text: &str) -> (&str, &str) {
        text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
    }
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return false;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else { return rest.is_empty() };
    let (number, rest) = digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
    !number.is_empty() && rest.is_empty()
}

/// Whether a text would be read back as something else when it stood there without quotes.
pub(crate) fn needs_quotes(text: &str) -> bool {
    !matches!(plain(text), Value::Text(_))
        || is_old_bool(text)
        || is_base_sixty(text)
        || is_timestamp(text)
}

fn is_old_bool(text: &str) -> bool {
    matches!(
        text,
        "y" | "Y"
            | "yes"
            | "Yes"
            | "YES"
            | "on"
            | "On"
            | "ON"
            | "n"
            | "N"
            | "no"
            | "No"
            | "NO"
            | "off"
            | "Off"
            | "OFF"
    )
}

/// YAML 1.1's sexagesimal numbers: `[-+]? DIGIT [DIGIT_]* ( : [0-5]? DIGIT )+ [ .[DIGIT_]* ]`
fn is_base_sixty(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (body, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = body.split(':');
    let Some(first) = parts.next() else { return false };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let sixty = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    let rest: Vec<&str> = parts.collect();
    first.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && number(first)
        && number(fraction)
        && !rest.is_empty()
        && rest.into_iter().all(sixty)
}

/// A date, or a date and a time, which YAML 1.1 has a type for.
pub(crate) fn is_timestamp(text: &str) -> bool {
    fn number(text: &str, lengths: std::ops::RangeInclusive<usize>, most: u32) -> bool {
        lengths.contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse().is_ok_and(|number: u32| number <= most)
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((&text[at + 1..], text.as_bytes()[at] != b' '))),
        None => (text, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    if !(number(year, 4..=4, 9999) && number(month, 1..=2, 12) && number(day, 1..=2, 31)) {
        return false;
    }
    if month.parse() == Ok(0u32) || day.parse() == Ok(0u32) {
        return false;
    }
    let Some((time, zoned)) = time else { return true };
    let clock = if zoned {
        match time.strip_suffix('Z') {
            Some(clock) => clock,
            None => match time.rfind(['+', '-']) {
                Some(at) => &time[..at],
                None => return false,
            },
        }
    } else {
        time
    };
    let clock = clock.split_once('.').map_or(clock, |(clock, _)| clock);
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts[..] else { return false };
    number(hour, 1..=2, 23) && number(minute, 1..=2, 59) && number(second, 1..=2, 59)
}

/// Go's `%v` of a number with a fraction: the shortest digits, with an exponent below -4 and from 6 on.
pub(crate) fn general(number: f64) -> String {
    shortest(&format!("{number:e}"), number.is_sign_negative(), 6)
}

/// The same of a number of 32 bits.
pub(crate) fn general32(number: f32) -> String {
    shortest(&format!("{number:e}"), number.is_sign_negative(), 6)
}

/// `text` is Rust's `{:e}`: `-1.25e-7`.
fn shortest(text: &str, negative: bool, most: i32) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return match text {
            "NaN" => "NaN".to_owned(),
            _ if negative => "-Inf".to_owned(),
            _ => "+Inf".to_owned(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= most {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    decimal(mantissa, exponent)
}

/// A mantissa and its exponent without an exponent.
pub(crate) fn decimal(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |it| ("-", it));
    let digits: String = mantissa.chars().filter(|it| *it != '.').collect();
    let point = usize::try_from(exponent + 1).unwrap_or(0);
    if exponent < 0 {
        let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
        format!("{sign}0.{zeros}{digits}")
    } else if digits.len() <= point {
        format!("{sign}{digits}{}", "0".repeat(point - digits.len()))
    } else {
        format!("{sign}{}.{}", &digits[..point], &digits[point..])
    }
}

/// A whole number in decimal digits.
pub(crate) fn decimal_integer(text: &str) -> Result<i64> {
    text.parse().map_err(|_| Error::new(format!("{text:?} is not a whole number")))
}

pub(crate) fn number(text: &str) -> Result<f64> {
    text.parse().map_err(|_| Error::new(format!("{text:?} is not a number")))
}

/// A boolean, in YAML 1.1's words too.
pub(crate) fn flag(text: &str) -> Result<bool> {
    match text.to_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Ok(true),
        "false" | "n" | "no" | "off" => Ok(false),
        _ => Err(Error::new(format!("invalid boolean: {text}"))),
    }
}
