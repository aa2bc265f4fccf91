//! The Container Device Interface: from the name of a device to what it changes about a container.
//!
//! Vendors and administrators describe devices in files; containers ask for them by name
//! (`vendor.com/class=name`), in the request or, the older way, in annotations `cdi.k8s.io/…`. The
//! files are read when a container asks, so that a file that changes is a device that changes.
//!
//! A file stands in one of the configured directories, later ones win. Two files of one directory
//! that describe the same device make it unusable: which one is meant, nobody knows.

mod file;
mod yaml;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

pub(crate) use file::{DeviceNode, Edits, Mount};

use self::file::{Device, File};
use super::container::config::Config;
use crate::error::{Error, Kind, Result};

const ANNOTATION: &str = "cdi.k8s.io/";

/// What all devices that the container asks for change together.
///
/// # Errors
/// `InvalidArgument` for a device that no file describes, and why a file was not read;
/// `Unsupported` for one that needs what we do not do.
pub(crate) fn edits(directories: &[PathBuf], config: &Config) -> Result<Edits> {
    let names = requested(config)?;
    if names.is_empty() {
        return Ok(Edits::default());
    }
    let registry = Registry::read(directories);
    let mut edits = Edits::default();
    let mut used = HashSet::new();
    for name in names {
        let (path, file, device) = registry.find(&name)?;
        let shared = used.insert(path).then_some(&file.container_edits);
        for part in shared.into_iter().chain([&device.container_edits]) {
            check_supported(&name, part)?;
            edits.append(part);
        }
    }
    Ok(edits)
}

/// Every device once, the request's before those of the annotations.
fn requested(config: &Config) -> Result<Vec<String>> {
    let mut names = config.cdi_devices.clone();
    for (key, value) in config.annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION)) {
        for name in value.split(',') {
            if !file::is_qualified(name) {
                return Err(Error::invalid(format!(
                    "annotations[{key:?}]: {name:?} is not of the form vendor.com/class=name"
                )));
            }
            names.push(name.to_owned());
        }
    }
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

fn check_supported(name: &str, edits: &Edits) -> Result<()> {
    let missing = if let Some(hook) = edits.hooks.first() {
        format!("the {} hook {}", hook.hook_name, hook.path)
    } else if let Some(device) = edits.net_devices.first() {
        format!("the network device {}", device.host_interface_name)
    } else if edits.intel_rdt.is_some() {
        "a class of service for cache and memory (intelRdt)".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Unsupported, format!("CDI device {name}: {missing} is not supported")))
}

/// The files as they are now.
#[derive(Default)]
struct Registry {
    files: Vec<(PathBuf, File)>,
    /// By whole name, where it is described: file and place in it.
    devices: BTreeMap<String, Vec<(usize, usize)>>,
    /// What could not be read, and why.
    refused: Vec<String>,
}

impl Registry {
    fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self::default();
        for directory in directories {
            let mut here: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
            for path in registry.list(directory) {
                match File::read(&path) {
                    Ok(file) => {
                        for (place, device) in file.devices.iter().enumerate() {
                            let name = format!("{}={}", file.kind, device.name);
                            here.entry(name).or_default().push((registry.files.len(), place));
                        }
                        registry.files.push((path, file));
                    }
                    Err(error) => {
                        registry.refused.push(format!("{}: {}", path.display(), error.chain()));
                    }
                }
            }
            // The later directory wins.
            registry.devices.extend(here);
        }
        registry
    }

    fn list(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.refused.push(format!("{}: {error}", directory.display()));
                return Vec::new();
            }
        };
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|it| it == "json" || it == "yaml"))
            .collect();
        paths.sort();
        paths
    }

    fn find(&self, name: &str) -> Result<(&Path, &File, &Device)> {
        let places = self.devices.get(name).map(Vec::as_slice).unwrap_or_default();
        let found: Vec<_> = places
            .iter()
            .filter_map(|(index, place)| {
                let (path, file) = self.files.get(*index)?;
                Some((path.as_path(), file, file.devices.get(*place)?))
            })
            .collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => {
                let refused = if self.refused.is_empty() {
                    String::new()
                } else {
                    format!("; not read: {}", self.refused.join("; "))
                };
                Err(Error::invalid(format!("CDI device {name} is not described{refused}")))
            }
            several => {
                let files: Vec<_> =
                    several.iter().map(|(path, ..)| path.display().to_string()).collect();
                let files = files.join(" and in ");
                Err(Error::invalid(format!("CDI device {name} is described in {files}")))
            }
        }
    }
}
