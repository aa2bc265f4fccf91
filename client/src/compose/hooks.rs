//! Commands that run in a container: after it was started (`post_start`), before it is stopped (`pre_stop`), and when files
//! were brought into it.

use std::io;

use cais_compose::{Node, Project};
use serde_json::{Value as Json, json};

use super::containers::Container;
use super::resources::{strings, text};
use crate::Cais;
use crate::attached::copy_to;
use crate::client::Path;
use crate::error::{Failure, Result};

/// All of one kind that the container's service has, one after the other. The first that fails is the last.
pub(super) fn run(
    cais: &Cais,
    project: Option<&Project>,
    container: &Container,
    kind: &str,
) -> Result<()> {
    let service = project.and_then(|it| it.service(&container.service));
    let hooks = service.and_then(|it| it.get(kind)?.as_list()).unwrap_or_default();
    hooks.iter().try_for_each(|hook| command(cais, container, &body(hook)))
}

/// What a hook is to the daemon.
pub(super) fn body(hook: &Node) -> Json {
    let command = hook.get("command").and_then(Node::as_list).unwrap_or_default();
    let command: Vec<&str> = command.iter().filter_map(Node::as_text).collect();
    let variable = |(key, it): (&String, &Json)| match it.as_str() {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    };
    let variables: Vec<String> = strings(hook.get("environment")).iter().map(variable).collect();
    json!({
        "Cmd": command,
        "Env": variables,
        "User": text(hook, "user"),
        "WorkingDir": text(hook, "working_dir"),
        "Privileged": hook.get("privileged").and_then(Node::as_bool) == Some(true),
    })
}

/// Runs a command to its end. What it says goes to standard error, both its outputs.
pub(super) fn command(cais: &Cais, container: &Container, body: &Json) -> Result<()> {
    if cais.client.is_dry() {
        return Ok(());
    }
    let mut body = body.clone();
    body["AttachStdout"] = true.into();
    body["AttachStderr"] = true.into();
    let client = &cais.client;
    let made = client.post_json(Path::new(&["containers", &container.id, "exec"]), &body)?;
    let id = made["Id"].text();
    let start = json!({ "Detach": false, "Tty": false });
    let mut connection = client.upgrade(Path::new(&["exec", id, "start"]), Some(&start))?;
    copy_to(&mut connection.reader, &mut io::stderr(), &mut io::stderr())?;
    let state = client.read(Path::new(&["exec", id, "json"]))?;
    match state["ExitCode"].integer() {
        0 => Ok(()),
        code => {
            let words: Vec<&str> =
                body["Cmd"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            let (name, command) = (&container.name, words.join(" "));
            Err(Failure::new(format!("{name}: {command:?} exited with status {code}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    #[test]
    fn a_hook_is_a_command_with_its_surroundings() {
        let project = project(
            "services: {a: {image: a, post_start: [{command: touch /x, user: root, environment: [A=b]}]}}",
        );
        let hook = &project.service("a").unwrap().get("post_start").unwrap().as_list().unwrap()[0];
        let expected = json!({
            "Cmd": ["touch", "/x"], "Env": ["A=b"], "User": "root", "WorkingDir": "", "Privileged": false,
        });
        assert_eq!(body(hook), expected);
    }
}
