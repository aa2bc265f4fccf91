//! Which namespaces the container has to itself, shares with its pod, or with the host.

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::{Draft, Input};
use crate::engine::pod::config::NamespaceMode;
use crate::error::{Context, Error, Result};
use crate::executor::plan::ContainerPid;
use crate::id::ContainerId;

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let own = &input.config.security.namespaces;
    let pod = &input.pod.namespaces;
    let is_node = |mode: &NamespaceMode| *mode == NamespaceMode::Node;
    for (field, own, pod) in [("network", &own.network, &pod.network), ("ipc", &own.ipc, &pod.ipc)]
    {
        // POD is also what a client sends that says nothing: the pod's own choice holds.
        if is_node(own) && !is_node(pod) {
            return Err(Error::invalid(format!(
                "namespace_options.{field}: NODE, but the pod sandbox has a namespace of its own"
            )));
        }
    }
    if input.config.security.user_namespace != input.pod.user_namespace {
        return Err(Error::invalid(
            "namespace_options.userns_options: the container and its pod sandbox differ",
        ));
    }
    draft.pid = match &own.pid {
        NamespaceMode::Container => ContainerPid::Own,
        NamespaceMode::Node => ContainerPid::Host,
        NamespaceMode::Pod => match pod.pid {
            NamespaceMode::Pod => ContainerPid::Pod,
            NamespaceMode::Node => ContainerPid::Host,
            NamespaceMode::Container | NamespaceMode::Target(_) => ContainerPid::Own,
        },
        NamespaceMode::Target(id) => {
            ContainerPid::Target(ContainerId::parse(id).context("namespace_options.target_id")?)
        }
    };
    use LinuxNamespaceType as Type;
    let mut all = vec![namespace(Type::Mount)?, namespace(Type::Cgroup)?];
    let shared = [
        (!is_node(&pod.network), Type::Network),
        (!is_node(&pod.network), Type::Uts),
        (!is_node(&pod.ipc), Type::Ipc),
        (draft.pid != ContainerPid::Host, Type::Pid),
    ];
    for (_, kind) in shared.into_iter().filter(|(present, _)| *present) {
        all.push(namespace(kind)?);
    }
    draft.linux.set_namespaces(Some(all));
    Ok(())
}

fn namespace(kind: LinuxNamespaceType) -> Result<LinuxNamespace> {
    LinuxNamespaceBuilder::default().typ(kind).build().context("namespace")
}
