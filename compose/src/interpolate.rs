//! `$NAME` and `${NAME}` with their operators, in the values of a file.
//!
//! ```text
//!   $$                    a dollar sign
//!   $NAME  ${NAME}        the value, or nothing and a warning
//!   ${NAME:-word}  ${NAME-word}    word when it is unset or empty; when it is unset
//!   ${NAME:?word}  ${NAME?word}    the same, but word is the error
//!   ${NAME:+word}  ${NAME+word}    word when it is set and not empty; when it is set
//! ```
//! A word is interpolated itself, also when it is not used. A dollar sign before anything else is a dollar sign.

use crate::error::{Error, Result};
use crate::node::{self, Node, Value};
use crate::scalar;

/// What a name stands for.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables of a text. Names that stand for nothing are handed to `unset`.
pub(crate) fn substitute(
    template: &str,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> Result<String> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (value, after) = braced(after, lookup, unset).map_err(|error| match error {
                Problem::Format => invalid(template),
                Problem::Other(error) => error,
            })?;
            out.push_str(&value);
            rest = after;
        } else {
            let length = name_length(rest);
            if length == 0 {
                out.push('$');
                continue;
            }
            let name = &rest[..length];
            out.push_str(&lookup(name).unwrap_or_else(|| {
                unset(name);
                String::new()
            }));
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

enum Problem {
    Format,
    Other(Error),
}

fn invalid(template: &str) -> Error {
    Error::new(format!(
        "invalid interpolation format {template:?}; a dollar sign that is meant as one is written $$"
    ))
}

/// Behind `${`: the value, and what follows the brace that ends it.
fn braced<'t>(
    text: &'t str,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> std::result::Result<(String, &'t str), Problem> {
    let length = name_length(text);
    let (name, rest) = text.split_at(length);
    if length == 0 {
        return Err(Problem::Format);
    }
    if let Some(after) = rest.strip_prefix('}') {
        let value = lookup(name).unwrap_or_else(|| {
            unset(name);
            String::new()
        });
        return Ok((value, after));
    }
    let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let Some(operator) = rest.chars().next().filter(|it| matches!(it, '-' | '?' | '+')) else {
        return Err(Problem::Format);
    };
    let rest = &rest[1..];
    let end = closing(rest).ok_or(Problem::Format)?;
    let word = substitute(&rest[..end], lookup, unset).map_err(Problem::Other)?;
    let value = lookup(name);
    let counts = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
    let value = match (operator, counts) {
        ('-', false) | ('+', true) => word,
        ('?', false) => {
            let reason = if word.is_empty() { String::new() } else { format!(": {word}") };
            let message = format!("required variable {name} is missing a value{reason}");
            return Err(Problem::Other(Error::new(message)));
        }
        _ => value.unwrap_or_default(),
    };
    Ok((value, &rest[end + 1..]))
}

/// The brace that ends a word, in which braces may stand in pairs. It stands on the line of the word's begin.
fn closing(text: &str) -> Option<usize> {
    let line = text.find('\n').unwrap_or(text.len());
    let last = text[..line].rfind('}')?;
    let mut depth = 1usize;
    let mut bytes = text[..=last].bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            b'{' => {
                depth += 1;
                // What follows an opening brace begins a name.
                bytes.next();
            }
            _ => {}
        }
    }
    Some(last)
}

fn name_length(text: &str) -> usize {
    let first = text.bytes().next();
    if !first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// Replaces the variables in all values below, and gives those a type that are to have one.
pub(crate) fn tree(
    node: &mut Node,
    path: &mut Vec<String>,
    lookup: Lookup<'_>,
    unset: &mut dyn FnMut(&str),
) -> Result<()> {
    if let Value::Text(text) = &node.value {
        let text = substitute(text, lookup, unset).map_err(|it| it.placed(node, path))?;
        node.value = match CASTS.iter().find(|(pattern, _)| node::matches(path, pattern)) {
            Some((_, cast)) => typed(&text, *cast).map_err(|it| it.placed(node, path))?,
            None => Value::Text(text),
        };
        return Ok(());
    }
    node::each_child(node, path, |child, path| tree(child, path, lookup, unset))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cast {
    Integer,
    Number,
    Flag,
}

/// What text becomes another type when it was interpolated, or was quoted without need.
const CASTS: &[(&str, Cast)] = &[
    ("services.*.cpu_count", Cast::Integer),
    ("services.*.cpu_percent", Cast::Number),
    ("services.*.cpu_period", Cast::Integer),
    ("services.*.cpu_quota", Cast::Integer),
    ("services.*.cpu_rt_period", Cast::Integer),
    ("services.*.cpu_rt_runtime", Cast::Integer),
    ("services.*.cpus", Cast::Number),
    ("services.*.cpu_shares", Cast::Integer),
    ("services.*.init", Cast::Flag),
    ("services.*.deploy.replicas", Cast::Integer),
    ("services.*.deploy.update_config.parallelism", Cast::Integer),
    ("services.*.deploy.update_config.max_failure_ratio", Cast::Number),
    ("services.*.deploy.rollback_config.parallelism", Cast::Integer),
    ("services.*.deploy.rollback_config.max_failure_ratio", Cast::Number),
    ("services.*.deploy.restart_policy.max_attempts", Cast::Integer),
    ("services.*.deploy.placement.max_replicas_per_node", Cast::Integer),
    ("services.*.healthcheck.retries", Cast::Integer),
    ("services.*.healthcheck.disable", Cast::Flag),
    ("services.*.oom_kill_disable", Cast::Flag),
    ("services.*.oom_score_adj", Cast::Integer),
    ("services.*.pids_limit", Cast::Integer),
    ("services.*.ports.[].target", Cast::Integer),
    ("services.*.privileged", Cast::Flag),
    ("services.*.read_only", Cast::Flag),
    ("services.*.scale", Cast::Integer),
    ("services.*.stdin_open", Cast::Flag),
    ("services.*.tty", Cast::Flag),
    ("services.*.ulimits.*", Cast::Integer),
    ("services.*.ulimits.*.hard", Cast::Integer),
    ("services.*.ulimits.*.soft", Cast::Integer),
    ("services.*.volumes.[].read_only", Cast::Flag),
    ("services.*.volumes.[].volume.nocopy", Cast::Flag),
    ("networks.*.external", Cast::Flag),
    ("networks.*.internal", Cast::Flag),
    ("networks.*.attachable", Cast::Flag),
    ("networks.*.enable_ipv4", Cast::Flag),
    ("networks.*.enable_ipv6", Cast::Flag),
    ("volumes.*.external", Cast::Flag),
    ("secrets.*.external", Cast::Flag),
    ("configs.*.external", Cast::Flag),
];

fn typed(text: &str, cast: Cast) -> Result<Value> {
    match cast {
        Cast::Integer => scalar::decimal_integer(text).map(Value::Int),
        Cast::Number => scalar::number(text).map(Value::Float),
        Cast::Flag => scalar::flag(text).map(Value::Bool),
    }
}
