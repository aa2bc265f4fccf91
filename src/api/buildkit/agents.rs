//! A client's ssh agents, by calls on its session: each connection of a command's is one call.

use bytes::Bytes;
use cais_proto::buildkit::ssh::ssh_client::SshClient;
use cais_proto::buildkit::ssh::{BytesMessage, CheckAgentRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use super::errors::failed_call;
use super::session::Session;
use super::wire::Caller;
use crate::error::{Context, Kind, Result};

const CHECK: &str = "/moby.sshforward.v1.SSH/CheckAgent";
/// Of the client: the metadata that names the agent.
const ID: &str = "buildkit.ssh.id";

/// Messages that are not on their way yet, and what is read for one.
const BACKLOG: usize = 4;
const PIECE: usize = 32 << 10;
/// Of one message. What agents say is at most 256 KiB long (OpenSSH's `AGENT_MAX_LEN`).
const LARGEST: usize = 1 << 20;

/// Whether the client forwards an agent of this id.
pub(super) async fn is_there(session: &Session, id: &str) -> Result<bool> {
    if !session.offers(CHECK) {
        return Ok(false);
    }
    let mut agents = SshClient::with_origin(session.caller(), Caller::origin());
    match agents.check_agent(CheckAgentRequest { id: id.to_owned() }).await {
        Ok(_) => Ok(true),
        // buildx has no code of its own for one that it lacks.
        Err(status)
            if [Code::NotFound, Code::Unknown, Code::Unimplemented].contains(&status.code()) =>
        {
            tracing::debug!(error = status.message(), "a build client's ssh agent");
            Ok(false)
        }
        Err(status) => Err(failed_call(&status)).with_context(|| format!("ask for ssh agent {id}")),
    }
}

/// Carries bytes both ways until the agent's side ends.
pub(super) async fn relay(session: &Session, id: &str, connection: UnixStream) -> Result<()> {
    let (from, to) = connection.into_split();
    let (pieces, outgoing) = mpsc::channel(BACKLOG);
    let mut request = Request::new(ReceiverStream::new(outgoing));
    let name = MetadataValue::try_from(id).context("metadata").kind(Kind::InvalidArgument)?;
    request.metadata_mut().insert(ID, name);
    // The client answers when it has something to say, which is after it was asked.
    let asking = pass_on(from, pieces);
    let answering = answer(session, request, to);
    tokio::pin!(asking, answering);
    tokio::select! {
        answered = &mut answering => answered,
        asked = &mut asking => match asked {
            Ok(()) => answering.await,
            Err(error) => Err(error),
        },
    }
}

async fn pass_on(mut from: OwnedReadHalf, pieces: mpsc::Sender<BytesMessage>) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = from.read(&mut buffer).await.context("read for an ssh agent")?;
        let data = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        // Who answers tells why nothing more is wanted.
        if data.is_empty() || pieces.send(BytesMessage { data }).await.is_err() {
            return Ok(());
        }
    }
}

async fn answer(
    session: &Session,
    request: Request<ReceiverStream<BytesMessage>>,
    mut to: OwnedWriteHalf,
) -> Result<()> {
    let agents = SshClient::with_origin(session.caller(), Caller::origin());
    let mut agents = agents.max_decoding_message_size(LARGEST);
    let answer = agents.forward_agent(request).await.map_err(|status| failed_call(&status))?;
    let mut answer = answer.into_inner();
    while let Some(message) = answer.message().await.map_err(|status| failed_call(&status))? {
        to.write_all(&message.data).await.context("write for an ssh agent")?;
    }
    Ok(())
}
