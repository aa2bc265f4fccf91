//! Secrets and configurations that a container is given as copies: those that are no files of this machine, and those that
//! are to belong to somebody. A file that is mounted has the owner and the mode that it has here.

use std::fs;

use cais_compose::{Node, Project};
use serde_json::Value as Json;

use super::containers;
use super::resources::text;
use crate::Cais;
use crate::client::Path;
use crate::error::{Context, Failure, Result};
use crate::http::Payload;

/// A file of a container, and where it comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    target: String,
    origin: Origin,
    uid: u64,
    gid: u64,
    mode: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Text(String),
    File(String),
}

/// Whoever reads it may: what is given to a container is given to what runs in it.
const MODE: u32 = 0o444;

/// Where in a container one is, that `secrets` or `configs` of a service name.
pub(super) fn target(kind: &str, mount: &Node) -> String {
    let directory = if kind == "secrets" { "/run/secrets/" } else { "/" };
    match text(mount, "target") {
        "" => format!("{directory}{}", text(mount, "source")),
        target if target.starts_with('/') => target.to_owned(),
        target => format!("{directory}{target}"),
    }
}

/// Nothing for what is mounted.
///
/// # Errors
/// It is neither a file nor a text, or the container's files cannot be written to.
pub(super) fn copy(
    project: &Project,
    (name, service): (&str, &Node),
    kind: &str,
    mount: &Node,
) -> Result<Option<Copy>> {
    let source = text(mount, "source");
    let refused = |what: &str| Failure::new(format!("services.{name}.{kind}: {source} {what}"));
    let resource = project.resource(kind, source);
    let content = resource.and_then(|it| it.get("content")?.as_text());
    let file = resource.map_or("", |it| text(it, "file"));
    let is_owned = ["uid", "gid", "mode"].iter().any(|key| mount.get(key).is_some());
    let origin = match content {
        Some(content) => Origin::Text(content.to_owned()),
        None if file.is_empty() => {
            return Err(refused("is neither a file nor a text: cais compose cannot give it"));
        }
        None if is_owned => Origin::File(file.to_owned()),
        None => return Ok(None),
    };
    if service.get("read_only").and_then(Node::as_bool) == Some(true) {
        return Err(refused(
            "would be copied into the container, which is read_only: let it be a file without uid, gid and mode",
        ));
    }
    let number = |key: &str| match text(mount, key) {
        "" => Ok(0),
        id => id.parse().map_err(|_| refused(&format!("has the {key} {id:?}, which is no number"))),
    };
    let mode = mount.get("mode").and_then(Node::as_int);
    let mode = mode.and_then(|it| u32::try_from(it).ok()).unwrap_or(MODE);
    Ok(Some(Copy {
        target: target(kind, mount),
        origin,
        uid: number("uid")?,
        gid: number("gid")?,
        mode,
    }))
}

/// Makes a container of a service with its copies in it; gives its id. They are read before. One that they could not be put
/// into does not stay: it would pass for a complete one.
pub(super) fn create(
    cais: &Cais,
    project: &Project,
    name: &str,
    path: Path,
    body: &Json,
) -> Result<String> {
    let archive = archive_of(project, name)?;
    let made = cais.client.post_json(path, body)?;
    let id = made["Id"].text().to_owned();
    if let Some(archive) = archive {
        put(cais, &id, &archive).inspect_err(|_| containers::discard(cais, &id))?;
    }
    Ok(id)
}

/// All of a service's. Nothing when there are none.
fn archive_of(project: &Project, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(service) = project.service(name) else { return Ok(None) };
    let mut copies = Vec::new();
    for kind in ["secrets", "configs"] {
        for mount in service.get(kind).and_then(Node::as_list).unwrap_or_default() {
            copies.extend(copy(project, (name, service), kind, mount)?);
        }
    }
    if copies.is_empty() { Ok(None) } else { archive(&copies).map(Some) }
}

/// Into a container that was not started yet.
fn put(cais: &Cais, id: &str, mut archive: &[u8]) -> Result<()> {
    let path = Path::new(&["containers", id, "archive"]).with("path", "/").with("copyUIDGID", "1");
    cais.client.call("PUT", path, Payload::Archive(&mut archive), Vec::new()).map(drop)
}

fn archive(copies: &[Copy]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for copy in copies {
        let bytes = match &copy.origin {
            Origin::Text(text) => text.clone().into_bytes(),
            Origin::File(file) => fs::read(file).context(file)?,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(copy.mode);
        header.set_uid(copy.uid);
        header.set_gid(copy.gid);
        header.set_mtime(0);
        let name = copy.target.trim_start_matches('/');
        builder.append_data(&mut header, name, bytes.as_slice()).context(&copy.target)?;
    }
    builder.into_inner().context("an archive of secrets")
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    const FILE: &str = "
services:
  app:
    image: a
    secrets: [file, {source: text, target: word}, {source: file, target: own, uid: '7', gid: '8', mode: 0400}]
    configs: [{source: text, target: /etc/a}]
  fixed: {image: a, read_only: true, secrets: [file], configs: [text]}
  odd: {image: a, secrets: [{source: file, uid: me}]}
secrets: {file: {file: ./secret}, text: {environment: HOME}}
configs: {text: {content: hello}}
";

    #[test]
    fn what_is_no_file_or_has_an_owner_is_copied() {
        let project = project(&FILE.replace("{environment: HOME}", "{file: ./other}"));
        let of = |name: &str, kind: &str, at: &str| {
            let service = project.service(name).unwrap();
            let mounts = service.get(kind).unwrap().as_list().unwrap();
            let mount = mounts.iter().find(|it| target(kind, it) == at).unwrap();
            copy(&project, (name, service), kind, mount)
        };
        assert_eq!(of("app", "secrets", "/run/secrets/file"), Ok(None));
        let owned = of("app", "secrets", "/run/secrets/own").unwrap().unwrap();
        assert_eq!((owned.uid, owned.gid, owned.mode), (7, 8, 0o400));
        let text = of("app", "configs", "/etc/a").unwrap().unwrap();
        assert_eq!(text.mode, 0o444);
        assert_eq!(text.origin, Origin::Text("hello".to_owned()));
        assert_eq!(of("fixed", "secrets", "/run/secrets/file"), Ok(None));
        assert!(
            of("fixed", "configs", "/text").unwrap_err().message.contains("which is read_only")
        );
        assert!(
            of("odd", "secrets", "/run/secrets/file")
                .unwrap_err()
                .message
                .contains("\"me\", which is no number")
        );
    }

    #[test]
    fn what_cannot_be_read_is_known_before_there_is_a_container() {
        let project = project(&FILE.replace("{environment: HOME}", "{file: ./other}"));
        assert!(archive_of(&project, "app").unwrap_err().message.contains("secret"));
        let plain = super::super::tests::project("services: {app: {image: a}}");
        assert_eq!(archive_of(&plain, "app"), Ok(None));
    }

    #[test]
    fn copies_keep_their_owners_in_the_archive() {
        let copy = Copy {
            target: "/run/secrets/a".to_owned(),
            origin: Origin::Text("b".to_owned()),
            uid: 7,
            gid: 8,
            mode: 0o440,
        };
        let bytes = archive(&[copy]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("run/secrets/a"));
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (7, 8));
        assert_eq!(header.mode().unwrap(), 0o440);
    }
}
