//! Values as Go's `fmt` writes them.

use crate::json::Value;

/// `%v`. The field it was read from, if any, tells what a missing value is.
pub(super) fn value_of(value: &Value, field: Option<&str>) -> String {
    match (value, field) {
        (Value::Null, None) => "<no value>".to_owned(),
        (Value::Null, Some(field)) => super::absent::shown(field).to_owned(),
        _ => nested(value),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(it), ..) => it.to_string(),
            (_, Some(it), _) => it.to_string(),
            (.., Some(it)) => crate::units::general(it, 17),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(nested).collect::<Vec<_>>().join(" "))
        }
        // What Docker's client has a type for whose names it does not print.
        Value::Object(members) if is_struct(members) => {
            format!("{{{}}}", members.iter().map(|it| nested(&it.1)).collect::<Vec<_>>().join(" "))
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            let shown: Vec<_> =
                members.iter().map(|(key, value)| format!("{key}:{}", nested(value))).collect();
            format!("map[{}]", shown.join(" "))
        }
    }
}

fn is_struct(members: &[(String, Value)]) -> bool {
    let known: [&[&str]; 2] =
        [&["HostIp", "HostPort"], &["URL", "TargetPort", "PublishedPort", "Protocol"]];
    known.iter().any(|keys| members.iter().map(|it| &it.0).eq(*keys))
}

/// `print`: a space stands between two values of which neither is a string.
pub(super) fn words(values: &[Value]) -> String {
    let mut out = String::new();
    let mut was_string = true;
    for value in values {
        let is_string = matches!(value, Value::String(_));
        if !out.is_empty() && !was_string && !is_string {
            out.push(' ');
        }
        out.push_str(&value_of(value, None));
        was_string = is_string;
    }
    out
}

/// `printf` with the verbs `v s q d x t f g c %`, widths, precisions, `-`, `0` and `+`.
pub(super) fn formatted(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end =
            rest.find(|c: char| !matches!(c, '-' | '+' | '#' | ' ' | '.') && !c.is_ascii_digit());
        let Some(end) = end else {
            out.push_str("%!(NOVERB)");
            return out;
        };
        let (flags, verb) = (&rest[..end], rest[end..].chars().next().unwrap_or('%'));
        rest = &rest[end + verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        match values.next() {
            Some(value) => out.push_str(&padded(verb_of(verb, flags, value), flags)),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    out.push_str(rest);
    let extra: Vec<_> =
        values.map(|it| format!("{}={}", type_of(it), value_of(it, None))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn verb_of(verb: char, flags: &str, value: &Value) -> String {
    let precision = flags.split_once('.').and_then(|(_, it)| it.parse::<usize>().ok());
    match (verb, value) {
        ('s' | 'v', Value::String(text)) => match precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.clone(),
        },
        ('v' | 't', _) => nested(value),
        ('s', Value::Array(_) | Value::Object(_)) => nested(value),
        ('q', Value::String(text)) => Value::from(text.as_str()).compact(),
        ('d', Value::Number(number)) if !number.is_f64() => {
            let sign = if flags.contains('+') && value.integer() >= 0 { "+" } else { "" };
            format!("{sign}{number}")
        }
        ('x', Value::Number(number)) if !number.is_f64() => format!("{:x}", value.integer()),
        ('x', Value::String(text)) => text.bytes().map(|it| format!("{it:02x}")).collect(),
        ('c', Value::Number(_)) => u32::try_from(value.integer())
            .ok()
            .and_then(char::from_u32)
            .unwrap_or('\u{fffd}')
            .into(),
        ('f', Value::Number(number)) if number.is_f64() => {
            format!("{:.*}", precision.unwrap_or(6), value.float())
        }
        ('g', Value::Number(number)) if number.is_f64() => {
            crate::units::general(value.float(), precision.unwrap_or(17))
        }
        _ => format!("%!{verb}({}={})", type_of(value), value_of(value, None)),
    }
}

fn padded(text: String, flags: &str) -> String {
    let digits =
        flags.split('.').next().unwrap_or_default().trim_start_matches(['-', '+', '#', ' ']);
    let width: usize = digits.parse().unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    if flags.contains('-') {
        text + &" ".repeat(missing)
    } else if digits.starts_with('0') {
        "0".repeat(missing) + &text
    } else {
        " ".repeat(missing) + &text
    }
}

pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
