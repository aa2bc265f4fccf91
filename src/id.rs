//! Identifiers: who is meant, parsed once at the door and trusted afterwards.
//!
//! Pods, containers and execs are named by 64 lower-case hex digits, as containerd's and Docker's
//! are: clients cut them to 12 or 13 digits and match prefixes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const LENGTH: usize = 64;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub(crate) struct $name(String);

        impl $name {
            /// A fresh random identifier.
            pub(crate) fn generate() -> Result<Self> {
                random_hex().map(Self)
            }

            /// Accepts a whole identifier only; a prefix is resolved by whoever holds the list.
            pub(crate) fn parse(text: &str) -> Result<Self> {
                if text.is_empty() {
                    return Err(Error::invalid(concat!($what, " id is empty")));
                }
                if is_hex(text) && text.len() == LENGTH {
                    return Ok(Self(text.to_owned()));
                }
                // A well-formed stranger and a malformed one are both simply not here.
                let shown: String = text.chars().take(80).collect();
                Err(Error::not_found(format!(concat!($what, " {:?} is not known"), shown)))
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 13 digits, as crictl prints them.
            pub(crate) fn short(&self) -> &str {
                self.0.get(..13).unwrap_or(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

identifier!(
    /// A pod, CRI's pod sandbox.
    PodId,
    "pod sandbox"
);
identifier!(
    /// A container.
    ContainerId,
    "container"
);
identifier!(
    /// A network that a client of the Docker door made.
    NetworkId,
    "network"
);
identifier!(
    /// One command executed in a container.
    ExecId,
    "exec"
);

/// True for a non-empty run of lower-case hex digits: what an identifier or a prefix of one is.
pub(crate) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// 32 bytes of the kernel's randomness, as 64 hex digits.
pub(crate) fn random_hex() -> Result<String> {
    use std::fmt::Write;

    let mut bytes = [0_u8; LENGTH / 2];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| Error::internal(format!("getrandom: {errno}")))?;
    }
    let mut text = String::with_capacity(LENGTH);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_generated_id_parses_back() {
        let id = PodId::generate().unwrap();
        assert_eq!(PodId::parse(id.as_str()).unwrap(), id);
    }

    #[test]
    fn paths_and_prefixes_are_not_ids() {
        for text in ["../../etc", "abc", &"A".repeat(64), &"a".repeat(65)] {
            assert_eq!(ContainerId::parse(text).unwrap_err().kind(), Kind::NotFound, "{text}");
        }
        assert_eq!(ContainerId::parse("").unwrap_err().kind(), Kind::InvalidArgument);
    }
}
