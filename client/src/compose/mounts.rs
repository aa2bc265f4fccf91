//! What a service's container has mounted: volumes, and secrets and configurations that are files.

use cais_compose::Node;
use serde_json::{Value as Json, json};

use super::body::{Service, Which};
use super::copied;
use super::resources::{strings, text};
use crate::error::Result;

/// The volumes, named or not, that its containers write to.
pub(super) fn written(service: &Node) -> impl Iterator<Item = &Node> {
    let volumes = service.get("volumes").and_then(Node::as_list).unwrap_or_default();
    volumes.iter().filter(|it| {
        let is_read_only = it.get("read_only").and_then(Node::as_bool) == Some(true);
        text(it, "type") == "volume" && !is_read_only
    })
}

impl Service<'_> {
    pub(super) fn mounts(&self, which: &Which<'_>) -> Result<Vec<Json>> {
        let mut mounts = Vec::new();
        let mut places: Vec<&str> = Vec::new();
        for volume in self.list("volumes") {
            let target = text(volume, "target");
            places.push(target);
            let mut mount = json!({
                "Type": text(volume, "type"),
                "Target": target,
                "ReadOnly": volume.get("read_only").is_some(),
            });
            match text(volume, "type") {
                "bind" => {
                    let bind = volume.get("bind");
                    if bind.is_some_and(|it| it.get("recursive").is_some()) {
                        return Err(self.cannot("volumes", "recursive"));
                    }
                    mount["Source"] = text(volume, "source").into();
                    mount["BindOptions"] = json!({
                        "Propagation": bind.map_or("", |it| text(it, "propagation")),
                        "CreateMountpoint": bind.is_some_and(|it| it.get("create_host_path").is_some()),
                    });
                }
                "volume" => {
                    let options = volume.get("volume");
                    let key = text(volume, "source");
                    let inherited = which.inherited.iter().find(|(at, _)| at == target);
                    mount["Source"] = match self.project.resource("volumes", key) {
                        Some(known) => text(known, "name").into(),
                        None => inherited.map_or("", |(_, name)| name).into(),
                    };
                    mount["VolumeOptions"] = json!({
                        "NoCopy": options.is_some_and(|it| it.get("nocopy").is_some()),
                        "Subpath": options.map_or("", |it| text(it, "subpath")),
                        "Labels": strings(options.and_then(|it| it.get("labels"))),
                    });
                }
                "tmpfs" => {
                    let number =
                        |key: &str| volume.get("tmpfs").and_then(|it| it.get(key)?.as_int());
                    mount["TmpfsOptions"] = json!({
                        "SizeBytes": number("size").unwrap_or(0),
                        "Mode": number("mode").unwrap_or(0),
                    });
                }
                other => return Err(self.cannot("volumes", &format!("mounts of type {other}"))),
            }
            mounts.push(mount);
        }
        for (target, name) in
            which.inherited.iter().filter(|(at, _)| !places.contains(&at.as_str()))
        {
            mounts.push(json!({ "Type": "volume", "Target": target, "Source": name }));
        }
        for kind in ["secrets", "configs"] {
            for file in self.list(kind) {
                // What is copied into the container is no mount.
                if copied::copy(self.project, (self.name, self.node), kind, file)?.is_none() {
                    mounts.push(self.file(kind, file));
                }
            }
        }
        Ok(mounts)
    }

    /// A secret or configuration that is a file.
    fn file(&self, kind: &str, file: &Node) -> Json {
        let path =
            self.project.resource(kind, text(file, "source")).map_or("", |it| text(it, "file"));
        json!({ "Type": "bind", "Source": path, "Target": copied::target(kind, file), "ReadOnly": true })
    }
}
