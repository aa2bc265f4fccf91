//! `moby.buildkit.v1.frontend.LLBBridge`: a client that drives its own build. It has one thing to ask
//! for, the Dockerfile frontend.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_dockerfile::Platform;
use cais_proto::buildkit::control::frontend::llb_bridge_server::LlbBridge;
use cais_proto::buildkit::control::frontend::result::Result as Refs;
use cais_proto::buildkit::control::frontend::{
    ApiCap, EvaluateRequest, EvaluateResponse, PingRequest, PongResponse, Ref, RefMap,
    Result as Returned, ReturnRequest, ReturnResponse, SolveRequest, SolveResponse,
};
use serde_json::json;
use tonic::{Request, Response, Status};

use super::BuildKit;
use super::job::{Job, Made, Outcome, is_over};
use super::solve::Solved;
use super::{errors, linked, solve};
use crate::error::Error;

/// The metadata that names the build.
const BUILD: &str = "buildkit-controlapi-buildid";

/// What of the calls we have: without `return` a client does not say what its build came to.
const CALLS: [&str; 9] = [
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "frontend.caps",
    "gateway.solve.metadata",
    "gateway.evaluate",
    "reference.output",
    "frontend.inputs",
];

/// What clients look for before they ask for it.
const FEATURES: [&str; 3] =
    ["exporter.multiple", "exporter.image.attestations", "gc.freespacefilter"];

/// The metadata that names the platforms of a result.
const PLATFORMS: &str = "refs.platforms";

#[tonic::async_trait]
impl LlbBridge for BuildKit {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        self.job_of(&request).await?;
        let cap = |id: &str| ApiCap { id: id.to_owned(), enabled: true };
        Ok(Response::new(PongResponse {
            frontend_api_caps: CALLS.into_iter().map(cap).collect(),
            llb_caps: FEATURES.into_iter().map(cap).collect(),
            workers: vec![self.worker()],
        }))
    }

    async fn solve(
        &self,
        request: Request<SolveRequest>,
    ) -> Result<Response<SolveResponse>, Status> {
        let job = self.job_of(&request).await?;
        let SolveRequest { definition, frontend, frontend_opt, frontend_inputs, .. } =
            request.into_inner();
        solve::check_frontend(&frontend, &frontend_opt, definition.as_ref())?;
        let refused = |error: Error| errors::refused(&error);
        let inputs = linked::inputs(&self.0.jobs, &frontend_inputs).map_err(refused)?;
        let solved = tokio::select! {
            solved = solve::solve(self, &job, &frontend_opt, &inputs) => solved?,
            () = job.over.cancelled() => return Err(refused(is_over())),
        };
        let (result, metadata) = match solved {
            Solved::Built(outcome) => named(&job, &outcome).map_err(refused)?,
            Solved::Described(forms) => (Refs::Ref(Ref::default()), forms),
        };
        let result = Some(result);
        Ok(Response::new(SolveResponse { result: Some(Returned { result, metadata }) }))
    }

    /// What has a name is built.
    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let job = self.job_of(&request).await?;
        let found = job.made(&request.get_ref().r#ref);
        found.map_err(|error| errors::refused(&error))?;
        Ok(Response::new(EvaluateResponse {}))
    }

    async fn r#return(
        &self,
        request: Request<ReturnRequest>,
    ) -> Result<Response<ReturnResponse>, Status> {
        let job = self.job_of(&request).await?;
        let ReturnRequest { result, error } = request.into_inner();
        job.returns(match error {
            Some(status) => Err(status),
            None => Ok(result.unwrap_or_default()),
        });
        Ok(Response::new(ReturnResponse {}))
    }
}

/// Keeps what was built, under names that the client gets.
fn named(job: &Job, outcome: &Outcome) -> Result<(Refs, BTreeMap<String, Vec<u8>>), Error> {
    if let ([only], false) = (outcome.parts.as_slice(), outcome.has_platforms) {
        return Ok((Refs::Ref(reference(job, only)?), BTreeMap::new()));
    }
    let (mut refs, mut platforms) = (BTreeMap::new(), Vec::new());
    for made in &outcome.parts {
        let platform = Platform::parse(&made.platform).map_err(Error::invalid)?;
        let mut parts = json!({ "architecture": platform.architecture, "os": platform.os });
        if !platform.variant.is_empty() {
            parts["variant"] = json!(platform.variant);
        }
        platforms.push(json!({ "ID": made.platform, "Platform": parts }));
        refs.insert(made.platform.clone(), reference(job, made)?);
    }
    let platforms = json!({ "Platforms": platforms }).to_string().into_bytes();
    let metadata = BTreeMap::from([(PLATFORMS.to_owned(), platforms)]);
    Ok((Refs::Refs(RefMap { refs }), metadata))
}

/// What a client knows one result by.
fn reference(job: &Job, made: &Arc<Made>) -> Result<Ref, Error> {
    let id = job.keep(made.clone())?;
    Ok(Ref { def: Some(linked::definition(&id)), id })
}

impl BuildKit {
    async fn job_of<T>(&self, request: &Request<T>) -> Result<Arc<Job>, Status> {
        let name = request.metadata().get(BUILD).and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(|| Status::invalid_argument("no build is named"))?;
        self.0.jobs.find(name).await.map_err(|error| errors::refused(&error))
    }
}
