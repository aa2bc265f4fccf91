//! Waiting for what a container becomes: its events say when to look again.

use super::containers::Container;
use crate::client::{Client, Path, documents};
use crate::error::{Failure, Result};
use crate::json::Value;

/// Looks at a container, and again after each of its events, until there is an answer.
fn until(
    client: &Client,
    container: &Container,
    answer: impl Fn(&Value) -> Option<Result<()>>,
) -> Result<()> {
    // Before the first look: what happens between two looks is not missed.
    let filters = serde_json::json!({ "type": ["container"], "container": [container.id] });
    let reply = client.get(Path::new(&["events"]).with("filters", &filters.to_string()))?;
    let mut events = documents(reply.body);
    loop {
        let shown = client.read(Path::new(&["containers", &container.id, "json"]))?;
        if let Some(answer) = answer(&shown["State"]) {
            return answer;
        }
        match events.next() {
            Some(event) => drop(event?),
            None => return Err(Failure::new("the daemon's events have ended")),
        }
    }
}

fn is_over(state: &Value) -> bool {
    matches!(state["Status"].text(), "exited" | "dead" | "removing")
}

pub(super) fn healthy(client: &Client, container: &Container) -> Result<()> {
    let name = &container.name;
    until(client, container, |state| match state["Health"]["Status"].text() {
        "healthy" => Some(Ok(())),
        "unhealthy" => Some(Err(Failure::new(format!("container {name} is unhealthy")))),
        _ if is_over(state) => {
            let code = state["ExitCode"].integer();
            Some(Err(Failure::new(format!("container {name} exited ({code})"))))
        }
        "" | "none" => {
            Some(Err(Failure::new(format!("container {name} has no healthcheck configured"))))
        }
        _ => None,
    })
}

pub(super) fn completed(client: &Client, container: &Container) -> Result<()> {
    let name = &container.name;
    until(client, container, |state| {
        is_over(state).then(|| match state["ExitCode"].integer() {
            0 => Ok(()),
            code => Err(Failure::new(format!(
                "service {:?} didn't complete successfully: {name}: exit {code}",
                container.service
            ))),
        })
    })
}

/// Healthy where there is a check, running where there is none.
pub(super) fn running(client: &Client, container: &Container) -> Result<()> {
    let shown = client.read(Path::new(&["containers", &container.id, "json"]))?;
    let state = &shown["State"];
    match state["Health"]["Status"].text() {
        "" | "none" if state["Status"].text() == "running" => Ok(()),
        "" | "none" => {
            let code = state["ExitCode"].integer();
            Err(Failure::new(format!("container {} exited ({code})", container.name)))
        }
        _ => healthy(client, container),
    }
}
