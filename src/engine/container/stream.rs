//! Exec, Attach and PortForward: the session is registered with the stream server, which talks to
//! the pod's monitor itself, so that it goes on when this daemon is gone.

use std::sync::Arc;

use super::exec::{AttachRequest, ExecRequest, plan, running};
use crate::engine::Shared;
use crate::engine::pod::phase::Phase;
use crate::error::{Context, Error, Result};
use crate::streaming::backend::{Attach, Exec, PortForward, Wanted};

/// The URL at which the client may connect once, soon.
pub(crate) async fn exec_url(
    shared: &Arc<Shared>,
    id: &str,
    request: ExecRequest,
) -> Result<String> {
    check_streams([request.stdin, request.stdout, request.stderr], request.tty)?;
    let container = running(shared, id)?;
    let plan = plan(shared, &container, &request)?;
    let monitor = shared.monitor_socket(&container.record().pod);
    let plan = rmp_serde::to_vec_named(&plan).context("encode the plan")?;
    let wanted = Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    };
    let container = container.id.clone();
    shared.streams.exec_url(Exec { monitor, container, plan, wanted }).await
}

pub(crate) async fn attach_url(
    shared: &Arc<Shared>,
    id: &str,
    request: AttachRequest,
) -> Result<String> {
    let container = running(shared, id)?;
    let record = container.record();
    let tty = record.config.tty;
    check_streams([request.stdin, request.stdout, request.stderr], tty)?;
    let wanted = Wanted {
        // Nobody reads what is written to a stdin that was never opened.
        stdin: request.stdin && record.config.stdin,
        stdout: request.stdout,
        stderr: request.stderr && !tty,
        tty,
    };
    let monitor = shared.monitor_socket(&record.pod);
    shared.streams.attach_url(Attach { monitor, container: container.id.clone(), wanted }).await
}

pub(crate) async fn port_forward_url(
    shared: &Arc<Shared>,
    pod: &str,
    ports: Vec<u16>,
) -> Result<String> {
    let pod = shared.pods.find(pod)?;
    if pod.record().phase != Phase::Ready {
        return Err(Error::wrong_state(format!("pod sandbox {} is not ready", pod.id.short())));
    }
    let monitor = shared.monitor_socket(&pod.id);
    shared.streams.port_forward_url(PortForward { monitor, pod: pod.id.clone(), ports }).await
}

fn check_streams(streams: [bool; 3], tty: bool) -> Result<()> {
    let [stdin, stdout, stderr] = streams;
    if tty && stderr {
        return Err(Error::invalid("tty and stderr cannot both be set"));
    }
    if !(stdin || stdout || stderr) {
        return Err(Error::invalid("one of stdin, stdout and stderr must be set"));
    }
    Ok(())
}
