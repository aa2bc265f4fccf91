//! The system call filter.

use cais_proto::nri::v1alpha1::LinuxSeccomp;
use oci_spec::runtime::{Capabilities, Process};
use serde_json::{Value, json};

use super::refuse;
use crate::engine::spec::capability_mask;
use crate::error::{Context, Result};
use crate::executor::plan::Seccomp;
use crate::seccomp::Cache;

/// In the form of profile files, which is that of the runtime spec.
pub(super) fn filter(policy: &LinuxSeccomp, process: &Process, filters: &Cache) -> Result<Seccomp> {
    let LinuxSeccomp {
        default_action,
        default_errno,
        architectures,
        flags,
        listener_path,
        listener_metadata,
        syscalls,
    } = policy;
    refuse("linux.seccomp_policy.listener_metadata", !listener_metadata.is_empty())?;
    let calls = syscalls.iter().map(|call| {
        let args = call.args.iter().map(|arg| {
            json!({ "index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": arg.op })
        });
        json!({
            "names": call.names,
            "action": call.action,
            "errnoRet": call.errno_ret.map(|it| it.value),
            "args": args.collect::<Vec<Value>>(),
        })
    });
    let profile = json!({
        "defaultAction": default_action,
        "defaultErrnoRet": default_errno.map(|it| it.value),
        "architectures": architectures,
        "flags": flags,
        "listenerPath": listener_path,
        "syscalls": calls.collect::<Vec<Value>>(),
    });
    let bounding: Option<&Capabilities> =
        process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
    filters
        .given(profile.to_string().as_bytes(), capability_mask(bounding))
        .context("linux.seccomp_policy")
}
