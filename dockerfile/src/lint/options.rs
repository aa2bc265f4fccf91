//! `skip=Rule,Rule;experimental=Rule;error=true`.

use std::collections::BTreeSet;

use crate::instruction::mount::boolean;
use crate::quote::quote;

use super::rules::Rule;

/// Which rules are on.
#[derive(Debug, Default)]
pub(super) struct Options {
    skipped: Names,
    /// Experimental rules that are on.
    wanted: Names,
    /// A warning is an error.
    pub(super) is_strict: bool,
}

#[derive(Debug, Default)]
enum Names {
    #[default]
    None,
    All,
    These(BTreeSet<String>),
}

impl Names {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            text => Self::These(text.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(names) => names.contains(name),
        }
    }
}

impl Options {
    /// # Errors
    /// `invalid check option "skp"`
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(format!("invalid check option {}", quote(part)));
            };
            match name.trim() {
                "skip" => options.skipped = Names::parse(value),
                "experimental" => options.wanted = Names::parse(value),
                "error" => {
                    let value = value.trim();
                    options.is_strict = boolean(value).ok_or_else(|| {
                        format!(
                            "failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax",
                            quote(part),
                            quote(value)
                        )
                    })?;
                }
                other => return Err(format!("invalid check option {}", quote(other))),
            }
        }
        Ok(options)
    }

    /// Of the first comment `check=…`. One that cannot be read changes nothing.
    pub(super) fn of_comments(comments: &[String]) -> Option<Self> {
        let value = comments.iter().find_map(|comment| {
            let (name, value) = comment.split_once('=')?;
            name.trim_end().eq_ignore_ascii_case("check").then(|| value.trim())
        })?;
        Self::parse(value.split(' ').next().unwrap_or_default()).ok()
    }

    /// Whether a rule is on, for an instruction that has options of its own.
    pub(super) fn allows(&self, rule: &Rule, own: Option<&Self>) -> bool {
        let either = |names: fn(&Self) -> &Names| {
            names(self).has(rule.name) || own.is_some_and(|own| names(own).has(rule.name))
        };
        if rule.is_experimental {
            either(|options| &options.wanted)
        } else {
            !either(|options| &options.skipped)
        }
    }
}
