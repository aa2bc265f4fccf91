//! Files into containers and out of them, and what became of the image's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode};

use super::Door;
use super::call::Call;
use super::containers::standalone;
use super::convert::archive as convert;
use super::reply::{self, Answer};
use crate::engine::actions::Act;
use crate::error::{Context, Error, Result};
use crate::image::Overwrite;

const TAR: &str = "application/x-tar";

pub(super) async fn route(door: &Door, method: &Method, id: &str, call: Call) -> Answer {
    let path = call.query.text("path").map(str::to_owned);
    let path = path.ok_or_else(|| Error::invalid("missing required query parameter: path"))?;
    if path.contains('\0') {
        return Err(Error::invalid("invalid path: it has a NUL in it"));
    }
    match *method {
        Method::PUT => put(door, id, &path, call).await,
        _ => get(door, method, id, &path).await,
    }
}

async fn get(door: &Door, method: &Method, id: &str, path: &str) -> Answer {
    let container = standalone(door, id)?;
    let found = door.engine.find_file(&container, path).await?;
    let stat = serde_json::to_vec(&convert::path_stat(&found.stat)).context("write the reply")?;
    let stat = HeaderValue::from_str(&STANDARD.encode(stat)).context("write the reply")?;
    let mut response = if *method == Method::HEAD {
        reply::empty(StatusCode::OK)
    } else {
        door.engine.acted_on(&container.record().id, Act::File { name: "archive-path", path });
        reply::fallible_stream(TAR, crate::engine::files::archive(found))
    };
    response.headers_mut().insert("X-Docker-Container-Path-Stat", stat);
    Ok(response)
}

async fn put(door: &Door, id: &str, path: &str, call: Call) -> Answer {
    let container = standalone(door, id)?;
    let rule = match call.query.switch("noOverwriteDirNonDir") {
        true => Overwrite::SameKind,
        false => Overwrite::Anything,
    };
    // Before the client sends all of it for nothing.
    door.engine.find_file(&container, path).await?;
    let upload = receive(door, call).await?;
    door.engine.write_files(&container, path, upload, rule).await?;
    let act = Act::File { name: "extract-to-dir", path };
    door.engine.acted_on(&container.record().id, act);
    Ok(reply::empty(StatusCode::OK))
}

/// The body, kept on disk.
pub(super) async fn receive(door: &Door, call: Call) -> Result<crate::engine::files::Upload> {
    let mut upload = door.engine.begin_upload()?;
    let mut pieces = call.into_pieces();
    while let Some(piece) = pieces.next().await {
        upload.push(&piece?).await?;
    }
    Ok(upload)
}

pub(super) async fn changes(door: &Door, id: &str) -> Answer {
    let changes = door.engine.changes(&*standalone(door, id)?).await?;
    let changes: Vec<_> = changes.iter().map(convert::change).collect();
    reply::json(&Some(changes).filter(|changes| !changes.is_empty()))
}

pub(super) fn export(door: &Door, id: &str) -> Answer {
    let container = standalone(door, id)?;
    let pieces = door.engine.export(&container);
    door.engine.acted_on(&container.record().id, Act::Plain("export"));
    Ok(reply::fallible_stream("application/octet-stream", pieces))
}
