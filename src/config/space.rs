//! Room on a file system, as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Bytes, or a part of the whole file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Space {
    Bytes(u64),
    /// 0 to 100.
    Percent(u8),
}

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl Space {
    /// In bytes, on a file system of so many.
    pub(crate) fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

impl FromStr for Space {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::invalid(format!("{text:?} is neither a size (20GB) nor a part (10%)"));
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse().ok().filter(|percent| *percent <= 100);
            return percent.map(Self::Percent).ok_or_else(wrong);
        }
        let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        count.checked_mul(*scale).map(Self::Bytes).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Space {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Space> for String {
    fn from(space: Space) -> Self {
        space.to_string()
    }
}

impl fmt::Display for Space {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(out, "{bytes}"),
            Self::Percent(percent) => write!(out, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_parts_are_read_and_nothing_else() {
        let space = |text: &str| text.parse::<Space>().map(|space| space.of(1000)).ok();
        assert_eq!([space("10%"), space("0"), space("7kB")], [Some(100), Some(0), Some(7000)]);
        assert_eq!([space("2MiB"), space("1GB")], [Some(2 << 20), Some(1_000_000_000)]);
        for text in ["", "101%", "-1", "1.5GB", "10 %", "1gb", "99999999TB", "GB"] {
            assert_eq!(space(text), None, "{text}");
        }
    }
}
