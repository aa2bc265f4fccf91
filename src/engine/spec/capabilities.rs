//! The capability sets.
//!
//! The default is the fourteen that containerd and Docker give: with fewer, Debian's ping (a file
//! capability) cannot be executed and sshd cannot log its users in, and both look like faults of
//! the engine. Nothing is inheritable or ambient unless asked for.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::{Draft, Input, field};
use crate::error::{Error, Result};
use crate::sys::capability::NAMES;

const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let security = &input.config.security;
    let available = input.host.capabilities;
    let add = Change::parse("capabilities.add_capabilities", &security.add_capabilities)?;
    let drop = Change::parse("capabilities.drop_capabilities", &security.drop_capabilities)?;
    let ambient =
        Change::parse("capabilities.add_ambient_capabilities", &security.add_ambient_capabilities)?;

    let mut granted = set(&DEFAULT);
    if add.all {
        granted = available;
    }
    if drop.all {
        granted = 0;
    }
    granted |= add.named;
    granted &= !drop.named;
    let ambient = if ambient.all { granted } else { ambient.named };
    // What is ambient must be permitted and inheritable as well.
    granted |= ambient;
    if security.privileged {
        granted = available;
    }
    if let Some(name) = names(granted & !available).next() {
        return Err(Error::invalid(format!(
            "capabilities.add_capabilities: the engine itself lacks {name}"
        )));
    }
    draft.capabilities = granted;
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(to_oci(granted)))
        .set_effective(Some(to_oci(granted)))
        .set_permitted(Some(to_oci(granted)))
        .set_inheritable(Some(to_oci(ambient)))
        .set_ambient(Some(to_oci(ambient)));
    draft.process.set_capabilities(Some(sets));
    Ok(())
}

struct Change {
    all: bool,
    named: u64,
}

impl Change {
    fn parse(field: &str, list: &[String]) -> Result<Self> {
        let mut change = Self { all: false, named: 0 };
        for text in list {
            let upper = text.to_ascii_uppercase();
            if upper == "ALL" || upper == "CAP_ALL" {
                change.all = true;
                continue;
            }
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            let Some(number) = NAMES.iter().position(|known| *known == name) else {
                let shown = field::shown(text);
                return Err(Error::invalid(format!("{field}: unknown capability {shown}")));
            };
            change.named |= 1 << number;
        }
        Ok(change)
    }
}

/// The mask of some names without `CAP_`. Names that do not exist count for nothing.
pub(crate) fn set(list: &[&str]) -> u64 {
    let numbers = list.iter().filter_map(|name| NAMES.iter().position(|known| known == name));
    numbers.fold(0, |mask, number| mask | 1 << number)
}

fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES.iter().enumerate().filter(move |(number, _)| mask & 1 << number != 0).map(|it| *it.1)
}

fn to_oci(mask: u64) -> Capabilities {
    names(mask).filter_map(|name| name.parse::<Capability>().ok()).collect()
}

/// The mask of a spec's set.
pub(crate) fn from_oci(list: Option<&Capabilities>) -> u64 {
    let names: Vec<String> = list.into_iter().flatten().map(ToString::to_string).collect();
    set(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_the_way_through_oci() {
        let all = (1 << NAMES.len()) - 1;
        assert_eq!(from_oci(Some(&to_oci(all))), all);
        assert_eq!(set(&DEFAULT).count_ones(), 14);
    }

    #[test]
    fn an_unknown_name_is_refused_and_a_prefix_is_not() {
        let parse = |name: &str| Change::parse("f", &[name.to_owned()]);
        assert_eq!(parse("cap_sys_admin").unwrap().named, 1 << 21);
        assert!(parse("all").unwrap().all);
        assert!(parse("SYS_ADMIN_").is_err_and(|error| error.to_string().contains("SYS_ADMIN_")));
    }
}
