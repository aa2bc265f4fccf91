//! The flags of an instruction against the ones it knows.

use crate::error::{Fault, Result};
use crate::suggest::{Case, hint};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--link`, `--link=true`, `--link=false`
    Switch,
    Text,
    /// May be given again.
    Texts,
}

/// The flags that were given, in order.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: Vec<(&'static str, String)>,
}

impl Flags {
    pub(super) fn read(flags: &[String], known: &[(&'static str, Kind)]) -> Result<Self> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for flag in flags {
            let (written, value) = match flag.split_once('=') {
                Some((written, value)) => (written, Some(value)),
                None => (flag.as_str(), None),
            };
            let name = written.get(2..).unwrap_or_default();
            let Some((name, kind)) = known.iter().find(|(known, _)| *known == name).copied() else {
                let hint = hint(name, known.iter().map(|(known, _)| *known), Case::Matters);
                return Err(Fault::at(written, format!("unknown flag: {written}{hint}")));
            };
            if kind != Kind::Texts && given.iter().any(|(given, _)| *given == name) {
                return Err(Fault::at(written, format!("duplicate flag specified: {written}")));
            }
            given.push((name, value_of(written, value, kind)?));
        }
        Ok(Self { given })
    }

    /// The flag's value, or nothing.
    pub(super) fn text(&self, name: &str) -> String {
        self.given(name).unwrap_or_default().to_owned()
    }

    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let given = self.given.iter().filter(|(given, _)| *given == name);
        given.map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.given(name).map(|value| value == "true")
    }
}

fn value_of(written: &str, value: Option<&str>, kind: Kind) -> Result<String> {
    let missing = || Fault::at(written, format!("missing a value on flag: {written}"));
    if kind != Kind::Switch {
        return Ok(value.ok_or_else(missing)?.to_owned());
    }
    let Some(value) = value else { return Ok("true".to_owned()) };
    match value.to_lowercase().as_str() {
        "" => Err(missing()),
        lower @ ("true" | "false") => Ok(lower.to_owned()),
        _ => Err(Fault::at(
            written,
            format!("expecting boolean value for flag {written}, not: {value}"),
        )),
    }
}
