//! What a cell is confined by: whose users, which network, what no command may do.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CellConfig;
use crate::config::BuildUsers;
use crate::engine::Shared;
use crate::engine::container::config::{GroupsPolicy, Security, UserRequest};
use crate::engine::pod::config::{
    Config as PodConfig, NETWORK_SYSCTLS, NamespaceMode, Namespaces, OwnNetwork, PING_GROUPS,
    SeccompProfile, Sharing, Standalone as Own,
};
use crate::error::{Error, Kind, Result};
use crate::executor::plan::{IdMapping, UserNamespace};
use crate::id::random_hex;
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::mapped::Mapped;
use crate::image::{Image, ImageId};

pub(super) const NO_USERS: &str =
    "users of a build's own; build.user_namespace = \"never\" does without";

/// What the commands of one cell may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Confinement {
    pub(crate) network: CellNetwork,
    /// As a privileged container, and as root of the host.
    pub(crate) is_privileged: bool,
}

/// The network that commands of a build have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CellNetwork {
    /// That of all pods.
    Default,
    None,
    Host,
}

/// A cell's users, and the store as they see it.
pub(super) struct Users {
    pub(super) namespace: UserNamespace,
    pub(super) mapped: Arc<Mapped>,
}

/// Who the commands of builds are; `None`: the host's users.
pub(super) fn users(shared: &Shared) -> Result<Option<UserNamespace>> {
    let build = &shared.config.build;
    match (build.user_namespace, shared.has_user_namespaces) {
        (BuildUsers::Never, _) | (BuildUsers::Auto, false) => Ok(None),
        (BuildUsers::Always, false) => Err(Error::new(
            Kind::Unsupported,
            "build.user_namespace = \"always\" needs user namespaces and Linux 6.15 or later",
        )),
        (BuildUsers::Auto | BuildUsers::Always, true) => {
            let all = IdMapping { container: 0, host: build.first_user, length: build.users };
            Ok(Some(UserNamespace { uids: vec![all], gids: vec![all] }))
        }
    }
}

/// What a command of a build has is all in its request.
pub(super) fn stand_in() -> Image {
    let digest = Digest::of(b"");
    Image {
        id: ImageId::new(digest.clone()),
        tags: Vec::new(),
        digests: Vec::new(),
        manifest: digest,
        layers: Vec::new(),
        size: 0,
        config: ImageConfig::default(),
        annotations: BTreeMap::new(),
        tagged_at: None,
        generation: 0,
        unsynced: None,
        pinned: false,
    }
}

/// As Docker has it for a container that asks for nothing else.
pub(super) fn security(namespaces: Namespaces, user: String) -> Security {
    Security {
        add_capabilities: Vec::new(),
        drop_capabilities: Vec::new(),
        add_ambient_capabilities: Vec::new(),
        privileged: false,
        namespaces,
        user_namespace: None,
        user: UserRequest::Spec(user),
        run_as_group: None,
        supplemental_groups: Vec::new(),
        supplemental_group_names: Vec::new(),
        groups_policy: GroupsPolicy::Merge,
        readonly_rootfs: false,
        no_new_privileges: false,
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        seccomp: SeccompProfile::RuntimeDefault,
        apparmor: None,
        selinux: None,
    }
}

pub(super) fn pod_config(
    config: &CellConfig,
    namespaces: Namespaces,
    network: OwnNetwork,
    users: Option<UserNamespace>,
) -> Result<PodConfig> {
    let uid = random_hex()?;
    let has_network = namespaces.network == NamespaceMode::Pod;
    let sysctls = NETWORK_SYSCTLS.iter().filter(|_| has_network);
    // The kernel knows no other groups in the namespace.
    let last_group = users.as_ref().and_then(|users| users.gids.last()).map(|it| it.length - 1);
    let sysctls = sysctls.map(|(key, value)| match last_group {
        Some(last) if *key == PING_GROUPS => ((*key).to_owned(), format!("0 {last}")),
        _ => ((*key).to_owned(), (*value).to_owned()),
    });
    Ok(PodConfig {
        name: "build".to_owned(),
        hostname: uid.get(..12).unwrap_or_default().to_owned(),
        uid,
        namespace: String::new(),
        attempt: 0,
        log_directory: None,
        dns: None,
        ports: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: config.cgroup_parent.clone(),
        sysctls: sysctls.collect(),
        overhead: None,
        resources: None,
        namespaces,
        user_namespace: users,
        privileged: false,
        readonly_rootfs: false,
        run_as_user: None,
        run_as_group: None,
        supplemental_groups: Vec::new(),
        seccomp: SeccompProfile::RuntimeDefault,
        apparmor: None,
        selinux: None,
        runtime_handler: String::new(),
        standalone: Some(Own {
            network,
            domainname: String::new(),
            hosts: config.hosts.clone(),
            shm_size: config.shm_size,
            sharing: Sharing::default(),
        }),
    })
}
