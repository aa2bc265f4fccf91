//! What a pod mounts: claims for named volumes, maps and secrets, what lives as long as the pod, and directories of the node.

use std::fs;
use std::os::unix::fs::MetadataExt;

use cais_compose::Node;
use serde_json::{Value as Json, json};

use super::super::copied;
use super::super::mounts::written;
use super::super::resources::text;
use super::{Conversion, Manifest, Service, names, put};
use crate::error::{Context, Failure, Result};

/// A map or secret may not be larger.
const LARGEST: usize = 1 << 20;

/// What `kubectl apply` keeps of an object is an annotation, which may not be larger.
const LARGEST_APPLIED: usize = 256 << 10;

/// Of one pod.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) volumes: Vec<Json>,
    pub(super) mounts: Vec<Json>,
    pub(super) writes_to_claim: bool,
}

impl Mounts {
    /// Of one volume there may be several mounts.
    fn add(&mut self, name: &str, source: (&str, Json), mount: Json) {
        if !self.volumes.iter().any(|it| it["name"] == name) {
            let (kind, source) = source;
            let mut volume = json!({ "name": name });
            volume[kind] = source;
            self.volumes.push(volume);
        }
        let mut mount = mount;
        mount["name"] = name.into();
        self.mounts.push(mount);
    }
}

impl Conversion<'_> {
    /// A claim for each named volume, but those that are somebody else's.
    pub(super) fn volumes(&self) -> Result<Vec<Manifest>> {
        let mut all = Vec::new();
        for (key, volume) in self.project.resources("volumes") {
            if is_external(volume) {
                continue;
            }
            if volume.get("driver_opts").is_some()
                || !matches!(text(volume, "driver"), "" | "local")
            {
                self.tell(format!("volumes.{key}: which storage it is on is the cluster's choice"));
            }
            let users = self.project.services().filter(|(_, it)| uses(it, key));
            let pods: i64 =
                users.map(|(name, _)| self.scales.get(name.as_str()).copied().unwrap_or(1)).sum();
            let (mode, why) = match pods {
                0 | 1 => ("ReadWriteOnce", ""),
                _ => ("ReadWriteMany", "of several pods, which may be on several nodes"),
            };
            let object = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": self.metadata(&names::label(key)),
                "spec": {
                    "accessModes": [mode],
                    "resources": { "requests": { "storage": self.volume_size } },
                },
            });
            all.push(Manifest { why: why.to_owned(), object });
        }
        Ok(all)
    }

    /// Secrets and configurations, with what is in them.
    pub(super) fn files(&self) -> Result<Vec<Manifest>> {
        let mut all = Vec::new();
        for (kind, object) in [("secrets", "Secret"), ("configs", "ConfigMap")] {
            for (key, resource) in self.project.resources(kind) {
                if is_external(resource) {
                    continue;
                }
                let content = resource.get("content").and_then(Node::as_text);
                let bytes = match (content, text(resource, "file")) {
                    (Some(content), _) => content.as_bytes().to_vec(),
                    (None, "") => {
                        return Err(Failure::new(format!(
                            "{kind}.{key}: is neither a file nor a text"
                        )));
                    }
                    (None, file) => fs::read(file).context(file)?,
                };
                if bytes.len() > LARGEST {
                    return Err(Failure::new(format!(
                        "{kind}.{key}: a {object} has 1 MiB at most, and this has {} bytes",
                        bytes.len()
                    )));
                }
                let name = names::label(key);
                all.push(Manifest {
                    why: String::new(),
                    object: self.held(object, &name, "content", &bytes),
                });
            }
        }
        Ok(all)
    }

    fn held(&self, kind: &str, name: &str, key: &str, bytes: &[u8]) -> Json {
        // With room for what else is in it.
        if bytes.len() > LARGEST_APPLIED * 3 / 4 {
            self.tell(format!(
                "the {kind} {name} is large: kubectl apply may need the flag --server-side for it"
            ));
        }
        let (member, value) = match (std::str::from_utf8(bytes), kind) {
            (Ok(text), "Secret") => ("stringData", text.to_owned()),
            (Ok(text), _) => ("data", text.to_owned()),
            (Err(_), "Secret") => ("data", base64(bytes)),
            (Err(_), _) => ("binaryData", base64(bytes)),
        };
        let mut object =
            json!({ "apiVersion": "v1", "kind": kind, "metadata": self.metadata(name) });
        object[member] = json!({ key: value });
        object
    }
}

impl Service<'_> {
    /// And the maps that hold files of this machine.
    pub(super) fn mounts(&self) -> Result<(Mounts, Vec<Manifest>)> {
        let mut mounts = Mounts { writes_to_claim: self.writes_to_claim(), ..Mounts::default() };
        let mut maps = Vec::new();
        for (index, volume) in self.list("volumes").iter().enumerate() {
            let is_read_only = volume.get("read_only").and_then(Node::as_bool) == Some(true);
            let mut mount = json!({ "mountPath": text(volume, "target") });
            if is_read_only {
                mount["readOnly"] = true.into();
            }
            let own = format!("volume-{index}");
            match text(volume, "type") {
                "volume" if text(volume, "source").is_empty() => {
                    mounts.add(&own, ("emptyDir", json!({})), mount);
                }
                "volume" => {
                    let key = text(volume, "source");
                    let claim = self
                        .conversion
                        .project
                        .resource("volumes", key)
                        .filter(|it| is_external(it));
                    let claim =
                        claim.map_or_else(|| names::label(key), |it| text(it, "name").to_owned());
                    let subpath = volume.get("volume").map_or("", |it| text(it, "subpath"));
                    if !subpath.is_empty() {
                        mount["subPath"] = subpath.into();
                    }
                    let source = json!({ "claimName": claim });
                    let own = names::label(&format!("claim-{key}"));
                    mounts.add(&own, ("persistentVolumeClaim", source), mount);
                }
                "tmpfs" => {
                    let size = volume.get("tmpfs").and_then(|it| it.get("size")?.as_int());
                    mounts.add(&own, ("emptyDir", memory(size)), mount);
                }
                "bind" => {
                    maps.extend(self.bind(&own, text(volume, "source"), mount, &mut mounts)?);
                }
                other => {
                    return Err(
                        self.cannot("volumes", &format!("a pod has no mounts of type {other}"))
                    );
                }
            }
        }
        for (index, entry) in self.list("tmpfs").iter().filter_map(Node::as_text).enumerate() {
            let at = entry.split(':').next().unwrap_or(entry);
            mounts.add(
                &format!("tmpfs-{index}"),
                ("emptyDir", memory(None)),
                json!({ "mountPath": at }),
            );
        }
        if !self.list("volumes_from").is_empty() {
            return Err(self.cannot("volumes_from", "pods do not share volumes that have no name"));
        }
        for kind in ["secrets", "configs"] {
            for file in self.list(kind) {
                self.file(kind, file, &mut mounts);
            }
        }
        Ok((mounts, maps))
    }

    /// Whether two pods of it would write to one volume.
    pub(super) fn writes_to_claim(&self) -> bool {
        written(self.node).any(|it| !text(it, "source").is_empty())
    }

    /// A file of this machine is on no node: it goes along as a map. A directory has to be there.
    fn bind(
        &self,
        own: &str,
        from: &str,
        mut mount: Json,
        mounts: &mut Mounts,
    ) -> Result<Option<Manifest>> {
        let metadata = fs::metadata(from).ok();
        let was_read_only = mount.get("readOnly").is_some();
        if metadata.as_ref().is_some_and(|it| it.is_file() && it.len() <= LARGEST as u64) {
            let bytes = fs::read(from).context(from)?;
            let name = names::label(&format!("{}-{own}", self.id()));
            mount["subPath"] = "content".into();
            mount["readOnly"] = true.into();
            let mode = metadata.map_or(0o644, |it| it.mode() & 0o777);
            let source = json!({ "name": name, "defaultMode": mode });
            mounts.add(own, ("configMap", source), mount);
            if !was_read_only {
                self.tell("volumes", &format!("{from} is read-only in a pod"));
            }
            let why = format!("the file {from}, as it is now");
            let object = self.conversion.held("ConfigMap", &name, "content", &bytes);
            return Ok(Some(Manifest { why, object }));
        }
        self.tell("volumes", &format!("{from} must be there on each node that a pod may run on"));
        mounts.add(own, ("hostPath", json!({ "path": from })), mount);
        Ok(None)
    }

    fn file(&self, kind: &str, file: &Node, mounts: &mut Mounts) {
        let key = text(file, "source");
        if ["uid", "gid"].iter().any(|it| file.get(it).is_some()) {
            self.tell(kind, &format!("{key} belongs to root in a pod"));
        }
        let external = self.conversion.project.resource(kind, key).filter(|it| is_external(it));
        let name = external.map_or_else(|| names::label(key), |it| text(it, "name").to_owned());
        let mut source = match kind {
            "secrets" => json!({ "secretName": name }),
            _ => json!({ "name": name }),
        };
        put(&mut source, "defaultMode", file.get("mode").and_then(Node::as_int).into());
        if external.is_some() {
            self.tell(
                kind,
                &format!("{name} is to be there, with its text under the key \"content\""),
            );
        }
        let mount = json!({ "mountPath": copied::target(kind, file), "subPath": "content", "readOnly": true });
        let (volume, member) = match kind {
            "secrets" => (format!("secret-{}", mounts.volumes.len()), "secret"),
            _ => (format!("config-{}", mounts.volumes.len()), "configMap"),
        };
        mounts.add(&volume, (member, source), mount);
    }
}

fn memory(size: Option<i64>) -> Json {
    let mut volume = json!({ "medium": "Memory" });
    put(&mut volume, "sizeLimit", size.map(|it| it.to_string()).into());
    volume
}

fn uses(service: &Node, volume: &str) -> bool {
    let volumes = service.get("volumes").and_then(Node::as_list).unwrap_or_default();
    volumes.iter().any(|it| text(it, "type") == "volume" && text(it, "source") == volume)
}

fn is_external(resource: &Node) -> bool {
    resource.get("external").is_some_and(|it| it.as_bool() != Some(false))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::converted;
    use super::*;

    #[test]
    fn volumes_and_files_are_mounted_where_they_were() {
        let (all, told) = converted(
            "
services:
  db:
    image: a
    volumes: ['data:/data', '/cache', '/nowhere/here:/here:ro', {type: tmpfs, target: /t, tmpfs: {size: 1k}}, 'ours:/ours']
    tmpfs: [/run]
    secrets: [{source: word, target: key, mode: 0400, uid: '7'}]
    configs: [{source: settings, target: /etc/settings}]
  reader: {image: a, volumes: ['data:/data:ro']}
volumes: {data: , ours: {external: true, name: theirs}}
secrets: {word: {environment: HOME}}
configs: {settings: {content: hello}}
"
            .replace("{environment: HOME}", "{file: /proc/sys/kernel/ostype}")
            .as_str(),
        )
        .unwrap();
        let pod = &all["StatefulSet/db"]["spec"]["template"]["spec"];
        assert_eq!(
            pod["volumes"],
            json!([
                { "name": "claim-data", "persistentVolumeClaim": { "claimName": "data" } },
                { "name": "volume-1", "emptyDir": {} },
                { "name": "volume-2", "hostPath": { "path": "/nowhere/here" } },
                { "name": "volume-3", "emptyDir": { "medium": "Memory", "sizeLimit": "1024" } },
                { "name": "claim-ours", "persistentVolumeClaim": { "claimName": "theirs" } },
                { "name": "tmpfs-0", "emptyDir": { "medium": "Memory" } },
                { "name": "secret-6", "secret": { "secretName": "word", "defaultMode": 256 } },
                { "name": "config-7", "configMap": { "name": "settings" } },
            ])
        );
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        assert_eq!(
            mounts[2],
            json!({ "name": "volume-2", "mountPath": "/here", "readOnly": true })
        );
        assert_eq!(
            mounts[6],
            json!({ "name": "secret-6", "mountPath": "/run/secrets/key", "subPath": "content", "readOnly": true })
        );
        let claim = &all["PersistentVolumeClaim/data"]["spec"];
        assert_eq!(claim["accessModes"], json!(["ReadWriteMany"]));
        assert_eq!(claim["resources"]["requests"]["storage"], "1Gi");
        assert!(!all.contains_key("PersistentVolumeClaim/theirs"));
        assert_eq!(all["Secret/word"]["stringData"]["content"], "Linux\n");
        assert_eq!(all["ConfigMap/settings"]["data"]["content"], "hello");
        for what in ["/nowhere/here must be there", "word belongs to root"] {
            assert!(told.iter().any(|it| it.contains(what)), "{what} in {told:?}");
        }
    }

    #[test]
    fn a_file_that_is_mounted_goes_along() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        #[expect(clippy::disallowed_methods, reason = "nobody reads it meanwhile")]
        fs::write(&path, b"\xff").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let path = path.to_str().unwrap();
        let file = format!("services: {{a: {{image: a, volumes: ['{path}:/etc/it']}}}}");
        let (all, told) = converted(&file).unwrap();
        assert_eq!(all["ConfigMap/a-volume-0"]["binaryData"]["content"], "/w==");
        let pod = &all["Deployment/a"]["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["subPath"], "content");
        assert_eq!(pod["volumes"][0]["configMap"]["defaultMode"], 0o750);
        assert!(told.iter().any(|it| it.contains("is read-only in a pod")), "{told:?}");
    }

    #[test]
    fn what_an_object_cannot_hold_is_refused() {
        let text = "a".repeat(LARGEST + 1);
        let file =
            format!("{{services: {{a: {{image: a}}}}, configs: {{big: {{content: {text}}}}}}}");
        let refused = converted(&file).unwrap_err();
        assert!(
            refused.message.starts_with("configs.big: a ConfigMap has 1 MiB at most"),
            "{refused}"
        );
    }
}
