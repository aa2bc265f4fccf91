//! What pods and containers both say about security: namespaces, users and profiles.

use std::fmt::Display;

use cais_proto::runtime::v1::{
    IdMapping as CriIdMapping, Int64Value, NamespaceMode as CriMode, NamespaceOption,
    SeLinuxOption, SecurityProfile, UserNamespace as CriUserNamespace,
    security_profile::ProfileType,
};

use super::check::{self, refuse, shown};
use crate::engine::pod::config::{
    AppArmorProfile, NamespaceMode, Namespaces, SeccompProfile, SelinuxLabel,
};
use crate::error::{Error, Result};
use crate::executor::plan::{IdMapping, UserNamespace};

/// Whose namespaces these are: only a container may look at another one's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Pod,
    Container,
}

/// Absent options are all zero, which is the pod's namespace of each kind.
pub(super) fn namespaces(
    field: &str,
    options: Option<NamespaceOption>,
    owner: Owner,
) -> Result<(Namespaces, Option<UserNamespace>)> {
    let NamespaceOption { network, pid, ipc, target_id, userns_options } =
        options.unwrap_or_default();
    let namespaces = Namespaces {
        network: pod_or_node(format_args!("{field}.network"), network)?,
        pid: pid_mode(field, pid, target_id, owner)?,
        ipc: pod_or_node(format_args!("{field}.ipc"), ipc)?,
    };
    let user = user_namespace(&format!("{field}.userns_options"), userns_options)?;
    Ok((namespaces, user))
}

fn pod_or_node(field: impl Display, value: i32) -> Result<NamespaceMode> {
    match check::known::<CriMode>(&field, value, "NamespaceMode")? {
        CriMode::Pod => Ok(NamespaceMode::Pod),
        CriMode::Node => Ok(NamespaceMode::Node),
        mode @ (CriMode::Container | CriMode::Target) => {
            Err(refuse(field, format_args!("{} is neither POD nor NODE", mode.as_str_name())))
        }
    }
}

fn pid_mode(field: &str, value: i32, target: String, owner: Owner) -> Result<NamespaceMode> {
    let name = format_args!("{field}.pid");
    match (check::known::<CriMode>(name, value, "NamespaceMode")?, owner) {
        (CriMode::Pod, _) => Ok(NamespaceMode::Pod),
        (CriMode::Container, _) => Ok(NamespaceMode::Container),
        (CriMode::Node, _) => Ok(NamespaceMode::Node),
        (CriMode::Target, Owner::Container) => {
            check::name(format_args!("{field}.target_id"), target).map(NamespaceMode::Target)
        }
        (CriMode::Target, Owner::Pod) => {
            Err(refuse(name, "TARGET names a container, which a pod cannot have before it exists"))
        }
    }
}

fn user_namespace(field: &str, options: Option<CriUserNamespace>) -> Result<Option<UserNamespace>> {
    let Some(CriUserNamespace { mode, uids, gids }) = options else { return Ok(None) };
    match check::known::<CriMode>(format_args!("{field}.mode"), mode, "NamespaceMode")? {
        CriMode::Node => {
            if uids.is_empty() && gids.is_empty() {
                Ok(None)
            } else {
                Err(refuse(field, "NODE shares the host's users and cannot have mappings"))
            }
        }
        CriMode::Pod => {
            let uid = whole_pod(format_args!("{field}.uids"), uids)?;
            let gid = whole_pod(format_args!("{field}.gids"), gids)?;
            if uid.length != gid.length {
                let (uids, gids) = (uid.length, gid.length);
                let why = format_args!("{uids} users but {gids} groups; the lengths must be equal");
                return Err(refuse(field, why));
            }
            Ok(Some(UserNamespace { uids: vec![uid], gids: vec![gid] }))
        }
        mode @ (CriMode::Container | CriMode::Target) => {
            let why = format_args!("{} is neither POD nor NODE", mode.as_str_name());
            Err(refuse(format_args!("{field}.mode"), why))
        }
    }
}

/// A pod's one mapping, which must have a root.
fn whole_pod(field: impl Display, mappings: Vec<CriIdMapping>) -> Result<IdMapping> {
    let mapping = match id_mappings(&field, mappings)?.as_slice() {
        [one] => *one,
        many => {
            let count = many.len();
            return Err(refuse(field, format_args!("{count} mappings where one is needed")));
        }
    };
    if mapping.container != 0 {
        return Err(refuse(field, "the mapping must begin at 0 in the container"));
    }
    Ok(mapping)
}

pub(super) fn id_mappings(
    field: impl Display,
    mappings: Vec<CriIdMapping>,
) -> Result<Vec<IdMapping>> {
    let mapping = |CriIdMapping { host_id, container_id, length }| {
        let fits = |first: u32| first.checked_add(length).is_some();
        if length == 0 || !fits(host_id) || !fits(container_id) {
            let why = format_args!("{length} numbers from {host_id} are not a range");
            return Err(refuse(&field, why));
        }
        Ok(IdMapping { container: container_id, host: host_id, length })
    };
    mappings.into_iter().map(mapping).collect()
}

pub(super) fn namespaces_to_cri(
    namespaces: &Namespaces,
    user: Option<&UserNamespace>,
) -> NamespaceOption {
    let Namespaces { network, pid, ipc } = namespaces;
    let number = |mode: &NamespaceMode| match mode {
        NamespaceMode::Pod => CriMode::Pod as i32,
        NamespaceMode::Container => CriMode::Container as i32,
        NamespaceMode::Node => CriMode::Node as i32,
        NamespaceMode::Target(_) => CriMode::Target as i32,
    };
    let target_id = match pid {
        NamespaceMode::Target(id) => id.clone(),
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Node => String::new(),
    };
    NamespaceOption {
        network: number(network),
        pid: number(pid),
        ipc: number(ipc),
        target_id,
        userns_options: user.map(|UserNamespace { uids, gids }| CriUserNamespace {
            mode: CriMode::Pod as i32,
            uids: id_mappings_to_cri(uids),
            gids: id_mappings_to_cri(gids),
        }),
    }
}

pub(super) fn id_mappings_to_cri(mappings: &[IdMapping]) -> Vec<CriIdMapping> {
    let mapping = |&IdMapping { container, host, length }: &IdMapping| CriIdMapping {
        host_id: host,
        container_id: container,
        length,
    };
    mappings.iter().map(mapping).collect()
}

/// Absent is unconfined; present and empty is our default.
pub(super) fn seccomp(field: &str, profile: Option<SecurityProfile>) -> Result<SeccompProfile> {
    let Some(SecurityProfile { profile_type, localhost_ref }) = profile else {
        return Ok(SeccompProfile::Unconfined);
    };
    match profile_kind(field, profile_type, &localhost_ref)? {
        ProfileType::RuntimeDefault => Ok(SeccompProfile::RuntimeDefault),
        ProfileType::Unconfined => Ok(SeccompProfile::Unconfined),
        ProfileType::Localhost => {
            check::absolute_path(format_args!("{field}.localhost_ref"), localhost_ref)
                .map(SeccompProfile::Localhost)
        }
    }
}

/// `deprecated` is the profile as a string, which older clients send instead.
pub(super) fn apparmor(
    field: &str,
    profile: Option<SecurityProfile>,
    deprecated: &str,
) -> Result<Option<AppArmorProfile>> {
    const PREFIX: &str = "localhost/";
    if let Some(SecurityProfile { profile_type, localhost_ref }) = profile {
        return match profile_kind(field, profile_type, &localhost_ref)? {
            ProfileType::RuntimeDefault => Ok(Some(AppArmorProfile::RuntimeDefault)),
            ProfileType::Unconfined => Ok(Some(AppArmorProfile::Unconfined)),
            ProfileType::Localhost => {
                let name = localhost_ref.strip_prefix(PREFIX).unwrap_or(&localhost_ref);
                check::one_line(format_args!("{field}.localhost_ref"), name.to_owned())
                    .map(|name| Some(AppArmorProfile::Localhost(name)))
            }
        };
    }
    match deprecated {
        "" => Ok(None),
        "runtime/default" => Ok(Some(AppArmorProfile::RuntimeDefault)),
        "unconfined" => Ok(Some(AppArmorProfile::Unconfined)),
        text => match text.strip_prefix(PREFIX) {
            Some(name) if !name.is_empty() => check::one_line(field, name.to_owned())
                .map(|name| Some(AppArmorProfile::Localhost(name))),
            Some(_) | None => Err(refuse(
                format_args!("{field}_profile"),
                format_args!(
                    "{} is none of runtime/default, unconfined, localhost/NAME",
                    shown(text)
                ),
            )),
        },
    }
}

fn profile_kind(field: &str, value: i32, localhost_ref: &str) -> Result<ProfileType> {
    let kind =
        check::known::<ProfileType>(format_args!("{field}.profile_type"), value, "ProfileType")?;
    if kind == ProfileType::Localhost && localhost_ref.is_empty() {
        return Err(Error::invalid(format!("{field}.localhost_ref is empty")));
    }
    Ok(kind)
}

/// An empty message asks for nothing.
pub(super) fn selinux(field: &str, label: Option<SeLinuxOption>) -> Result<Option<SelinuxLabel>> {
    let Some(SeLinuxOption { user, role, r#type, level }) = label else { return Ok(None) };
    let part = |name, value| check::one_line(format_args!("{field}.{name}"), value);
    let label = SelinuxLabel {
        user: part("user", user)?,
        role: part("role", role)?,
        kind: part("type", r#type)?,
        level: part("level", level)?,
    };
    Ok((label != SelinuxLabel::default()).then_some(label))
}

pub(super) fn id(field: impl Display, value: Option<Int64Value>) -> Result<Option<u32>> {
    value.map(|Int64Value { value }| check::id(field, value)).transpose()
}

pub(super) fn groups(field: &str, values: Vec<i64>) -> Result<Vec<u32>> {
    values.into_iter().map(|value| check::id(field, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::check::tests::refused;
    use super::*;

    fn range(host_id: u32, container_id: u32, length: u32) -> CriIdMapping {
        CriIdMapping { host_id, container_id, length }
    }

    fn with_users(mode: i32, uids: Vec<CriIdMapping>, gids: Vec<CriIdMapping>) -> NamespaceOption {
        NamespaceOption {
            userns_options: Some(CriUserNamespace { mode, uids, gids }),
            ..Default::default()
        }
    }

    #[test]
    fn absent_options_share_all_with_the_pod() {
        let (namespaces, user) = namespaces("f", None, Owner::Container).unwrap();
        let Namespaces { network, pid, ipc } = namespaces;
        assert_eq!((network, ipc), (NamespaceMode::Pod, NamespaceMode::Pod));
        assert_eq!((pid, user), (NamespaceMode::Pod, None));
    }

    #[test]
    fn a_stranger_among_the_modes_is_named() {
        let options = NamespaceOption { pid: 7, ..Default::default() };
        assert_eq!(
            refused(namespaces("security_context.namespace_options", Some(options), Owner::Pod)),
            "security_context.namespace_options.pid: 7 is not a NamespaceMode"
        );
        let options = NamespaceOption { network: 3, ..Default::default() };
        assert_eq!(
            refused(namespaces("f", Some(options), Owner::Pod)),
            "f.network: TARGET is neither POD nor NODE"
        );
    }

    #[test]
    fn only_a_container_may_have_a_target_and_must_name_it() {
        let target = |id: &str| {
            Some(NamespaceOption { pid: 3, target_id: id.to_owned(), ..Default::default() })
        };
        let (found, _) = namespaces("f", target("abc"), Owner::Container).unwrap();
        assert_eq!(found.pid, NamespaceMode::Target("abc".into()));
        assert_eq!(namespaces_to_cri(&found, None), target("abc").unwrap());
        assert_eq!(refused(namespaces("f", target(""), Owner::Container)), "f.target_id is empty");
        assert!(refused(namespaces("f", target("abc"), Owner::Pod)).starts_with("f.pid: TARGET"));
    }

    #[test]
    fn a_user_namespace_is_one_equal_range_of_each_from_zero() {
        let pod = with_users(0, vec![range(65536, 0, 65536)], vec![range(131_072, 0, 65536)]);
        let on_host_network = NamespaceOption { network: 2, ..pod.clone() };
        for options in [pod, on_host_network] {
            let (found, user) = namespaces("f", Some(options.clone()), Owner::Pod).unwrap();
            assert_eq!(namespaces_to_cri(&found, user.as_ref()), options);
        }

        let good = || vec![range(65536, 0, 65536)];
        for (options, why) in [
            (with_users(1, good(), good()), "CONTAINER is neither"),
            (with_users(3, good(), good()), "TARGET is neither"),
            (with_users(9, good(), good()), "9 is not a NamespaceMode"),
            (with_users(2, good(), good()), "cannot have mappings"),
            (with_users(0, vec![], good()), "0 mappings where one"),
            (with_users(0, good(), [good(), good()].concat()), "2 mappings where one"),
            (with_users(0, vec![range(65536, 1, 65536)], good()), "begin at 0"),
            (with_users(0, vec![range(65536, 0, 10)], good()), "lengths must be equal"),
            (with_users(0, vec![range(65536, 0, 0)], good()), "are not a range"),
            (with_users(0, vec![range(u32::MAX, 0, 65536)], good()), "are not a range"),
        ] {
            let chain = refused(namespaces("f", Some(options), Owner::Pod));
            assert!(chain.starts_with("f.userns_options") && chain.contains(why), "{chain}");
        }
        assert_eq!(
            namespaces("f", Some(with_users(2, vec![], vec![])), Owner::Pod).unwrap().1,
            None
        );
    }

    #[test]
    fn an_absent_profile_is_unconfined_and_an_empty_one_the_default() {
        assert_eq!(seccomp("f", None).unwrap(), SeccompProfile::Unconfined);
        let empty = Some(SecurityProfile::default());
        assert_eq!(seccomp("f", empty.clone()).unwrap(), SeccompProfile::RuntimeDefault);
        assert_eq!(
            apparmor("f", empty, "localhost/old").unwrap(),
            Some(AppArmorProfile::RuntimeDefault)
        );
    }

    #[test]
    fn a_localhost_profile_must_be_named_in_full() {
        let local =
            |name: &str| Some(SecurityProfile { profile_type: 2, localhost_ref: name.to_owned() });
        assert_eq!(
            seccomp("f", local("/p.json")).unwrap(),
            SeccompProfile::Localhost("/p.json".into())
        );
        for name in ["", "p.json", "/a/../p.json"] {
            assert!(refused(seccomp("f", local(name))).starts_with("f.localhost_ref"));
        }
        let named = Some(AppArmorProfile::Localhost("p".into()));
        assert_eq!(apparmor("f", local("localhost/p"), "").unwrap(), named);
        assert_eq!(apparmor("f", None, "localhost/p").unwrap(), named);
        assert!(refused(apparmor("f", None, "p")).starts_with("f_profile: \"p\" is none"));
        assert!(refused(apparmor("f", local(""), "")).starts_with("f.localhost_ref"));
    }
}
