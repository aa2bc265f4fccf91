//! Lists in which an element takes the place of an earlier one that means the same thing.

use crate::error::{Error, Result};
use crate::mounts;
use crate::node::{self, Node, Value};

/// What two elements must share to mean the same thing.
#[derive(Debug, Clone, Copy)]
enum Key {
    /// What stands before `=`.
    Name,
    /// The place of a volume in the container.
    MountPoint,
    /// The place of a device in the container.
    Device,
    /// The place of a secret or configuration; a short one's is below this directory.
    File(&'static str),
    Path,
    Port,
    /// The element itself.
    Whole,
}

const LISTS: &[(&str, Key)] = &[
    ("networks.*.labels", Key::Name),
    ("networks.*.ipam.options", Key::Name),
    ("services.*.annotations", Key::Name),
    ("services.*.build.args", Key::Name),
    ("services.*.build.additional_contexts", Key::Name),
    ("services.*.build.platform", Key::Name),
    ("services.*.build.tags", Key::Name),
    ("services.*.build.labels", Key::Name),
    ("services.*.cap_add", Key::Name),
    ("services.*.cap_drop", Key::Name),
    ("services.*.configs", Key::File("")),
    ("services.*.deploy.labels", Key::Name),
    ("services.*.devices", Key::Device),
    ("services.*.dns", Key::Name),
    ("services.*.dns_opt", Key::Name),
    ("services.*.dns_search", Key::Name),
    ("services.*.environment", Key::Name),
    ("services.*.env_file", Key::Path),
    ("services.*.expose", Key::Whole),
    ("services.*.labels", Key::Name),
    ("services.*.links", Key::Name),
    ("services.*.networks.*.aliases", Key::Name),
    ("services.*.networks.*.link_local_ips", Key::Name),
    ("services.*.ports", Key::Port),
    ("services.*.profiles", Key::Name),
    ("services.*.secrets", Key::File("/run/secrets")),
    ("services.*.sysctls", Key::Name),
    ("services.*.tmpfs", Key::Name),
    ("services.*.volumes", Key::MountPoint),
];

/// Drops the earlier ones of elements that mean the same, below this node.
pub(crate) fn enforce(node: &mut Node, path: &mut Vec<String>) -> Result<()> {
    match &mut node.value {
        Value::Map(map) => {
            for (key, member) in map {
                path.push(key.clone());
                enforce(member, path)?;
                path.pop();
            }
        }
        Value::List(list) => {
            let Some((_, key)) = LISTS.iter().find(|(pattern, _)| node::matches(path, pattern))
            else {
                return Ok(());
            };
            let mut kept: Vec<(String, Node)> = Vec::with_capacity(list.len());
            for item in std::mem::take(list) {
                let name = key.of(&item).map_err(|it| it.placed(&item, path))?;
                match kept.iter_mut().find(|(earlier, _)| *earlier == name) {
                    Some((_, earlier)) => *earlier = item,
                    None => kept.push((name, item)),
                }
            }
            *list = kept.into_iter().map(|(_, item)| item).collect();
        }
        _ => {}
    }
    Ok(())
}

impl Key {
    fn of(self, item: &Node) -> Result<String> {
        let text = item.as_text();
        let member = |key: &str| item.get(key).map(Node::shown);
        match self {
            Self::Name => match text {
                Some(text) => Ok(text.split_once('=').map_or(text, |(name, _)| name).to_owned()),
                None => Err(Error::new(format!("must be a string, not {}", item.kind()))),
            },
            Self::Whole => Ok(item.shown()),
            Self::Path => match text {
                Some(text) => Ok(text.to_owned()),
                None => member("path").ok_or_else(|| Error::new("path is missing")),
            },
            Self::MountPoint => match text {
                Some(text) => Ok(mounts::parse(text)?.target),
                None => member("target").ok_or_else(|| Error::new("target is missing")),
            },
            Self::Device => match text {
                Some(text) => {
                    let mut parts = text.split(':');
                    let source = parts.next().unwrap_or_default();
                    Ok(parts.next().unwrap_or(source).to_owned())
                }
                None => member("target").ok_or_else(|| Error::new("target is missing")),
            },
            Self::File(directory) => match text {
                Some(text) => Ok(format!("{directory}/{text}")),
                None => Ok(member("target").unwrap_or_else(|| {
                    format!("{directory}/{}", member("source").unwrap_or_default())
                })),
            },
            Self::Port => {
                if item.as_map().is_none() {
                    return Ok(item.shown());
                }
                let target = member("target").ok_or_else(|| Error::new("target is missing"))?;
                let or = |key: &str, other: &str| member(key).unwrap_or_else(|| other.to_owned());
                // A number and a text are not the same port here.
                let published = format!("{:?}", item.get("published").map(|it| &it.value));
                let (address, protocol) = (or("host_ip", "0.0.0.0"), or("protocol", "tcp"));
                Ok(format!("{address}:{published}:{target}/{protocol}"))
            }
        }
    }
}
