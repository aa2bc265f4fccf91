//! HEALTHCHECK.

use std::time::Duration;

use crate::error::{Fault, Result};
use crate::quote::quote;
use crate::syntax::Node;

use super::duration;
use super::flags::{Flags, Kind};

/// As it stands in an image's configuration. A duration of zero is not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    /// 0 is not set.
    pub retries: i32,
}

pub(super) fn healthcheck(node: &Node) -> Result<Healthcheck> {
    let Some((kind, command)) = node.arguments.split_first() else {
        return Err("HEALTHCHECK requires at least one argument".into());
    };
    let kind = kind.to_uppercase();
    if kind == "NONE" {
        if !command.is_empty() {
            return Err("HEALTHCHECK NONE takes no arguments".into());
        }
        return Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() });
    }
    let flags = Flags::read(
        &node.flags,
        &[
            ("interval", Kind::Text),
            ("timeout", Kind::Text),
            ("start-period", Kind::Text),
            ("start-interval", Kind::Text),
            ("retries", Kind::Text),
        ],
    )?;
    if kind != "CMD" {
        return Err(format!("Unknown type {} in HEALTHCHECK (try CMD)", quote(&kind)).into());
    }
    if command.is_empty() {
        return Err("Missing command after HEALTHCHECK CMD".into());
    }
    let form = if node.is_json { "CMD" } else { "CMD-SHELL" };
    let mut test = vec![form.to_owned()];
    test.extend_from_slice(command);
    Ok(Healthcheck {
        test,
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(flags.given("retries").unwrap_or_default())?,
    })
}

fn interval(flags: &Flags, name: &str) -> Result<Duration> {
    let text = flags.given(name).unwrap_or_default();
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    match duration::parse(text).map_err(|why| Fault::at(text, why))? {
        Some(duration) if duration.is_zero() || duration >= Duration::from_millis(1) => {
            Ok(duration)
        }
        _ => Err(Fault::at(text, format!("Interval {} cannot be less than 1ms", quote(name)))),
    }
}

fn retries(text: &str) -> Result<i32> {
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let retries = text.parse::<i32>().map_err(|_| {
        let why = if is_number { "value out of range" } else { "invalid syntax" };
        Fault::at(text, format!("strconv.ParseInt: parsing {}: {why}", quote(text)))
    })?;
    if retries < 0 {
        return Err(Fault::at(text, format!("--retries cannot be negative ({retries})")));
    }
    Ok(retries)
}
