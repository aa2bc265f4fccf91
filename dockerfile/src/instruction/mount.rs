//! `RUN --mount=…`: read when variables are known, but for where it comes from, which the graph of stages needs.

use std::fmt;

use crate::error::{Fault, Result};
use crate::quote::quote;
use crate::suggest::{Case, hint};

use super::csv::fields;

/// A mount as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// Without `--mount=`.
    pub text: String,
    /// The stage, named context or image; empty for the context. Never expanded.
    pub from: String,
}

/// A mount with its values put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountType,
    pub from: String,
    pub source: String,
    pub target: String,
    /// By default true for all but caches and tmpfs.
    pub readonly: bool,
    /// Of a tmpfs, in bytes; 0 is no limit.
    pub size: i64,
    /// Of a cache, a secret or a socket; may be empty: then it follows from the target.
    pub id: String,
    /// Of a cache.
    pub sharing: Option<Sharing>,
    /// A secret or a socket that the client must have.
    pub required: bool,
    /// The variable in which a secret is given.
    pub env: Option<String>,
    /// The permissions of a secret, a socket or a new cache, and its owner.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    Shared,
    Private,
    Locked,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl fmt::Display for MountType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TYPES.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SHARINGS.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Puts values into one word.
pub type Expand<'a> = &'a mut dyn FnMut(&str) -> std::result::Result<String, Fault>;

impl MountFlag {
    pub(super) fn read(text: String) -> Result<Self> {
        let mut from = String::new();
        for field in csv(&text)? {
            let Some((key, value)) = field.split_once('=') else { continue };
            let key = key.to_lowercase();
            if key != "from" {
                continue;
            }
            if value.find('$').is_some_and(|dollar| dollar + 1 != value.len()) {
                return Err(Fault::at(
                    &field,
                    format!(
                        "'{key}' doesn't support variable expansion, define alias stage instead"
                    ),
                ));
            }
            value.clone_into(&mut from);
        }
        Ok(Self { text, from })
    }

    /// The mount that the flag means, each value of it expanded by `expand`.
    ///
    /// # Errors
    /// In BuildKit's words: `unsupported mount type "bnd" (did you mean bind?)`.
    pub fn resolve(&self, expand: Expand<'_>) -> std::result::Result<Mount, Fault> {
        let mut mount = Mount::default();
        let mut readonly = None;
        for field in csv(&self.text)? {
            match field.split_once('=') {
                Some((key, value)) => {
                    let value = expand(value)?;
                    set(
                        &mut mount,
                        &mut readonly,
                        &Field { key: &key.to_lowercase(), value, field: &field },
                    )?;
                }
                None => switch(&mut mount, &mut readonly, &field)?,
            }
        }
        mount.readonly =
            readonly.unwrap_or(!matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
        check(&mount).map_err(|why| Fault::at(&self.text, why))?;
        Ok(mount)
    }
}

/// `key=value` of a mount.
struct Field<'a> {
    key: &'a str,
    value: String,
    /// As written.
    field: &'a str,
}

impl Field<'_> {
    fn invalid(&self) -> Fault {
        Fault::at(self.field, format!("invalid value for {}: {}", self.key, self.value))
    }

    fn boolean(&self) -> Result<bool> {
        boolean(&self.value).ok_or_else(|| self.invalid())
    }

    fn number(&self, radix: u32) -> Result<Option<u32>> {
        // Digits only: a sign is none.
        let is_number = self.value.chars().all(|digit| digit.is_digit(radix));
        match u32::from_str_radix(&self.value, radix) {
            Ok(number) if is_number => Ok(Some(number)),
            _ => {
                Err(Fault::at(self.field, format!("invalid value {} for {}", self.value, self.key)))
            }
        }
    }

    fn one_of<T: Copy>(&self, what: &str, known: &[(&'static str, T)]) -> Result<T> {
        let lower = self.value.to_lowercase();
        known.iter().find(|(name, _)| *name == lower).map(|(_, value)| *value).ok_or_else(|| {
            let hint = hint(&self.value, known.iter().map(|(name, _)| *name), Case::Matters);
            Fault::at(self.field, format!("unsupported {what} {}{hint}", quote(&self.value)))
        })
    }

    fn unexpected(&self, kind: MountType) -> Fault {
        Fault::at(self.field, format!("unexpected key '{}' for mount type '{kind}'", self.key))
    }
}

fn set(mount: &mut Mount, readonly: &mut Option<bool>, field: &Field<'_>) -> Result<()> {
    let value = || field.value.clone();
    match field.key {
        "type" => mount.kind = field.one_of("mount type", &TYPES)?,
        "from" => mount.from = value(),
        "source" | "src" => mount.source = value(),
        "target" | "dst" | "destination" => mount.target = value(),
        "readonly" | "ro" => *readonly = Some(field.boolean()?),
        "readwrite" | "rw" => *readonly = Some(!field.boolean()?),
        "required" if matches!(mount.kind, MountType::Secret | MountType::Ssh) => {
            mount.required = field.boolean()?;
        }
        "size" if mount.kind == MountType::Tmpfs => {
            mount.size = bytes(&field.value).ok_or_else(|| field.invalid())?;
        }
        "required" | "size" => return Err(field.unexpected(mount.kind)),
        "id" => mount.id = value(),
        "sharing" => mount.sharing = Some(field.one_of("sharing value", &SHARINGS)?),
        "mode" => mount.mode = field.number(8)?,
        "uid" => mount.uid = field.number(10)?,
        "gid" => mount.gid = field.number(10)?,
        "env" => mount.env = Some(value()),
        key => {
            let hint = hint(key, KEYS, Case::Matters);
            return Err(Fault::at(
                field.field,
                format!("unexpected key '{key}' in '{}'{hint}", field.field),
            ));
        }
    }
    Ok(())
}

/// A key without a value.
fn switch(mount: &mut Mount, readonly: &mut Option<bool>, field: &str) -> Result<()> {
    let key = field.to_lowercase();
    match key.as_str() {
        "readonly" | "ro" => *readonly = Some(true),
        "readwrite" | "rw" => *readonly = Some(false),
        "required" if matches!(mount.kind, MountType::Secret | MountType::Ssh) => {
            mount.required = true;
        }
        "required" => {
            return Err(Field { key: &key, value: String::new(), field }.unexpected(mount.kind));
        }
        _ => {
            return Err(Fault::at(
                field,
                format!("invalid field '{field}' must be a key=value pair"),
            ));
        }
    }
    Ok(())
}

/// What one key alone cannot show.
fn check(mount: &Mount) -> std::result::Result<(), String> {
    let kind = mount.kind;
    if matches!(kind, MountType::Bind | MountType::Tmpfs) {
        let given = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
        if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
            return Err(format!("{key} not allowed for {} type mounts", quote(&kind.to_string())));
        }
    }
    if kind == MountType::Secret {
        if !mount.from.is_empty() {
            return Err("secret mount should not have a from".to_owned());
        }
        if mount.sharing.is_some() {
            return Err("secret mount should not define sharing".to_owned());
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err("invalid secret mount. one of source, target required".to_owned());
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err("both source and id can't be set".to_owned());
        }
    }
    if mount.sharing.is_some() && kind != MountType::Cache {
        return Err(format!("invalid cache sharing set for {kind} mount"));
    }
    Ok(())
}

fn csv(text: &str) -> Result<Vec<String>> {
    fields(text).map_err(|why| Fault::at(text, format!("failed to parse csv mounts: {why}")))
}

/// Go's words for a boolean (`strconv.ParseBool`); `None` for any other.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size in bytes with a unit of 1024: `64m`, `1.5 GiB`.
fn bytes(text: &str) -> Option<i64> {
    let digits = text.rfind(|character: char| character.is_ascii_digit() || character == '.')? + 1;
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let value = number.parse::<f64>().ok().filter(|value| *value >= 0.0)?;
    let mut letters = unit.chars();
    let power = match letters.next() {
        None | Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return None,
    };
    let rest = letters.as_str();
    let is_unit = match power {
        0 => rest.is_empty(),
        _ => matches!(rest, "" | "b" | "ib"),
    };
    #[expect(clippy::cast_possible_truncation, reason = "what is larger is the largest")]
    is_unit.then_some((value * f64::from(1u32 << 10).powi(power)) as i64)
}
