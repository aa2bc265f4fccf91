//! Which namespaces a container shares with the host or with another container.

use crate::api::docker::wire::container::{CreateRequest, HostConfig};
use crate::engine::pod::config::{NamespaceMode, Namespaces};
use crate::engine::standalone::config::{Ipc, Network, Sharing};
use crate::error::{Error, Result};

/// What a request says about them; other containers as the client calls them.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) namespaces: Namespaces,
    pub(super) sharing: Sharing,
}

pub(super) fn of(request: &CreateRequest, host: &HostConfig, network: &Network) -> Result<Asked> {
    let ipc = ipc(text(&host.ipc_mode))?;
    let (pid, pid_of) = pid(host)?;
    let host_uts = is_host("UTS mode", text(&host.uts_mode), &[""])?;
    if host_uts && request.hostname.as_ref().is_some_and(|name| !name.is_empty()) {
        return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
    }
    // All users are the host's, whether it is asked for or not.
    is_host("user namespace mode", text(&host.userns_mode), &[""])?;
    let network = match network {
        Network::Host => NamespaceMode::Node,
        Network::Bridge | Network::Custom(_) | Network::None | Network::Container(_) => {
            NamespaceMode::Pod
        }
    };
    let of_ipc = if ipc == Ipc::Host { NamespaceMode::Node } else { NamespaceMode::Pod };
    let host_cgroup =
        is_host("cgroup namespace mode", text(&host.cgroupns_mode), &["", "private"])?;
    let namespaces = Namespaces { network, pid, ipc: of_ipc };
    Ok(Asked { namespaces, sharing: Sharing { ipc, pid_of, host_uts, host_cgroup } })
}

fn text(mode: &Option<String>) -> &str {
    mode.as_deref().unwrap_or_default()
}

fn is_host(what: &str, mode: &str, own: &[&str]) -> Result<bool> {
    match mode {
        "host" => Ok(true),
        other if own.contains(&other) => Ok(false),
        other => Err(Error::invalid(format!("invalid {what}: {other}"))),
    }
}

/// The other container of `container:NAME`.
fn other(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:").filter(|name| !name.is_empty())
}

fn ipc(mode: &str) -> Result<Ipc> {
    match mode {
        "" | "private" => Ok(Ipc::Private),
        "shareable" => Ok(Ipc::Shareable),
        "none" => Ok(Ipc::WithoutShm),
        "host" => Ok(Ipc::Host),
        mode => match other(mode) {
            Some(other) => Ok(Ipc::Container(other.to_owned())),
            None => Err(Error::invalid(format!("invalid IPC mode: {mode}"))),
        },
    }
}

fn pid(host: &HostConfig) -> Result<(NamespaceMode, Option<String>)> {
    match text(&host.pid_mode) {
        // The pod's PID 1 is ours, and reaps.
        "" if host.init == Some(true) => Ok((NamespaceMode::Pod, None)),
        "" => Ok((NamespaceMode::Container, None)),
        "host" => Ok((NamespaceMode::Node, None)),
        mode => match other(mode) {
            // The pod's namespace is the one that it joins.
            Some(other) => Ok((NamespaceMode::Pod, Some(other.to_owned()))),
            None => Err(Error::invalid(format!("invalid PID mode: {mode}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(pairs: &[(&str, &str)]) -> HostConfig {
        let object = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into()));
        serde_json::from_value(serde_json::Value::Object(object.collect())).unwrap()
    }

    fn asked(pairs: &[(&str, &str)]) -> Result<Asked> {
        of(&CreateRequest::default(), &host(pairs), &Network::Bridge)
    }

    #[test]
    fn without_a_word_everything_is_private() {
        let asked = asked(&[]).unwrap();
        assert_eq!(asked.sharing, Sharing::default());
        assert_eq!(asked.sharing.ipc, Ipc::Private);
        assert_eq!(asked.namespaces.pid, NamespaceMode::Container);
    }

    #[test]
    fn a_namespace_is_the_hosts_or_another_containers() {
        let asked = asked(&[
            ("IpcMode", "container:a"),
            ("PidMode", "container:b"),
            ("UTSMode", "host"),
            ("UsernsMode", "host"),
            ("CgroupnsMode", "host"),
        ]);
        let asked = asked.unwrap().sharing;
        assert_eq!(asked.ipc, Ipc::Container("a".to_owned()));
        assert_eq!(asked.pid_of.as_deref(), Some("b"));
        assert!(asked.host_uts && asked.host_cgroup);
    }

    #[test]
    fn what_is_no_mode_is_refused_by_name() {
        for (key, value, words) in [
            ("IpcMode", "container:", "invalid IPC mode: container:"),
            ("IpcMode", "odd", "invalid IPC mode: odd"),
            ("PidMode", "private", "invalid PID mode: private"),
            ("UTSMode", "container:a", "invalid UTS mode: container:a"),
            ("UsernsMode", "private", "invalid user namespace mode: private"),
            ("CgroupnsMode", "odd", "invalid cgroup namespace mode: odd"),
        ] {
            assert_eq!(asked(&[(key, value)]).unwrap_err().to_string(), words);
        }
        let named = CreateRequest { hostname: Some("web".to_owned()), ..CreateRequest::default() };
        let refused = of(&named, &host(&[("UTSMode", "host")]), &Network::Bridge).unwrap_err();
        assert_eq!(refused.to_string(), "conflicting options: hostname and the UTS mode");
    }
}
