//! Kernel settings of a pod.

use std::collections::{BTreeMap, HashMap};

use super::check::{self, refuse, shown};
use crate::engine::pod::config::{NamespaceMode, Namespaces};
use crate::error::Result;

/// Kernel settings that a pod's own namespaces hold, by their dotted names; any other would
/// change the host.
pub(super) fn namespaced_sysctls(
    sysctls: HashMap<String, String>,
    namespaces: &Namespaces,
) -> Result<BTreeMap<String, String>> {
    const FIELD: &str = "config.linux.sysctls";
    let mut accepted = BTreeMap::new();
    for (key, value) in sysctls {
        let Some(name) = dotted(&key) else {
            let why = format_args!("{} is not the name of a kernel setting", shown(&key));
            return Err(refuse(FIELD, why));
        };
        let of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let mode = if of(&["net."]) {
            ("network", &namespaces.network)
        } else if of(&["kernel.shm", "kernel.msg", "fs.mqueue."]) || name == "kernel.sem" {
            ("IPC", &namespaces.ipc)
        } else {
            return Err(refuse(
                FIELD,
                format_args!("{} belongs to no namespace of the pod", shown(&key)),
            ));
        };
        if *mode.1 == NamespaceMode::Node {
            let why = format_args!("{} would change the host's {} namespace", shown(&key), mode.0);
            return Err(refuse(FIELD, why));
        }
        let value = check::one_line(FIELD, value)?;
        accepted.insert(name, value);
    }
    Ok(accepted)
}

/// The dotted form of a name. As sysctl(8) has it, the first separator decides which of the two
/// forms a name is in, and in a dotted name a slash stands for a dot of the path.
fn dotted(key: &str) -> Option<String> {
    let is_name = key.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'-' | b'_' | b':')
    });
    let swap = |text: &str| -> String {
        let other = |char| match char {
            '.' => '/',
            '/' => '.',
            same => same,
        };
        text.chars().map(other).collect()
    };
    let is_path = key.find(['.', '/']).is_some_and(|at| key.as_bytes().get(at) == Some(&b'/'));
    let (name, path) =
        if is_path { (swap(key), key.to_owned()) } else { (key.to_owned(), swap(key)) };
    let is_whole = path.contains('/')
        && path.split('/').all(|component| !matches!(component, "" | "." | ".."));
    (is_name && is_whole).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn own() -> Namespaces {
        Namespaces { network: NamespaceMode::Pod, pid: NamespaceMode::Pod, ipc: NamespaceMode::Pod }
    }

    fn accept(key: &str, namespaces: &Namespaces) -> Result<String> {
        let sysctls = HashMap::from([(key.to_owned(), "1".to_owned())]);
        let accepted = namespaced_sysctls(sysctls, namespaces)?;
        Ok(accepted.into_keys().next().unwrap_or_default())
    }

    #[test]
    fn both_ways_of_writing_a_name_mean_the_same() {
        for (key, name) in [
            ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
            ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
            ("net/ipv4/conf/eth0.100/forwarding", "net.ipv4.conf.eth0/100.forwarding"),
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("kernel.sem", "kernel.sem"),
            ("fs.mqueue.msg_max", "fs.mqueue.msg_max"),
        ] {
            assert_eq!(accept(key, &own()).unwrap(), name);
        }
    }

    #[test]
    fn a_setting_of_the_host_is_refused_by_name() {
        let hosted = Namespaces { network: NamespaceMode::Node, ipc: NamespaceMode::Node, ..own() };
        for (key, namespaces, why) in [
            ("vm.swappiness", own(), "belongs to no namespace"),
            ("kernel.semaphore", own(), "belongs to no namespace"),
            ("network.x", own(), "belongs to no namespace"),
            ("net", own(), "not the name of a kernel setting"),
            ("", own(), "not the name of a kernel setting"),
            ("net.ipv4.//.//.kernel.panic", own(), "not the name of a kernel setting"),
            ("net/../kernel/panic", own(), "not the name of a kernel setting"),
            ("net..x", own(), "not the name of a kernel setting"),
            ("net.a b", own(), "not the name of a kernel setting"),
            ("net.ipv4.ip_forward", hosted.clone(), "the host's network namespace"),
            ("kernel.msgmax", hosted, "the host's IPC namespace"),
        ] {
            let error = accept(key, &namespaces).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            let chain = error.chain();
            assert!(chain.starts_with("config.linux.sysctls: ") && chain.contains(why), "{chain}");
        }
    }
}
