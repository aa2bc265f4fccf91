//! `use_api_socket`: the daemon's socket in a container, and who one is to registries.
//!
//! What a service gets, and so its hash, is what docker compose gives it, whose daemon has one socket. Ours has another name, so
//! the container gets the one that we speak to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cais_compose::{API_SOCKET, Node, Project};
use serde_json::{Map, Value as Json, json};

use super::Files;
use crate::Cais;
use crate::error::Result;

/// The project with these services, or all, as its containers are made.
pub(super) fn project(cais: &Cais, files: &Files, services: &[String]) -> Result<Project> {
    let mut project = files.project(&files.options()?, services)?;
    if project.services().any(|(_, it)| has(it)) {
        let configuration = configuration(cais)?;
        project.give_api_socket(|| configuration);
    }
    Ok(project)
}

fn has(service: &Node) -> bool {
    service.get("use_api_socket").and_then(Node::as_bool) == Some(true)
}

/// A client's configuration with every login that the one who asks has.
fn configuration(cais: &Cais) -> Result<String> {
    let config = cais.config()?;
    let mut logins = Map::new();
    for server in config.servers() {
        let Some(login) = config.credentials(&server)? else { continue };
        let entry = if login.identity_token.is_empty() {
            json!({ "auth": STANDARD.encode(format!("{}:{}", login.username, login.password)) })
        } else {
            json!({ "identitytoken": login.identity_token })
        };
        logins.insert(server, entry);
    }
    Ok(json!({ "auths": logins }).to_string())
}

/// Has the container that is to be made get the socket that we speak to.
pub(super) fn place(cais: &Cais, service: &Node, body: &mut Json) {
    let Some(socket) = cais.client.host.socket().filter(|_| has(service)) else { return };
    let mounts = body["HostConfig"]["Mounts"].as_array_mut().into_iter().flatten();
    for mount in mounts.filter(|it| it["Target"] == API_SOCKET && it["Source"] == API_SOCKET) {
        mount["Source"] = socket.into();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    #[test]
    fn a_service_gets_the_socket_and_the_logins() {
        let mut project =
            project("services: {web: {image: a, use_api_socket: true}, other: {image: a}}");
        let before = cais_compose::service_hash(project.service("web").unwrap());
        assert!(project.give_api_socket(|| "{}".to_owned()));
        let web = project.service("web").unwrap();
        assert_ne!(cais_compose::service_hash(web), before);
        let text = |node: Option<&Node>| node.and_then(Node::as_text).map(str::to_owned);
        let mount = &web.get("volumes").and_then(Node::as_list).unwrap()[0];
        assert_eq!(text(mount.get("target")).as_deref(), Some(API_SOCKET));
        let variable = web.get("environment").and_then(|it| it.get("DOCKER_CONFIG"));
        assert_eq!(text(variable).as_deref(), Some("/run/secrets/docker"));
        let config = project.resource("configs", "#apisocket").and_then(|it| it.get("content"));
        assert_eq!(text(config).as_deref(), Some("{}"));
        assert!(project.service("other").unwrap().get("volumes").is_none());
    }
}
