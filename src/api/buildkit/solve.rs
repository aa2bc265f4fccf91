//! The Dockerfile frontend: from its attributes to what was built.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_dockerfile::Platform;
use cais_proto::buildkit::control::Definition;
use tokio::sync::mpsc;
use tonic::Status;

use super::BuildKit;
use super::attest::{Facts, Sbom};
use super::attrs::{self, Asked, Attrs};
use super::caches;
use super::checks;
use super::client::{Dockerfile, SessionClient};
use super::errors::{self, Source};
use super::export;
use super::job::{Job, Made, Outcome};
use super::linked::Inputs;
use super::outline;
use super::sbom;
use super::scan::{self, Generator};
use super::steps::Steps;
use super::targets;
use crate::builder::{Built, Options, Prepared, Scanned};
use crate::config::Entitlement;
use crate::error::{Error, Kind};
use crate::image::index::Predicate;

/// What a slow board has not taken yet.
const BACKLOG: usize = 64;

/// What the Dockerfile frontend of BuildKit is called, as a part of the daemon and as an image.
const DOCKERFILE: &str = "dockerfile.v0";
const CHECK: &str = "frontend.lint";
const TARGETS: &str = "frontend.targets";
const OUTLINE: &str = "frontend.outline";
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

/// Whether a client allows a Dockerfile commands that are privileged.
///
/// # Errors
/// `Forbidden` for what the daemon does not let it.
pub(in crate::api) fn allows_insecure(
    asked: &[impl AsRef<str>],
    allowed: &[Entitlement],
) -> Result<bool, Error> {
    let mut is_allowed = false;
    for name in asked {
        match name.as_ref() {
            "security.insecure" if allowed.contains(&Entitlement::Insecure) => is_allowed = true,
            // The network is asked for besides.
            "network.host" => {}
            "security.insecure" => {
                return Err(Error::new(
                    Kind::Forbidden,
                    "granting entitlement security.insecure is not allowed by build daemon configuration",
                ));
            }
            other => return Err(Error::invalid(format!("unknown entitlement {other:?}"))),
        }
    }
    Ok(is_allowed)
}

/// What a client gets that has asked.
pub(super) enum Solved {
    Built(Outcome),
    /// A description, by the names of its forms.
    Described(BTreeMap<String, Vec<u8>>),
}

/// Builds the stages that the target needs, or describes them. Whoever drops the future cancels the
/// build.
pub(super) async fn solve(
    kit: &BuildKit,
    job: &Job,
    attrs: &Attrs,
    inputs: &Inputs,
) -> Result<Solved, Status> {
    let gateway = kit.0.engine.node_network().map(|(_, gateway, _)| gateway);
    let mut asked = attrs::read(attrs, inputs, gateway).map_err(|error| errors::refused(&error))?;
    let allows = allows_insecure(&job.request.entitlements, kit.0.engine.entitlements());
    asked.options.allows_insecure = allows.map_err(|error| errors::refused(&error))?;
    let request = asked.request.as_deref();
    let known = [CHECK, TARGETS, OUTLINE];
    if let Some(request) = request.filter(|request| !known.contains(request)) {
        return Err(errors::unsupported(&format!("the request {request:?}")));
    }
    let session = kit.0.sessions.find(&job.request.session).await;
    let session = session.map_err(|error| errors::refused(&error))?;
    let client = SessionClient::of(kit, &job.board, session.clone(), &asked).await;
    let mut client = client.map_err(|error| errors::refused(&error))?;
    let name = asked.options.dockerfile.clone();
    let dockerfile = client.dockerfile(asked.dockerfile.as_deref(), &name).await;
    let Dockerfile { text, task, .. } = dockerfile.map_err(|error| errors::refused(&error))?;
    let source = Source { name, text };
    let described = match request {
        Some(TARGETS) => Some(targets::describe(&source.text)),
        Some(OUTLINE) => Some(outline::describe(&source.text, &asked.options)),
        _ => None,
    };
    if let Some(described) = described {
        let described = described.map_err(|error| errors::wrong(&error, &source))?;
        return Ok(Solved::Described(described));
    }
    let report = checks::report(&source.text, &asked.options);
    if request == Some(CHECK) {
        return Ok(Solved::Described(checks::describe(&report, &source)));
    }
    if let Some(task) = task {
        checks::warn(&report, &source, &task);
    }
    export::check_parts(&job.request.exporters, &asked).map_err(|error| errors::refused(&error))?;
    let sources = caches::open(kit, job, &session, &asked.platforms).await;
    asked.options.caches = sources.map_err(|error| errors::refused(&error))?;
    asked.options.has_inline_cache = caches::is_inline(job);
    let client = Arc::new(client);
    let built = platforms(kit, job, (attrs, &asked), (&client, &source)).await;
    client.give_back();
    built.map(|parts| Solved::Built(Outcome { parts, has_platforms: asked.has_platforms }))
}

/// For one platform after the other.
async fn platforms(
    kit: &BuildKit,
    job: &Job,
    (attrs, asked): (&Attrs, &Asked),
    (client, source): (&Arc<SessionClient>, &Source),
) -> Result<Vec<Arc<Made>>, Status> {
    let mut made = Vec::new();
    for platform in &asked.platforms {
        let began = jiff::Timestamp::now();
        let options = Options { platform: platform.clone(), ..asked.options.clone() };
        let prepared = kit.0.builder.prepare(&source.text, client.clone(), options);
        let prepared = prepared.map_err(|failure| errors::failed(&failure, source))?;
        let shown = if asked.has_platforms { platform } else { "" };
        let built = stages(job, prepared, (source, shown)).await?;
        let platform = match platform.as_str() {
            "" => Platform::host().to_string(),
            text => text.to_owned(),
        };
        let facts = Facts {
            id: &job.request.r#ref,
            attrs,
            source,
            bases: &built.bases(),
            began,
            ended: jiff::Timestamp::now(),
        };
        let time = given_time(&asked.options).unwrap_or(facts.ended);
        let mut predicates: Vec<_> =
            asked.provenance.iter().map(|provenance| provenance.of(&facts)).collect();
        let built = Arc::new(built);
        match &asked.sbom {
            None => {}
            Some(Sbom::Own) => {
                let scanning = listed((kit, job, client), &asked.options, &built, time);
                predicates.extend(Box::pin(scanning).await?);
            }
            Some(Sbom::By(generator)) => {
                let scanning = scanned((kit, job, client), &asked.options, generator, &built);
                predicates.extend(Box::pin(scanning).await?);
            }
        }
        let time = u64::try_from(time.as_second()).unwrap_or_default();
        made.push(Arc::new(Made { platform, built, predicates, time }));
    }
    Ok(made)
}

/// A build of our own, for the same client.
async fn aside(
    (kit, job, client): (&BuildKit, &Job, &Arc<SessionClient>),
    name: &str,
    (text, options): (String, Options),
) -> Result<Arc<Built>, Status> {
    let source = Source { name: name.to_owned(), text };
    let prepared = kit.0.builder.prepare(&source.text, client.clone(), options);
    let prepared = prepared.map_err(|failure| errors::failed(&failure, &source))?;
    stages(job, prepared, (&source, "")).await.map(Arc::new)
}

/// The packages in what was built, and in what else the Dockerfile wants seen.
async fn listed(
    parts: (&BuildKit, &Job, &Arc<SessionClient>),
    asked: &Options,
    built: &Arc<Built>,
    created: jiff::Timestamp,
) -> Result<Vec<Predicate>, Status> {
    let Scanned { has_context, stages } = built.scanned();
    let name = name_of(parts.1);
    let mut listed = vec![(name.to_owned(), sbom::file_name(None), built.clone())];
    for (stage, built) in stages {
        listed.push((format!("{name}: stage {stage}"), sbom::file_name(Some(&stage)), built));
    }
    if has_context {
        let built = aside(parts, "the context of an SBOM", scan::context(asked)).await?;
        let file = sbom::file_name(Some(sbom::CONTEXT));
        listed.push((format!("{name}: build context"), file, built));
    }
    let mut predicates = Vec::new();
    for (name, file, built) in listed {
        let inventory = built.inventory().await.map_err(|error| errors::refused(&error))?;
        predicates.push(sbom::predicate((&name, file), &inventory, created));
    }
    Ok(predicates)
}

/// What a generator says of what was built.
async fn scanned(
    parts: (&BuildKit, &Job, &Arc<SessionClient>),
    asked: &Options,
    generator: &Generator,
    built: &Arc<Built>,
) -> Result<Vec<Predicate>, Status> {
    let job = parts.1;
    let name = format!("the scan by {}", generator.name());
    let run = async |build: (String, Options)| aside(parts, &name, build).await;
    let task = job.board.begin(&format!("generating sbom using {}", generator.name()));
    let refused = |error: Error| errors::refused(&error);
    let scanning = async {
        let image = run(generator.fetching(asked)).await?;
        let scan = generator.scan(asked, image, (built.clone(), built.scanned()));
        let scan = scan.await.map_err(refused)?;
        let scan = run(scan).await?;
        let reading = tokio::task::spawn_blocking(move || scan::predicates(&scan.files()?));
        let read = reading.await.map_err(|_| Status::internal("the scan ended early"))?;
        read.map_err(refused)
    };
    let scanned = scanning.await;
    match &scanned {
        Ok(_) => task.done(false),
        Err(status) => task.failed(status.message()),
    }
    scanned
}

/// The time that all of an image has, if the client gives one.
fn given_time(options: &Options) -> Option<jiff::Timestamp> {
    let seconds = options.build_args.get("SOURCE_DATE_EPOCH")?.as_ref()?;
    jiff::Timestamp::from_second(seconds.parse().ok()?).ok()
}

/// Of the image, for people.
fn name_of(job: &Job) -> &str {
    let names = job.request.exporters.iter().filter_map(|exporter| exporter.attrs.get("name"));
    names.map(String::as_str).find(|name| !name.is_empty()).unwrap_or("image")
}

async fn stages(
    job: &Job,
    prepared: Prepared,
    (source, platform): (&Source, &str),
) -> Result<Built, Status> {
    let (events, mut told) = mpsc::channel(BACKLOG);
    let mut steps = Steps::on(&job.board, platform);
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
