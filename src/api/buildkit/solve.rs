//! The Dockerfile frontend: from its attributes to what was built.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_proto::buildkit::control::Definition;
use tokio::sync::mpsc;
use tonic::Status;

use super::BuildKit;
use super::attrs::{self, Attrs};
use super::checks;
use super::client::{Dockerfile, SessionClient};
use super::errors::{self, Source};
use super::job::Job;
use super::steps::Steps;
use super::targets;
use crate::builder::{Built, Prepared};

/// What a slow board has not taken yet.
const BACKLOG: usize = 64;

/// What the Dockerfile frontend of BuildKit is called, as a part of the daemon and as an image.
const DOCKERFILE: &str = "dockerfile.v0";
const CHECK: &str = "frontend.lint";
const TARGETS: &str = "frontend.targets";
const GATEWAY: &str = "gateway.v0";
const FRONTEND_IMAGES: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// # Errors
/// Unless there is none.
pub(super) fn check_definition(definition: Option<&Definition>) -> Result<(), Status> {
    match definition.is_some_and(|definition| !definition.def.is_empty()) {
        true => Err(errors::unsupported("a build that is given as LLB and not as a Dockerfile")),
        false => Ok(()),
    }
}

/// # Errors
/// For all but Dockerfiles.
pub(super) fn check_frontend(
    frontend: &str,
    attrs: &Attrs,
    definition: Option<&Definition>,
) -> Result<(), Status> {
    check_definition(definition)?;
    let is_ours = match frontend {
        DOCKERFILE => true,
        // `# syntax=docker/dockerfile:1`: the language that we have.
        GATEWAY => attrs.get("source").is_some_and(|source| {
            let name = source.split(['@', ':']).next().unwrap_or_default();
            FRONTEND_IMAGES.contains(&name.trim_start_matches("docker.io/"))
        }),
        _ => false,
    };
    match is_ours {
        true => Ok(()),
        false => Err(errors::unsupported(&format!("the build frontend {frontend:?}"))),
    }
}

/// What a client gets that has asked.
pub(super) enum Solved {
    Built(Built),
    /// A description, by the names of its forms.
    Described(BTreeMap<String, Vec<u8>>),
}

/// Builds the stages that the target needs, or describes them. Whoever drops the future cancels the
/// build.
pub(super) async fn solve(kit: &BuildKit, job: &Job, attrs: &Attrs) -> Result<Solved, Status> {
    let gateway = kit.0.engine.node_network().map(|(_, gateway, _)| gateway);
    let asked = attrs::read(attrs, gateway).map_err(|error| errors::refused(&error))?;
    let request = asked.request.as_deref();
    if let Some(request) = request.filter(|request| ![CHECK, TARGETS].contains(request)) {
        return Err(errors::unsupported(&format!("the request {request:?}")));
    }
    let (is_check, is_list) = (request == Some(CHECK), request == Some(TARGETS));
    let session = kit.0.sessions.find(&job.request.session).await;
    let session = session.map_err(|error| errors::refused(&error))?;
    let client = SessionClient::of(kit, &job.board, session, &asked).await;
    let mut client = client.map_err(|error| errors::refused(&error))?;
    let name = asked.options.dockerfile.clone();
    let dockerfile = client.dockerfile(&asked.dockerfile, &name).await;
    let Dockerfile { text, task, .. } = dockerfile.map_err(|error| errors::refused(&error))?;
    let source = Source { name, text };
    if is_list {
        let described = targets::describe(&source.text);
        let described = described.map_err(|error| errors::wrong(&error, &source))?;
        return Ok(Solved::Described(described));
    }
    let report = checks::report(&source.text, &asked.options);
    if is_check {
        return Ok(Solved::Described(checks::describe(&report, &source)));
    }
    if let Some(task) = task {
        checks::warn(&report, &source, &task);
    }
    let client = Arc::new(client);
    let prepared = kit.0.builder.prepare(&source.text, client.clone(), asked.options);
    let prepared = prepared.map_err(|failure| errors::failed(&failure, &source))?;
    let built = stages(job, prepared, &source).await;
    client.give_back();
    built.map(Solved::Built)
}

async fn stages(job: &Job, prepared: Prepared, source: &Source) -> Result<Built, Status> {
    let (events, mut told) = mpsc::channel(BACKLOG);
    let mut steps = Steps::on(&job.board);
    let mut built = prepared.start_stages(events);
    let built = loop {
        tokio::select! {
            biased;
            Some(event) = told.recv() => steps.take(event),
            built = &mut built => break built,
        }
    };
    while let Ok(event) = told.try_recv() {
        steps.take(event);
    }
    let built = built.map_err(|_| Status::internal("the build ended early"))?;
    built.map_err(|failure| {
        steps.failed(&failure);
        errors::failed(&failure, source)
    })
}
