//! Which namespaces the container has to itself, shares with its pod, or with the host.

use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType,
};

use super::pod::has_host_name;
use super::{Draft, Input};
use crate::engine::pod::config::NamespaceMode;
use crate::error::{Context, Error, Result};
use crate::executor::plan::{ContainerPid, IdMapping, UserNamespace};
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
    let users = &input.pod.user_namespace;
    if input.config.security.user_namespace != *users {
        return Err(Error::invalid(
            "namespace_options.userns_options: the container and its pod sandbox differ",
        ));
    }
    if users.is_some() && is_node(&own.pid) {
        return Err(Error::invalid(
            "namespace_options.pid: NODE cannot be had in a user namespace",
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
    let mut all = vec![namespace(Type::Mount)?];
    let is_own_cgroup = input.pod.sharing().is_none_or(|sharing| !sharing.host_cgroup);
    let shared = [
        (is_own_cgroup, Type::Cgroup),
        (!is_node(&pod.network), Type::Network),
        (!has_host_name(input.pod), Type::Uts),
        (!is_node(&pod.ipc), Type::Ipc),
        (draft.pid != ContainerPid::Host, Type::Pid),
        (users.is_some(), Type::User),
    ];
    for (_, kind) in shared.into_iter().filter(|(present, _)| *present) {
        all.push(namespace(kind)?);
    }
    draft.linux.set_namespaces(Some(all));
    if let Some(users) = users {
        draft.linux.set_uid_mappings(Some(id_mappings(&users.uids)?));
        draft.linux.set_gid_mappings(Some(id_mappings(&users.gids)?));
        check_user(users, draft)?;
    }
    Ok(())
}

/// The kernel would refuse these too, but not by name.
fn check_user(users: &UserNamespace, draft: &Draft) -> Result<()> {
    let user = draft.process.user();
    let groups = user.additional_gids().iter().flatten().copied();
    for gid in groups.chain([user.gid()]) {
        if users.on_host(user.uid(), gid).is_none() {
            return Err(Error::invalid(format!(
                "security_context: user {} and group {gid} are not both mapped in the pod's user \
                 namespace",
                user.uid()
            )));
        }
    }
    Ok(())
}

pub(super) fn id_mappings(mappings: &[IdMapping]) -> Result<Vec<LinuxIdMapping>> {
    let mapping = |&IdMapping { container, host, length }: &IdMapping| {
        LinuxIdMappingBuilder::default()
            .container_id(container)
            .host_id(host)
            .size(length)
            .build()
            .context("id mapping")
    };
    mappings.iter().map(mapping).collect()
}

fn namespace(kind: LinuxNamespaceType) -> Result<LinuxNamespace> {
    LinuxNamespaceBuilder::default().typ(kind).build().context("namespace")
}
