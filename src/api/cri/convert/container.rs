//! Containers: what a client asks for, and what it is told.

use cais_proto::runtime::v1::{
    Capability, Container, ContainerConfig, ContainerMetadata, ContainerResources, ContainerState,
    ContainerStatus, ContainerUser, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxContainerUser, SupplementalGroupsPolicy as CriGroupsPolicy,
};

use super::check::{self, refuse, shown};
use super::mount::{cdi_device, device, mount, mount_to_cri};
use super::resources::{self, resources};
use super::security::{self, Owner};
use super::signal;
use crate::engine::container::config::{Config, GroupsPolicy, Security, UserRequest};
use crate::engine::container::phase::Phase;
use crate::engine::container::record::Record;
use crate::error::{Error, Result};

pub(crate) fn container_config(message: Option<ContainerConfig>) -> Result<Config> {
    let ContainerConfig {
        metadata,
        image,
        command,
        args,
        working_dir,
        envs,
        mounts,
        devices,
        labels,
        annotations,
        log_path,
        stdin,
        stdin_once,
        tty,
        linux,
        // Nothing of it has a meaning here.
        windows: _,
        cdi_devices,
        stop_signal,
    } = check::required("config", message)?;
    let ContainerMetadata { name, attempt } = check::required("config.metadata", metadata)?;
    let ImageSpec {
        image,
        // For pulls; the pod's own annotations are in `annotations`.
        annotations: _,
        user_specified_image,
        // There is one handler, and one way to unpack.
        runtime_handler: _,
        // What an image resolved to: ours to report, not theirs to ask for.
        image_ref: _,
    } = check::required("config.image", image)?;
    let LinuxContainerConfig { resources: limits, security_context } = linux.unwrap_or_default();
    let (resources, oom_score_adj) =
        resources("config.linux.resources", limits.unwrap_or_default())?;

    Ok(Config {
        name: check::name("config.metadata.name", name)?,
        attempt,
        image: check::not_empty("config.image.image", image)?,
        user_specified_image,
        command: words("config.command", command)?,
        args: words("config.args", args)?,
        working_dir: optional(working_dir, |path| {
            check::absolute_path("config.working_dir", path).map(|path| check::text(&path))
        })?
        .unwrap_or_default(),
        env: each("config.envs", envs, variable)?,
        mounts: each("config.mounts", mounts, |field: &str, item| mount(field, item))?,
        devices: each("config.devices", devices, |field: &str, item| device(field, item))?,
        device_rules: Vec::new(),
        cdi_devices: each("config.CDI_devices", cdi_devices, |field: &str, item| {
            cdi_device(field, item)
        })?,
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
        log_path: optional(log_path, |path| check::relative_path("config.log_path", path))?,
        stdin,
        stdin_once,
        tty,
        stop_signal: signal::stop_signal("config.stop_signal", stop_signal)?,
        resources,
        oom_score_adj,
        // Not in the interface.
        rlimits: Vec::new(),
        security: security(security_context.unwrap_or_default())?,
        standalone: None,
    })
}

fn each<T, U>(
    field: &str,
    items: Vec<T>,
    convert: impl Fn(&str, T) -> Result<U>,
) -> Result<Vec<U>> {
    let one = |(index, item)| convert(&format!("{field}[{index}]"), item);
    items.into_iter().enumerate().map(one).collect()
}

fn words(field: &str, words: Vec<String>) -> Result<Vec<String>> {
    each(field, words, |field: &str, word| check::no_zero_byte(field, word))
}

fn optional<T>(value: String, convert: impl Fn(String) -> Result<T>) -> Result<Option<T>> {
    if value.is_empty() { Ok(None) } else { convert(value).map(Some) }
}

fn variable(field: &str, message: KeyValue) -> Result<(String, Vec<u8>)> {
    let KeyValue { key, value } = message;
    let key = check::not_empty(format_args!("{field}.key"), key)?;
    if key.contains(['=', '\0']) {
        let why = format_args!("{} is not the name of a variable", shown(&key));
        return Err(refuse(format_args!("{field}.key"), why));
    }
    if value.contains(&0) {
        return Err(refuse(format_args!("{field}.value"), "holds a zero byte"));
    }
    Ok((key, value))
}

fn security(message: LinuxContainerSecurityContext) -> Result<Security> {
    const FIELD: &str = "config.linux.security_context";
    let LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options,
        selinux_options,
        run_as_user,
        run_as_username,
        readonly_rootfs,
        supplemental_groups,
        apparmor_profile,
        // The interface gave it up: what it says is in `seccomp` too.
        seccomp_profile_path: _,
        no_new_privs,
        run_as_group,
        masked_paths,
        readonly_paths,
        seccomp,
        apparmor,
        supplemental_groups_policy,
    } = message;
    let Capability { add_capabilities, drop_capabilities, add_ambient_capabilities } =
        capabilities.unwrap_or_default();
    let (namespaces, user_namespace) = security::namespaces(
        &format!("{FIELD}.namespace_options"),
        namespace_options,
        Owner::Container,
    )?;
    let user = user(FIELD, run_as_user, run_as_username)?;
    let run_as_group = security::id(format_args!("{FIELD}.run_as_group"), run_as_group)?;
    if run_as_group.is_some() && user == UserRequest::Image {
        return Err(Error::invalid(format!(
            "{FIELD}.run_as_group is set without run_as_user or run_as_username"
        )));
    }
    let groups_policy = match check::known(
        format_args!("{FIELD}.supplemental_groups_policy"),
        supplemental_groups_policy,
        "SupplementalGroupsPolicy",
    )? {
        CriGroupsPolicy::Merge => GroupsPolicy::Merge,
        CriGroupsPolicy::Strict => GroupsPolicy::Strict,
    };
    let named = |field: &str, names: Vec<String>| -> Result<Vec<String>> {
        let field = format!("{FIELD}.capabilities.{field}");
        names.into_iter().map(|name| capability(&field, &name)).collect()
    };
    let paths = |field: &str, paths: Vec<String>| -> Result<Vec<String>> {
        let one = |path| check::absolute_path(format_args!("{FIELD}.{field}"), path);
        paths.into_iter().map(|path| one(path).map(|path| check::text(&path))).collect()
    };
    Ok(Security {
        add_capabilities: named("add_capabilities", add_capabilities)?,
        drop_capabilities: named("drop_capabilities", drop_capabilities)?,
        add_ambient_capabilities: named("add_ambient_capabilities", add_ambient_capabilities)?,
        privileged,
        namespaces,
        user_namespace,
        user,
        run_as_group,
        supplemental_groups: security::groups(
            &format!("{FIELD}.supplemental_groups"),
            supplemental_groups,
        )?,
        supplemental_group_names: Vec::new(),
        groups_policy,
        readonly_rootfs,
        no_new_privileges: no_new_privs,
        masked_paths: paths("masked_paths", masked_paths)?,
        readonly_paths: paths("readonly_paths", readonly_paths)?,
        seccomp: security::seccomp(&format!("{FIELD}.seccomp"), seccomp)?,
        apparmor: security::apparmor(&format!("{FIELD}.apparmor"), apparmor, &apparmor_profile)?,
        selinux: security::selinux(&format!("{FIELD}.selinux_options"), selinux_options)?,
    })
}

/// The number goes before the name.
fn user(field: &str, number: Option<Int64Value>, name: String) -> Result<UserRequest> {
    match (security::id(format_args!("{field}.run_as_user"), number)?, name) {
        (Some(number), _) => Ok(UserRequest::Uid(number)),
        (None, name) if name.is_empty() => Ok(UserRequest::Image),
        (None, name) => {
            check::word(format_args!("{field}.run_as_username"), name).map(UserRequest::Name)
        }
    }
}

/// Upper case, without `CAP_`. Whether the kernel has it is for the engine to say.
fn capability(field: &str, name: &str) -> Result<String> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
        let why = format_args!("{} is not the name of a capability", shown(name));
        return Err(refuse(field, why));
    }
    Ok(bare.to_owned())
}

fn metadata(config: &Config) -> ContainerMetadata {
    ContainerMetadata { name: config.name.clone(), attempt: config.attempt }
}

/// The image as it was asked for.
fn image(config: &Config) -> ImageSpec {
    ImageSpec {
        image: config.image.clone(),
        annotations: std::collections::HashMap::new(),
        user_specified_image: config.user_specified_image.clone(),
        runtime_handler: String::new(),
        // Only for mounts.
        image_ref: String::new(),
    }
}

pub(crate) fn state(phase: &Phase) -> ContainerState {
    match phase {
        Phase::Created { .. } => ContainerState::ContainerCreated,
        Phase::Running { .. } => ContainerState::ContainerRunning,
        Phase::Exited(_) => ContainerState::ContainerExited,
    }
}

/// A container in a list.
pub(crate) fn container(snapshot: &Record) -> Container {
    let config = &snapshot.config;
    Container {
        id: snapshot.id.to_string(),
        pod_sandbox_id: snapshot.pod.to_string(),
        metadata: Some(metadata(config)),
        image: Some(image(config)),
        image_ref: snapshot.image_ref.clone(),
        state: state(&snapshot.phase) as i32,
        created_at: snapshot.created_at,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        image_id: snapshot.image_id.clone(),
    }
}

pub(crate) fn container_status(snapshot: &Record) -> ContainerStatus {
    let config = &snapshot.config;
    let (started_at, end) = match &snapshot.phase {
        Phase::Created { .. } => (None, None),
        Phase::Running { pid: _, started_at } => (Some(*started_at), None),
        Phase::Exited(end) => (end.started_at, Some(end)),
    };
    ContainerStatus {
        id: snapshot.id.to_string(),
        metadata: Some(metadata(config)),
        state: state(&snapshot.phase) as i32,
        created_at: snapshot.created_at,
        started_at: started_at.unwrap_or(0),
        finished_at: end.map_or(0, |end| end.finished_at),
        exit_code: end.map_or(0, |end| end.code),
        image: Some(ImageSpec { image: snapshot.image_name.clone(), ..image(config) }),
        image_ref: snapshot.image_ref.clone(),
        reason: end.map_or_else(String::new, |end| end.reason.as_str().to_owned()),
        message: end.map_or_else(String::new, |end| end.message.clone()),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        mounts: config
            .mounts
            .iter()
            .map(|mount| mount_to_cri(mount, &snapshot.image_volumes))
            .collect(),
        log_path: snapshot.log_path.as_deref().map(check::text).unwrap_or_default(),
        resources: Some(ContainerResources {
            linux: Some(resources::to_cri(&snapshot.resources, config.oom_score_adj)),
            windows: None,
        }),
        image_id: snapshot.image_id.clone(),
        user: Some(ContainerUser { linux: Some(user_to_cri(snapshot)) }),
        stop_signal: signal::to_cri(snapshot.stop_signal) as i32,
    }
}

fn user_to_cri(snapshot: &Record) -> LinuxContainerUser {
    let user = &snapshot.user;
    LinuxContainerUser {
        uid: i64::from(user.uid),
        gid: i64::from(user.gid),
        supplemental_groups: user.groups.iter().copied().map(i64::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use cais_proto::runtime::v1::{
        Device, LinuxContainerResources, Mount, NamespaceOption, SeLinuxOption, SecurityProfile,
        Signal,
    };

    use super::*;
    use crate::cgroup;
    use crate::engine::Rendering;
    use crate::engine::container::phase::{End, Reason};
    use crate::engine::pod::config::{NamespaceMode, SeccompProfile};
    use crate::error::Kind;
    use crate::executor::plan::User;
    use crate::id::{ContainerId, PodId};

    fn full() -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "web".into(), attempt: 3 }),
            image: Some(ImageSpec {
                image: "sha256:ab".into(),
                user_specified_image: "web:1".into(),
                ..Default::default()
            }),
            command: vec!["/bin/web".into()],
            args: vec!["-v".into()],
            working_dir: "/srv".into(),
            envs: vec![KeyValue { key: "A".into(), value: vec![0xff] }],
            mounts: vec![Mount {
                container_path: "/data".into(),
                host_path: "/srv/data".into(),
                ..Default::default()
            }],
            devices: vec![Device {
                container_path: "/dev/a".into(),
                host_path: "/dev/b".into(),
                permissions: "rw".into(),
            }],
            labels: HashMap::from([("app".into(), "web".into())]),
            annotations: HashMap::from([("note".into(), "text".into())]),
            log_path: "web/3.log".into(),
            stdin: true,
            stdin_once: true,
            tty: true,
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 512,
                    oom_score_adj: -5,
                    ..Default::default()
                }),
                security_context: Some(full_security()),
            }),
            windows: None,
            cdi_devices: vec![],
            stop_signal: Signal::Sigquit as i32,
        }
    }

    fn full_security() -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: vec!["CAP_NET_ADMIN".into(), "sys_time".into()],
                drop_capabilities: vec!["ALL".into()],
                add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
            }),
            privileged: true,
            namespace_options: Some(NamespaceOption {
                pid: 3,
                target_id: "abc".into(),
                ..Default::default()
            }),
            selinux_options: Some(SeLinuxOption { r#type: "spc_t".into(), ..Default::default() }),
            run_as_user: Some(Int64Value { value: 1000 }),
            run_as_username: "www-data".into(),
            readonly_rootfs: true,
            supplemental_groups: vec![5],
            no_new_privs: true,
            run_as_group: Some(Int64Value { value: 7 }),
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            seccomp: Some(SecurityProfile::default()),
            supplemental_groups_policy: 1,
            ..Default::default()
        }
    }

    #[test]
    fn what_to_run_reaches_the_engine() {
        let config = container_config(Some(full())).unwrap();

        assert_eq!((config.name.as_str(), config.attempt), ("web", 3));
        assert_eq!(config.image, "sha256:ab");
        assert_eq!(config.user_specified_image, "web:1");
        assert_eq!((config.command, config.args), (vec!["/bin/web".into()], vec!["-v".into()]));
        assert_eq!(config.working_dir, "/srv");
        assert_eq!(config.env, [("A".to_owned(), vec![0xff])]);
        assert_eq!((config.mounts.len(), config.devices.len()), (1, 1));
        assert_eq!(config.log_path, Some("web/3.log".into()));
        assert!(config.stdin && config.stdin_once && config.tty);
        assert_eq!(config.stop_signal, Some(libc::SIGQUIT));
        assert_eq!((config.resources.cpu_shares, config.oom_score_adj), (Some(512), -5));
    }

    #[test]
    fn its_security_reaches_the_engine() {
        let security = container_config(Some(full())).unwrap().security;

        assert_eq!(security.add_capabilities, ["NET_ADMIN", "SYS_TIME"]);
        assert_eq!(security.drop_capabilities, ["ALL"]);
        assert_eq!(security.add_ambient_capabilities, ["NET_BIND_SERVICE"]);
        assert!(security.privileged && security.readonly_rootfs && security.no_new_privileges);
        assert_eq!(security.namespaces.pid, NamespaceMode::Target("abc".into()));
        // The number goes before the name.
        assert_eq!((security.user, security.run_as_group), (UserRequest::Uid(1000), Some(7)));
        assert_eq!(security.supplemental_groups, [5]);
        assert_eq!(security.groups_policy, GroupsPolicy::Strict);
        assert_eq!(security.masked_paths, ["/proc/kcore"]);
        assert_eq!(security.readonly_paths, ["/proc/sys"]);
        assert_eq!(security.seccomp, SeccompProfile::RuntimeDefault);
        assert_eq!(security.selinux.unwrap().kind, "spc_t");
    }

    #[test]
    fn a_container_that_cannot_be_is_refused_by_field() {
        type Break = fn(&mut ContainerConfig);
        fn context(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
            config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
        }
        let cases: &[(&str, Break)] = &[
            (".metadata is missing", |c| c.metadata = None),
            (".metadata.name is empty", |c| c.metadata.as_mut().unwrap().name.clear()),
            (".image is missing", |c| c.image = None),
            (".image.image is empty", |c| c.image.as_mut().unwrap().image.clear()),
            (".command[0]: \"a\\0\" holds a zero byte", |c| c.command = vec!["a\0".into()]),
            (".args[0]: \"a\\0\" holds a zero byte", |c| c.args = vec!["a\0".into()]),
            (".working_dir: \"srv\" is not an absolute", |c| c.working_dir = "srv".into()),
            (".envs[0].key is empty", |c| c.envs[0].key.clear()),
            (".envs[0].key: \"A=B\" is not", |c| c.envs[0].key = "A=B".into()),
            (".envs[0].value: holds a zero byte", |c| c.envs[0].value = vec![0]),
            (".mounts[0].container_path is empty", |c| c.mounts[0].container_path.clear()),
            (".devices[0].host_path is empty", |c| c.devices[0].host_path.clear()),
            (".log_path: \"/a\" is not a relative", |c| c.log_path = "/a".into()),
            (".log_path: \"../a\" must", |c| c.log_path = "../a".into()),
            (".stop_signal: 66 is not a Signal", |c| c.stop_signal = 66),
            (".linux.resources.memory_limit_in_bytes: -7", |c| {
                let resources = &mut c.linux.as_mut().unwrap().resources;
                resources.as_mut().unwrap().memory_limit_in_bytes = -7;
            }),
            (".linux.security_context.capabilities.add_capabilities: \"NET ADMIN\"", |c| {
                let capabilities = context(c).capabilities.as_mut().unwrap();
                capabilities.add_capabilities = vec!["NET ADMIN".into()];
            }),
            (".linux.security_context.run_as_user: -1", |c| {
                context(c).run_as_user = Some(Int64Value { value: -1 });
            }),
            (".linux.security_context.run_as_group is set without run_as_user or", |c| {
                context(c).run_as_user = None;
                context(c).run_as_username.clear();
            }),
            (".linux.security_context.supplemental_groups_policy: 9", |c| {
                context(c).supplemental_groups_policy = 9;
            }),
            (".linux.security_context.masked_paths: \"proc\" is not", |c| {
                context(c).masked_paths = vec!["proc".into()];
            }),
            (".linux.security_context.readonly_paths: \"/a/..\" must", |c| {
                context(c).readonly_paths = vec!["/a/..".into()];
            }),
            (".linux.security_context.namespace_options.target_id is empty", |c| {
                context(c).namespace_options.as_mut().unwrap().target_id.clear();
            }),
            (".linux.security_context.apparmor_profile: \"x\"", |c| {
                context(c).apparmor_profile = "x".into();
            }),
        ];
        for (expected, spoil) in cases {
            let mut message = full();
            spoil(&mut message);
            let error = container_config(Some(message)).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            let chain = error.chain();
            assert!(chain.starts_with(&format!("config{expected}")), "{chain}");
        }
    }

    fn snapshot(phase: Phase) -> Record {
        let config = container_config(Some(full())).unwrap();
        Record {
            id: ContainerId::generate().unwrap(),
            pod: PodId::generate().unwrap(),
            resources: config.resources.clone(),
            config: Arc::new(config),
            image_id: "sha256:ab".into(),
            image_ref: "r.example/web@sha256:cd".into(),
            image_name: "r.example/web:1".into(),
            created_at: 7,
            phase,
            log_path: Some("/var/log/pods/p/web/3.log".into()),
            user: User { uid: 1000, gid: 7, groups: vec![5], umask: None },
            stop_signal: libc::SIGQUIT,
            cgroup: cgroup::Record::of_parent("cgroup_parent", "/x").unwrap(),
            layers: vec![],
            image_volumes: Vec::new(),
            rendering: Rendering::default(),
        }
    }

    #[test]
    fn a_status_echoes_the_request_and_what_became_of_it() {
        let status = container_status(&snapshot(Phase::Running { pid: 1, started_at: 8 }));

        assert_eq!(status.metadata, full().metadata);
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        assert_eq!((status.created_at, status.started_at, status.finished_at), (7, 8, 0));
        // The kubelet asks by id and shows people what it is told here.
        let named = ImageSpec { image: "r.example/web:1".into(), ..full().image.unwrap() };
        assert_eq!(status.image, Some(named));
        assert_eq!(status.image_ref, "r.example/web@sha256:cd");
        assert_eq!(status.image_id, "sha256:ab");
        assert_eq!(status.mounts, full().mounts);
        assert_eq!(status.log_path, "/var/log/pods/p/web/3.log");
        assert_eq!(status.resources.unwrap().linux, full().linux.unwrap().resources);
        assert_eq!(
            status.user.unwrap().linux.unwrap(),
            LinuxContainerUser { uid: 1000, gid: 7, supplemental_groups: vec![5] }
        );
        assert_eq!(status.stop_signal, Signal::Sigquit as i32);
        assert_eq!((status.labels, status.annotations), (full().labels, full().annotations));
        assert_eq!((status.reason.as_str(), status.exit_code), ("", 0));
    }

    #[test]
    fn an_exit_shows_code_reason_and_times() {
        let end = End {
            code: 137,
            started_at: Some(8),
            finished_at: 9,
            reason: Reason::OomKilled,
            message: "out of memory".into(),
        };
        let exited = snapshot(Phase::Exited(end));
        let status = container_status(&exited);

        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!((status.started_at, status.finished_at, status.exit_code), (8, 9, 137));
        assert_eq!(
            (status.reason.as_str(), status.message.as_str()),
            ("OOMKilled", "out of memory")
        );
        let listed = container(&exited);
        assert_eq!(listed.state, status.state);
        assert_eq!((listed.image_id, listed.image_ref), (status.image_id, status.image_ref));
        assert_eq!(listed.pod_sandbox_id, exited.pod.as_str());
    }
}
