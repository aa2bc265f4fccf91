//! Waiting for what a container becomes: its events say when to look again.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::containers::Container;
use crate::client::{Client, Path, documents};
use crate::error::{Failure, Result};
use crate::json::Value;

/// How long after it nobody wants it any more a wait ends at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// Looks at a container, and again after each of its events, until there is an answer or `goes_on` denies.
fn until(
    client: &Client,
    container: &Container,
    goes_on: &impl Fn() -> bool,
    answer: impl Fn(&Value) -> Option<Result<()>>,
) -> Result<()> {
    // Before the first look: what happens between two looks is not missed.
    let filters = serde_json::json!({ "type": ["container"], "container": [container.id] });
    let reply = client.get(Path::new(&["events"]).with("filters", &filters.to_string()))?;
    let (sender, events) = mpsc::channel();
    // Nobody joins it: its last event may never come.
    thread::spawn(move || {
        for event in documents(reply.body) {
            if sender.send(event.map(drop)).is_err() {
                return;
            }
        }
    });
    looking(&events, goes_on, || {
        let shown = client.read(Path::new(&["containers", &container.id, "json"]))?;
        Ok(answer(&shown["State"]))
    })
}

fn looking(
    events: &Receiver<Result<()>>,
    goes_on: impl Fn() -> bool,
    look: impl Fn() -> Result<Option<Result<()>>>,
) -> Result<()> {
    loop {
        if let Some(answer) = look()? {
            return answer;
        }
        loop {
            if !goes_on() {
                return Ok(());
            }
            match events.recv_timeout(PATIENCE) {
                Ok(event) => break event?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new("the daemon's events have ended"));
                }
            }
        }
    }
}

fn is_over(state: &Value) -> bool {
    matches!(state["Status"].text(), "exited" | "dead" | "removing")
}

/// What its check says, or that there will be no answer. Nothing while that is open, and where there is no check.
fn checked(name: &str, state: &Value) -> Option<Result<()>> {
    match state["Health"]["Status"].text() {
        "healthy" => Some(Ok(())),
        "unhealthy" => Some(Err(Failure::new(format!("container {name} is unhealthy")))),
        _ if is_over(state) => {
            let code = state["ExitCode"].integer();
            Some(Err(Failure::new(format!("container {name} exited ({code})"))))
        }
        _ => None,
    }
}

fn has_no_check(state: &Value) -> bool {
    matches!(state["Health"]["Status"].text(), "" | "none")
}

pub(super) fn healthy(
    client: &Client,
    container: &Container,
    goes_on: &impl Fn() -> bool,
) -> Result<()> {
    let name = &container.name;
    let unknown = || Failure::new(format!("container {name} has no healthcheck configured"));
    until(client, container, goes_on, |state| {
        checked(name, state).or_else(|| has_no_check(state).then(|| Err(unknown())))
    })
}

pub(super) fn completed(
    client: &Client,
    container: &Container,
    goes_on: &impl Fn() -> bool,
) -> Result<()> {
    let name = &container.name;
    until(client, container, goes_on, |state| {
        is_over(state).then(|| match state["ExitCode"].integer() {
            0 => Ok(()),
            code => Err(Failure::new(format!(
                "service {:?} didn't complete successfully: {name}: exit {code}",
                container.service
            ))),
        })
    })
}

/// Until it is healthy, or runs where there is no check. One that is about to start has time to.
pub(super) fn running(client: &Client, container: &Container) -> Result<()> {
    until(client, container, &|| true, |state| runs(&container.name, state))
}

/// The same for one that has a single life to show what it is.
pub(super) fn ready(client: &Client, container: &Container) -> Result<()> {
    until(client, container, &|| true, |state| lives(&container.name, state))
}

fn lives(name: &str, state: &Value) -> Option<Result<()>> {
    if state["Restarting"].is_true() {
        let code = state["ExitCode"].integer();
        return Some(Err(Failure::new(format!("container {name} exited ({code})"))));
    }
    runs(name, state)
}

fn runs(name: &str, state: &Value) -> Option<Result<()>> {
    let is_up = has_no_check(state) && state["Status"].text() == "running";
    checked(name, state).or_else(|| is_up.then_some(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str) -> Value {
        Value::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn who_does_not_go_on_waits_for_no_event() {
        let (sender, events) = mpsc::channel();
        assert_eq!(looking(&events, || false, || Ok(None)), Ok(()));
        sender.send(Ok(())).unwrap();
        let answer = Err(Failure::new("unhealthy"));
        let looks = std::cell::Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            Ok((looks.get() == 2).then(|| answer.clone()))
        };
        assert_eq!(looking(&events, || true, look), answer);
        drop(sender);
        assert!(looking(&events, || true, || Ok(None)).unwrap_err().message.contains("ended"));
    }

    #[test]
    fn what_is_about_to_run_is_waited_for() {
        for open in [
            r#"{"Status": "created"}"#,
            r#"{"Status": "restarting"}"#,
            r#"{"Status": "running", "Health": {"Status": "starting"}}"#,
        ] {
            assert_eq!(runs("a", &state(open)), None, "{open}");
        }
        assert_eq!(runs("a", &state(r#"{"Status": "running"}"#)), Some(Ok(())));
        let again = r#"{"Status": "restarting", "Restarting": true, "ExitCode": 2}"#;
        assert!(lives("a", &state(again)).unwrap().unwrap_err().message.contains("exited (2)"));
        assert_eq!(lives("a", &state(r#"{"Status": "created"}"#)), None);
        let ended = runs("a", &state(r#"{"Status": "exited", "ExitCode": 3}"#));
        assert_eq!(ended, Some(Err(Failure::new("container a exited (3)"))));
    }
}
