//! The first process: environment, command line, limits.

use cais_proto::nri::v1alpha1::{KeyValue, PosixRlimit as Asked};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, Process};

use super::removed;
use crate::engine::spec::{field, rlimits};
use crate::error::{Context, Error, Result};

pub(super) fn environment(asked: &[KeyValue], env: &mut Vec<Vec<u8>>) -> Result<()> {
    for KeyValue { key, value } in asked {
        let name = removed(key).unwrap_or(key);
        if name.is_empty() || name.contains('=') {
            let shown = field::shown(name);
            return Err(Error::invalid(format!("env: {shown} is not a variable's name")));
        }
        field::no_nul("env", name.as_bytes())?;
        field::no_nul("env", value.as_bytes())?;
        let prefix = format!("{name}=");
        let known = env.iter().position(|line| line.starts_with(prefix.as_bytes()));
        let line = format!("{prefix}{value}").into_bytes();
        match (known, removed(key)) {
            (Some(known), Some(_)) => drop(env.remove(known)),
            (Some(known), None) => drop(std::mem::replace(&mut env[known], line)),
            (None, Some(_)) => {}
            (None, None) => env.push(line),
        }
    }
    Ok(())
}

pub(super) fn arguments(args: Vec<String>, process: &mut Process) -> Result<()> {
    for arg in &args {
        field::no_nul("args", arg.as_bytes())?;
    }
    process.set_args(Some(args));
    Ok(())
}

pub(super) fn rlimits(asked: Vec<Asked>, process: &mut Process) -> Result<()> {
    let mut limits: Vec<PosixRlimit> = process.rlimits().clone().unwrap_or_default();
    for Asked { r#type, hard, soft } in asked {
        let kind = rlimits::parse(&r#type).ok_or_else(|| {
            Error::invalid(format!("rlimits: {} is not a resource limit", field::shown(&r#type)))
        })?;
        if soft > hard {
            let text = format!("rlimits: {type}: soft {soft} is above hard {hard}");
            return Err(Error::invalid(text));
        }
        limits.retain(|known| known.typ() != kind);
        let limit = PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
        limits.push(limit.context("resource limit")?);
    }
    process.set_rlimits(Some(limits));
    Ok(())
}
