//! Commands in running containers.

use http::StatusCode;
use tokio::io::AsyncWriteExt;

use super::call::Call;
use super::convert::create::variables;
use super::detach::Detach;
use super::hijack::{self, Framing, Stream};
use super::reply::{self, Answer};
use super::wire::exec::{CreateRequest, Created, Details, ProcessConfig, StartRequest};
use super::{Door, attach, containers};
use crate::engine::standalone::exec::{Request, State};
use crate::error::{Error, Result};

pub(super) async fn create(door: &Door, id: &str, call: Call) -> Answer {
    let container = containers::running_id(door, id)?;
    let request: CreateRequest = call.json().await?;
    let command = request.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    let detach_keys = request.detach_keys.unwrap_or_default();
    keys(&detach_keys)?;
    let request = Request {
        command,
        env: variables(&request.env.unwrap_or_default())?,
        working_dir: request.working_dir.unwrap_or_default(),
        user: request.user.unwrap_or_default(),
        privileged: request.privileged,
        tty: request.tty,
        stdin: request.attach_stdin,
        stdout: request.attach_stdout,
        stderr: request.attach_stderr,
        detach_keys,
    };
    let exec = door.engine.create_exec(&container, request)?;
    reply::created(&Created { id: exec.id.to_string() })
}

/// What the command cannot be is told in its own stream: the connection has changed hands by then.
pub(super) async fn start(door: &Door, id: &str, call: Call) -> Answer {
    let exec = door.engine.exec(id)?;
    let peer = call.peer.clone();
    let (upgrade, call) = call.split_upgrade();
    let StartRequest { detach, tty, console_size } = call.json_or_default().await?;
    let size = console_size.map(|(height, width)| (width, height));
    if detach {
        let started = door.engine.start_exec(&exec, true, size).await;
        return match started {
            Ok(_) => Ok(reply::empty(StatusCode::OK)),
            Err(error) => Err(as_docker_says(&error)),
        };
    }
    // Before the connection changes hands, what can still be refused.
    if exec.state() != State::Created {
        return Err(Error::wrong_state(format!("exec {id} has already run")));
    }
    let framing = Framing::of(tty);
    let has_keys = exec.request.tty && exec.request.stdin;
    let detach = has_keys.then(|| keys(&exec.request.detach_keys)).transpose()?;
    let engine = door.engine.clone();
    Ok(hijack::answer((upgrade, peer), framing, move |mut client| async move {
        match engine.start_exec(&exec, false, size).await {
            Ok(session) => {
                // Its code is there before the client sees the end: it asks for it then.
                let over = Box::pin(async move {
                    exec.code().await;
                });
                hijack::carry(session, client, framing, (Some(over), detach)).await
            }
            Err(error) => {
                let mut out = Vec::new();
                let text = format!("{}\r\n", as_docker_says(&error).chain());
                framing.put(&mut out, Stream::Stdout, text.as_bytes());
                client.heard().await;
                client.stream.write_all(&out).await?;
                client.stream.shutdown().await
            }
        }
    }))
}

/// By which a client leaves a command's terminal.
fn keys(text: &str) -> Result<Detach> {
    Detach::on(Some(text).filter(|text| !text.is_empty()))
}

fn as_docker_says(error: &Error) -> Error {
    let text = format!("OCI runtime exec failed: exec failed: {}", error.chain());
    Error::new(error.kind(), text)
}

pub(super) async fn resize(door: &Door, id: &str, call: &Call) -> Answer {
    let exec = door.engine.exec(id)?;
    let (width, height) = attach::size(call)?;
    exec.resize(width, height).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(super) fn inspect(door: &Door, id: &str) -> Answer {
    let exec = door.engine.exec(id)?;
    let request = &exec.request;
    let mut words = request.command.iter().cloned();
    reply::json(&Details {
        id: exec.id.to_string(),
        running: exec.state() == State::Running,
        exit_code: match exec.state() {
            State::Exited(code) => Some(code),
            State::Created | State::Running => None,
        },
        process_config: ProcessConfig {
            tty: request.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: request.privileged,
            user: request.user.clone(),
        },
        open_stdin: request.stdin,
        open_stdout: request.stdout,
        open_stderr: request.stderr,
        can_remove: false,
        container_id: exec.container.to_string(),
        detach_keys: request.detach_keys.clone(),
        pid: 0,
    })
}
