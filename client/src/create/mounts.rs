//! `-v` and `--mount`.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::values::fields;
use super::{Members, Refused};
use crate::units;

#[derive(Debug)]
pub(crate) struct Volumes {
    /// `SOURCE:TARGET[:OPTIONS]`, sources of the host absolute.
    pub(crate) binds: Vec<String>,
    /// Targets to `{}`.
    pub(crate) anonymous: Value,
}

pub(crate) fn binds(texts: &[String]) -> Result<Volumes, Refused> {
    let (mut binds, mut anonymous) = (Vec::new(), Map::new());
    for text in texts {
        if text.is_empty() {
            return Err("invalid empty volume spec".to_owned());
        }
        match text.split_once(':') {
            None => {
                anonymous.insert(text.clone(), json!({}));
            }
            Some((source, rest)) => binds.push(format!("{}:{rest}", host_path(source)?)),
        }
    }
    Ok(Volumes { binds, anonymous: Value::Object(anonymous) })
}

/// A path of the host made absolute. The name of a volume stays what it is.
fn host_path(source: &str) -> Result<String, Refused> {
    if source.starts_with('.') {
        return absolute(source);
    }
    match (source.strip_prefix('~'), std::env::var("HOME")) {
        (Some(rest), Ok(home)) if rest.is_empty() || rest.starts_with('/') => {
            Ok(format!("{home}{rest}"))
        }
        _ => Ok(source.to_owned()),
    }
}

/// Without `.` and `..` in it, as Go's `filepath.Abs`.
fn absolute(path: &str) -> Result<String, Refused> {
    let here =
        std::env::current_dir().map_err(|error| format!("the working directory: {error}"))?;
    let mut clean = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    Ok(clean.to_string_lossy().into_owned())
}

pub(crate) fn mounts(texts: &[String]) -> Result<Vec<Value>, Refused> {
    texts
        .iter()
        .map(|text| {
            mount(text)
                .map_err(|what| format!("invalid argument {text:?} for \"--mount\" flag: {what}"))
        })
        .collect()
}

/// What the fields of a mount have said so far.
#[derive(Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    is_read_only: bool,
    consistency: String,
    bind: Members,
    propagation: String,
    recursive: String,
    volume: Members,
    labels: Map<String, Value>,
    driver: String,
    driver_options: Map<String, Value>,
    tmpfs: Members,
    image: Members,
}

fn mount(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("value is empty".to_owned());
    }
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in fields(text) {
        mount.field(&field)?;
    }
    mount.into_value()
}

impl Mount {
    fn field(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), value),
            // These may stand alone.
            None => match field.to_lowercase().as_str() {
                key @ ("readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive") => {
                    (key.to_owned(), "true")
                }
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            },
        };
        let truth = || truth(value).ok_or_else(|| format!("invalid value for {key}: {value}"));
        match key.as_str() {
            "type" => self.kind = value.to_lowercase(),
            "source" | "src" => {
                self.source =
                    if value.starts_with('.') { absolute(value)? } else { value.to_owned() };
            }
            "target" | "dst" | "destination" => value.clone_into(&mut self.target),
            "readonly" | "ro" => self.is_read_only = truth()?,
            "consistency" => self.consistency = value.to_lowercase(),
            "bind-propagation" => self.propagation = value.to_lowercase(),
            "bind-nonrecursive" => self.bind.set("NonRecursive", truth()?),
            "bind-recursive" => value.clone_into(&mut self.recursive),
            "bind-create-src" => self.bind.set("CreateMountpoint", truth()?),
            "volume-nocopy" => self.volume.set("NoCopy", truth()?),
            "volume-subpath" => self.volume.set("Subpath", value),
            "volume-label" => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                self.labels.insert(key.to_owned(), value.into());
            }
            "volume-driver" => value.clone_into(&mut self.driver),
            "volume-opt" => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                self.driver_options.insert(key.to_owned(), value.into());
            }
            "image-subpath" => self.image.set("Subpath", value),
            "tmpfs-size" => {
                let size = units::parse_bytes(value)
                    .map_err(|_| format!("invalid value for {key}: {value}"))?;
                self.tmpfs.set("SizeBytes", size);
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| format!("invalid value for {key}: {value}"))?;
                self.tmpfs.set("Mode", mode);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn into_value(mut self) -> Result<Value, String> {
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        match self.recursive.as_str() {
            "" | "enabled" => {}
            "disabled" => self.bind.set("NonRecursive", true),
            "writable" | "readonly" if !self.is_read_only => {
                return Err(format!(
                    "option 'bind-recursive={}' requires 'readonly' to be specified in conjunction",
                    self.recursive
                ));
            }
            "readonly" if !self.propagation.is_empty() && self.propagation != "rprivate" => {
                let what = "requires 'bind-propagation=rprivate' to be specified in conjunction";
                return Err(format!("option 'bind-recursive=readonly' {what}"));
            }
            "writable" => self.bind.set("ReadOnlyNonRecursive", true),
            "readonly" => self.bind.set("ReadOnlyForceRecursive", true),
            other => {
                return Err(format!(
                    "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        }
        self.bind.set("Propagation", self.propagation);
        let mut driver = Members::default();
        driver.set("Name", self.driver);
        driver.set("Options", self.driver_options);
        self.volume.set("DriverConfig", driver.into_value());
        self.volume.set("Labels", self.labels);
        let mut mount = Members::default();
        for (kind, key, options) in [
            ("bind", "BindOptions", self.bind),
            ("volume", "VolumeOptions", self.volume),
            ("tmpfs", "TmpfsOptions", self.tmpfs),
            ("image", "ImageOptions", self.image),
        ] {
            let options = options.into_value();
            let is_used = options.as_object().is_some_and(|it| !it.is_empty());
            if is_used && self.kind != kind {
                return Err(format!(
                    "cannot mix '{kind}-*' options with mount type '{}'",
                    self.kind
                ));
            }
            mount.set(key, options);
        }
        mount.set("Type", self.kind);
        mount.set("Source", self.source);
        mount.set("Target", self.target);
        mount.set("ReadOnly", self.is_read_only);
        mount.set("Consistency", self.consistency);
        Ok(mount.into_value())
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}
