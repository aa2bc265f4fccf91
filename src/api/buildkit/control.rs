//! `moby.buildkit.v1.Control`: what the daemon is, its builds, and what they leave.

use std::pin::Pin;
use std::sync::Arc;

use cais_proto::buildkit::control::control_server::Control;
use cais_proto::buildkit::control::frontend::Result as Returned;
use cais_proto::buildkit::control::frontend::result::Result as Refs;
use cais_proto::buildkit::control::{
    BuildkitVersion, BytesMessage, DiskUsageRequest, DiskUsageResponse, Exporter, InfoRequest,
    InfoResponse, ListWorkersRequest, ListWorkersResponse, Platform, PruneRequest, SolveRequest,
    SolveResponse, StatusRequest, StatusResponse, UsageRecord, WorkerRecord,
};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use super::BuildKit;
use super::board::timestamp;
use super::job::{Job, Outcome};
use super::linked::Inputs;
use super::session::Offer;
use super::solve::Solved;
use super::{caches, errors, export, solve, wire};
use crate::builder::{Cached, Filter, Prune, Room};
use crate::error::{Error, Kind};

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Of the host in the node's network: what `host-gateway` means.
const HOST_GATEWAY: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";

/// With it clients leave exports, pushes and caches to the daemon.
const SNAPSHOTTER: &str = "org.mobyproject.buildkit.worker.snapshotter";

/// The version of the Dockerfile language.
const DOCKERFILE: &str = "1.26";

#[tonic::async_trait]
impl Control for BuildKit {
    type PruneStream = Messages<UsageRecord>;
    type StatusStream = Messages<StatusResponse>;
    type SessionStream = Messages<BytesMessage>;

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(version()) }))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(ListWorkersResponse { record: vec![self.worker()] }))
    }

    async fn solve(
        &self,
        request: Request<SolveRequest>,
    ) -> Result<Response<SolveResponse>, Status> {
        let request = with_exporters(request.into_inner());
        let running = self.0.jobs.begin(request).map_err(|error| errors::refused(&error))?;
        let job = running.job.clone();
        let solved = self.solved(&job).await;
        if let Err(status) = &solved {
            tracing::info!(error = status.message(), "a client's build failed");
        }
        Ok(Response::new(SolveResponse { exporter_response: solved? }))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let name = request.into_inner().r#ref;
        let board = self.0.jobs.board(&name).await.map_err(|error| errors::refused(&error))?;
        Ok(Response::new(Box::pin(board.follow().map(Ok))))
    }

    /// As `POST /session`, in a call: what a client has for several builds at once comes so.
    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let offer = Offer::of(&request.metadata().clone().into_headers());
        let offer = offer.map_err(|error| errors::refused(&error))?;
        let (io, outgoing) = wire::of_call(request.into_inner());
        let kit = self.clone();
        tokio::spawn(async move {
            if let Err(error) = kit.keep_session(offer, io).await {
                tracing::info!(error = error.chain(), "a build client's session");
            }
        });
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let filter = filter_of(&request.get_ref().filter)?;
        let rows = self.0.builder.cached().await.map_err(|error| errors::refused(&error))?;
        let record = rows.iter().filter(|row| filter.takes(row)).map(usage).collect();
        Ok(Response::new(DiskUsageResponse { record }))
    }

    async fn prune(
        &self,
        request: Request<PruneRequest>,
    ) -> Result<Response<Self::PruneStream>, Status> {
        let request = request.into_inner();
        let filter = filter_of(&request.filter)?;
        let bytes = |space: i64| u64::try_from(space).unwrap_or_default();
        let room = Room {
            reserved: bytes(request.reserved_space),
            most: bytes(request.max_used_space),
            free: bytes(request.min_free_space),
        };
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let until = (request.keep_duration > 0).then(|| now - request.keep_duration);
        if filter.takes_everything() {
            self.forget_contexts(until);
        }
        let prune = Prune { all: request.all, until, filter, room };
        let pruned = self.0.builder.prune(&prune).await;
        let (gone, _) = pruned.map_err(|error| errors::refused(&error))?;
        let records: Vec<_> = gone.iter().map(usage).map(Ok).collect();
        Ok(Response::new(Box::pin(stream::iter(records))))
    }
}

impl BuildKit {
    pub(super) fn worker(&self) -> WorkerRecord {
        let host = cais_dockerfile::Platform::host();
        let gateway = self.0.engine.node_network().map(|(_, gateway, _)| gateway.to_string());
        let snapshotter = (SNAPSHOTTER.to_owned(), "overlayfs".to_owned());
        let gateway = gateway.map(|gateway| (HOST_GATEWAY.to_owned(), gateway));
        WorkerRecord {
            id: "cais".to_owned(),
            labels: [snapshotter].into_iter().chain(gateway).collect(),
            platforms: vec![Platform {
                architecture: host.architecture,
                os: host.os,
                variant: host.variant,
            }],
            buildkit_version: Some(version()),
        }
    }

    async fn solved(&self, job: &Arc<Job>) -> Result<export::Response, Status> {
        let refused = |error: Error| errors::refused(&error);
        export::check(&job.request.exporters).map_err(refused)?;
        caches::check(job).map_err(refused)?;
        let outcome = match job.request.frontend.as_str() {
            // The client drives the build, and says in the end what it came to.
            "" => {
                solve::check_definition(job.request.definition.as_ref())?;
                match job.returned().await.map_err(refused)? {
                    Ok(returned) => self.meant(job, &returned)?,
                    Err(status) => return Err(errors::of_rpc(status)),
                }
            }
            frontend => {
                let attrs = &job.request.frontend_attrs;
                solve::check_frontend(frontend, attrs, job.request.definition.as_ref())?;
                match solve::solve(self, job, attrs, &Inputs::new()).await? {
                    Solved::Built(outcome) => Some(outcome),
                    Solved::Described(_) => None,
                }
            }
        };
        match outcome {
            Some(outcome) => export::export(self, job, &outcome).await.map_err(refused),
            None => Ok(export::Response::new()),
        }
    }

    /// `None` for a build that made nothing.
    fn meant(&self, job: &Job, returned: &Returned) -> Result<Option<Outcome>, Status> {
        let (names, has_platforms): (Vec<&String>, bool) = match &returned.result {
            Some(Refs::RefDeprecated(name)) => (vec![name], false),
            Some(Refs::Ref(reference)) => (vec![&reference.id], false),
            Some(Refs::Refs(refs)) => (refs.refs.values().map(|it| &it.id).collect(), true),
            None => (Vec::new(), false),
        };
        let names = names.into_iter().filter(|name| !name.is_empty());
        let parts: Result<Vec<_>, Error> = names.map(|name| job.made(name)).collect();
        let parts = parts.map_err(|error| errors::refused(&error))?;
        Ok(Some(Outcome { parts, has_platforms }).filter(|outcome| !outcome.parts.is_empty()))
    }
}

/// Old clients name one exporter, in fields of their own.
fn with_exporters(mut request: SolveRequest) -> SolveRequest {
    let r#type = std::mem::take(&mut request.exporter_deprecated);
    let attrs = std::mem::take(&mut request.exporter_attrs_deprecated);
    if request.exporters.is_empty() && !r#type.is_empty() {
        request.exporters.push(Exporter { r#type, attrs });
    }
    request
}

/// Clients send an empty one for none.
fn filter_of(filters: &[String]) -> Result<Filter, Status> {
    let mut given = filters.iter().filter(|filter| !filter.is_empty());
    let filter = match (given.next(), given.next()) {
        (None, _) => Ok(Filter::default()),
        (Some(text), None) => Filter::parse(text),
        (Some(_), Some(_)) => {
            Err(Error::new(Kind::Unsupported, "several filters are not supported yet"))
        }
    };
    filter.map_err(|error| errors::refused(&error))
}

fn usage(row: &Cached) -> UsageRecord {
    let time = |nanos: i64| jiff::Timestamp::from_nanosecond(nanos.into()).ok().map(timestamp);
    UsageRecord {
        id: row.id.clone(),
        mutable: row.kind.is_mutable(),
        in_use: row.in_use,
        size: i64::try_from(row.size).unwrap_or(i64::MAX),
        created_at: time(row.created_at),
        last_used_at: time(row.used_at),
        usage_count: i64::try_from(row.uses).unwrap_or(i64::MAX),
        description: row.description.clone(),
        record_type: row.kind.name().to_owned(),
        shared: row.is_shared,
    }
}

fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "Cais".to_owned(),
        version: concat!("cais-", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: String::new(),
        dockerfile_version: DOCKERFILE.to_owned(),
    }
}
