//! Resource limits: a fixed table, so that the daemon's own never leak into containers.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use super::{Draft, Input, field};
use crate::error::{Context, Error, Result};

/// The soft limit of open files stays at what `select` can count; programs that want more raise it
/// themselves.
const DEFAULTS: [(PosixRlimitType, u64, u64); 3] = [
    (PosixRlimitType::RlimitNofile, 1024, 524_288),
    (PosixRlimitType::RlimitCore, 0, u64::MAX),
    (PosixRlimitType::RlimitMemlock, 8 << 20, 8 << 20),
];

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let mut limits: Vec<(PosixRlimitType, u64, u64)> = DEFAULTS.to_vec();
    for (index, request) in input.config.rlimits.iter().enumerate() {
        let named = format!("rlimits[{index}]");
        let kind = parse(&request.name).ok_or_else(|| {
            let shown = field::shown(&request.name);
            Error::invalid(format!("{named}.name: {shown} is not a resource limit"))
        })?;
        if request.soft > request.hard {
            let (soft, hard) = (request.soft, request.hard);
            return Err(Error::invalid(format!("{named}: soft {soft} is above hard {hard}")));
        }
        limits.retain(|(known, ..)| *known != kind);
        limits.push((kind, request.soft, request.hard));
    }
    let limits: Result<Vec<PosixRlimit>> = limits
        .into_iter()
        .map(|(kind, soft, hard)| {
            let built = PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
            built.context("resource limit")
        })
        .collect();
    draft.process.set_rlimits(Some(limits?));
    Ok(())
}

/// `nofile` or `RLIMIT_NOFILE`.
pub(in crate::engine) fn parse(name: &str) -> Option<PosixRlimitType> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
    format!("RLIMIT_{bare}").parse().ok()
}
