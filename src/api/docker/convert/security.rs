//! What a container may do.

use crate::api::docker::wire::container::{CreateRequest, HostConfig};
use crate::engine::container::config::{GroupsPolicy, Security, UserRequest};
use crate::engine::pod::config::{AppArmorProfile, Namespaces, SeccompProfile};
use crate::error::{Error, Result};

pub(crate) fn of(
    request: &CreateRequest,
    host: &HostConfig,
    namespaces: Namespaces,
) -> Result<Security> {
    let privileged = host.privileged == Some(true);
    let options = Options::of(host)?;
    // The engine adds those that are always hidden.
    let paths = |own: &Option<Vec<String>>| match own {
        Some(own) if !privileged => own.clone(),
        Some(_) | None => Vec::new(),
    };
    let (supplemental_groups, supplemental_group_names) = groups(host);
    Ok(Security {
        add_capabilities: capabilities(host.cap_add.as_deref()),
        drop_capabilities: capabilities(host.cap_drop.as_deref()),
        add_ambient_capabilities: Vec::new(),
        privileged,
        namespaces,
        user_namespace: None,
        user: match request.user.as_deref().unwrap_or_default() {
            "" => UserRequest::Image,
            user => UserRequest::Spec(user.to_owned()),
        },
        run_as_group: None,
        supplemental_groups,
        supplemental_group_names,
        groups_policy: GroupsPolicy::Merge,
        readonly_rootfs: host.readonly_rootfs == Some(true),
        no_new_privileges: options.no_new_privileges,
        masked_paths: paths(&host.masked_paths),
        readonly_paths: paths(&host.readonly_paths),
        seccomp: match options.seccomp {
            _ if privileged => SeccompProfile::Unconfined,
            Some(asked) => asked,
            None => SeccompProfile::RuntimeDefault,
        },
        apparmor: options.apparmor,
        selinux: None,
    })
}

/// Clients send names with and without `CAP_`, in any case.
fn capabilities(names: Option<&[String]>) -> Vec<String> {
    let plain = |name: &String| {
        let upper = name.to_ascii_uppercase();
        upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
    };
    names.unwrap_or_default().iter().map(plain).collect()
}

/// By number, and by what the image calls them.
fn groups(host: &HostConfig) -> (Vec<u32>, Vec<String>) {
    let (mut numbers, mut names) = (Vec::new(), Vec::new());
    for group in host.group_add.iter().flatten() {
        match group.parse() {
            Ok(number) => numbers.push(number),
            Err(_) => names.push(group.clone()),
        }
    }
    (numbers, names)
}

#[derive(Default)]
struct Options {
    no_new_privileges: bool,
    seccomp: Option<SeccompProfile>,
    apparmor: Option<AppArmorProfile>,
}

impl Options {
    /// `key=value`, and with a colon as old clients write it.
    fn of(host: &HostConfig) -> Result<Self> {
        let mut options = Self::default();
        for text in host.security_opt.iter().flatten() {
            let (key, value) = text.split_once(['=', ':']).unwrap_or((text.as_str(), ""));
            match (key, value) {
                ("no-new-privileges", "" | "true") => options.no_new_privileges = true,
                ("no-new-privileges", "false") => options.no_new_privileges = false,
                ("seccomp", "unconfined") => options.seccomp = Some(SeccompProfile::Unconfined),
                ("seccomp", "builtin") => options.seccomp = None,
                // Clients send the content of the file that they were told of.
                ("seccomp", text) => {
                    options.seccomp = Some(SeccompProfile::Given(text.to_owned()));
                }
                ("apparmor", "unconfined") => options.apparmor = Some(AppArmorProfile::Unconfined),
                ("apparmor", name) => {
                    options.apparmor = Some(AppArmorProfile::Localhost(name.to_owned()));
                }
                // Without SELinux there is nothing to label.
                ("label", _) => {}
                _ => {
                    return Err(Error::invalid(format!("invalid --security-opt 2: {text:?}")));
                }
            }
        }
        Ok(options)
    }
}
