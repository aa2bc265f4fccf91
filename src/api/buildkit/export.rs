//! What becomes of what was built: images, pushes, archives and files at the client's.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cais_dockerfile::Platform;
use cais_proto::buildkit::control::Exporter;
use cais_proto::buildkit::filesync::BytesMessage;
use cais_proto::buildkit::filesync::file_send_client::FileSendClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::BuildKit;
use super::attrs::{Asked, is_true};
use super::board::Task;
use super::caches;
use super::compression;
use super::errors::failed_call;
use super::job::{Job, Made, Outcome};
use super::send;
use super::session::Session;
use super::statements::{self, Naming};
use super::wire::Caller;
use crate::api::docker::convert::build;
use crate::engine::actions::ImageAct;
use crate::error::{Context, Error, Kind, Result};
use crate::image::compression::Compression;
use crate::image::index::Variant;
use crate::image::pack::{self, Tree};
use crate::image::pieces::{self, Pieces};
use crate::image::reference::Reference;
use crate::image::save::{Saved, save, save_index};
use crate::image::{ImageId, push};

/// Of the client: exporters with a place at the client's are told apart by their number.
pub(super) const EXPORTER: &str = "buildkit-attachable-exporter-id";
const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// Messages that are not on their way yet.
const BACKLOG: usize = 4;

/// What the client is told in the end.
pub(super) type Response = BTreeMap<String, String>;

/// # Errors
/// `Unsupported`, by name, for what we lack, before anything is built.
pub(super) fn check(exporters: &[Exporter]) -> Result<()> {
    for Exporter { r#type, attrs } in exporters {
        let lacks = |what: &str| {
            let text = format!("the output {:?}: {what} is not supported yet", r#type.as_str());
            Err(Error::new(Kind::Unsupported, text))
        };
        let is_set = |key: &str| attrs.get(key).is_some_and(|value| is_true(value));
        match r#type.as_str() {
            "moby" | "image" | "tar" => {}
            "local" if attrs.get("mode").is_some_and(|mode| mode != "copy") => {
                return lacks("mode");
            }
            "local" => {}
            "oci" | "docker" if attrs.get("tar").is_some_and(|value| !is_true(value)) => {
                return lacks("tar=false");
            }
            "oci" | "docker" => {}
            _ => return lacks("it"),
        }
        for key in ["push-by-digest", "rewrite-timestamp"] {
            if is_set(key) {
                return lacks(key);
            }
        }
        compression::read(attrs)?;
        if attrs.keys().any(|key| key.starts_with("annotation")) {
            return lacks("annotations");
        }
        names(attrs)?;
    }
    Ok(())
}

/// Whether files of a platform are in a directory that is named for it.
fn is_split(attrs: &BTreeMap<String, String>, has_platforms: bool) -> bool {
    attrs.get("platform-split").map_or(has_platforms, |value| is_true(value))
}

/// What an output cannot hold of what is going to be built.
///
/// # Errors
/// `Unsupported`, by name, before anything is built.
pub(super) fn check_parts(exporters: &[Exporter], asked: &Asked) -> Result<()> {
    let has_provenance = asked.provenance.as_ref().is_some_and(|it| !it.is_inline_only);
    let is_attested = has_provenance || asked.sbom.is_some();
    for exporter in exporters {
        let is_index = exporter.r#type == "oci" || pushes(exporter);
        let output = exporter.r#type.as_str();
        let (is_files, has_many) = (matches!(output, "local" | "tar"), asked.platforms.len() > 1);
        if is_files && has_many && !is_split(&exporter.attrs, asked.has_platforms) {
            let text = format!("the output {output:?}: platform-split=false is not supported yet");
            return Err(Error::new(Kind::Unsupported, text));
        }
        let what = match (is_index || is_files, has_many, is_attested) {
            (false, true, _) => "an image of several platforms",
            (false, _, true) => "an attestation",
            _ => continue,
        };
        return Err(Error::new(
            Kind::Unsupported,
            format!("the output {output:?} cannot hold {what}: push it, or use the output \"oci\""),
        ));
    }
    Ok(())
}

fn pushes(exporter: &Exporter) -> bool {
    let is_image = matches!(exporter.r#type.as_str(), "moby" | "image");
    is_image && exporter.attrs.get("push").is_some_and(|value| is_true(value))
}

/// Names that the image is to have.
fn names(attrs: &BTreeMap<String, String>) -> Result<Vec<Reference>> {
    let text = attrs.get("name").map(String::as_str).unwrap_or_default();
    text.split(',').filter(|name| !name.is_empty()).map(build::tag).collect()
}

/// All that was asked for, one after the other.
pub(super) async fn export(kit: &BuildKit, job: &Job, outcome: &Outcome) -> Result<Response> {
    let session = kit.0.sessions.find(&job.request.session).await?;
    // Outputs of one image alone are of the first, and were refused where there are more.
    let Some(first) = outcome.parts.first() else { return Ok(Response::new()) };
    let mut response = Response::new();
    for (number, exporter) in job.request.exporters.iter().enumerate() {
        let export = Export { kit, job, outcome, made: first, session: &session, number };
        response.extend(export.one(exporter).await?);
    }
    response.extend(caches::write(kit, job, outcome, &session).await?);
    Ok(response)
}

struct Export<'a> {
    kit: &'a BuildKit,
    job: &'a Job,
    outcome: &'a Outcome,
    made: &'a Arc<Made>,
    session: &'a Session,
    number: usize,
}

impl Export<'_> {
    async fn one(&self, exporter: &Exporter) -> Result<Response> {
        let attrs = &exporter.attrs;
        let name = match exporter.r#type.as_str() {
            "local" => "exporting to client directory",
            "tar" => "exporting to client tarball",
            "oci" => "exporting to oci image format",
            "docker" => "exporting to docker image format",
            _ => "exporting to image",
        };
        let mut task = self.job.board.begin(name);
        let done = match exporter.r#type.as_str() {
            "local" => self.files(attrs, &mut task).await,
            "tar" => self.tar(attrs, &mut task).await,
            "oci" if self.needs_index() => self.index(attrs, &mut task).await,
            "oci" | "docker" => self.archive(attrs, &mut task).await,
            _ if pushes(exporter) && self.needs_index() => self.push_index(attrs, &mut task).await,
            _ => self.image(attrs, &mut task).await,
        };
        task.ended(&done);
        done
    }

    async fn image(&self, attrs: &BTreeMap<String, String>, task: &mut Task) -> Result<Response> {
        let names = names(attrs)?;
        task.part("exporting layers", (0, 0), false);
        let id = self.made.built.image(&names).await?;
        task.part("exporting layers", (0, 0), true);
        task.part(&format!("writing image {id}"), (0, 0), true);
        for name in &names {
            let name = name.tagged_name().unwrap_or_default();
            task.part(&format!("naming to {name}"), (0, 0), true);
        }
        let mut response = about(&id, &names);
        if attrs.get("push").is_some_and(|value| is_true(value)) {
            for name in &names {
                let digest = self.push(name, Some(&id), compression::read(attrs)?).await?;
                response.insert("containerimage.digest".to_owned(), digest);
            }
        }
        Ok(response)
    }

    fn needs_index(&self) -> bool {
        let Outcome { parts, has_platforms } = self.outcome;
        *has_platforms || parts.iter().any(|made| !made.predicates.is_empty())
    }

    async fn variants(&self) -> Result<Vec<Variant>> {
        let mut variants = Vec::new();
        for made in &self.outcome.parts {
            let held = made.built.held().await?;
            variants.push(Variant { held, predicates: made.predicates.clone() });
        }
        Ok(variants)
    }

    /// The image of this machine's platform stays here under the names, if it is among them.
    async fn push_index(
        &self,
        attrs: &BTreeMap<String, String>,
        task: &mut Task,
    ) -> Result<Response> {
        let names = names(attrs)?;
        task.part("exporting layers", (0, 0), false);
        let host = Platform::host().to_string();
        let own = self.outcome.parts.iter().find(|made| made.platform == host);
        let mut response = Response::new();
        if let Some(own) = own {
            response = about(&own.built.image(&names).await?, &names);
        }
        task.part("exporting layers", (0, 0), true);
        for name in &names {
            let digest = self.push(name, None, compression::read(attrs)?).await?;
            response.insert("containerimage.digest".to_owned(), digest);
        }
        response.insert("image.name".to_owned(), tagged(&names));
        Ok(response)
    }

    /// An OCI layout.
    async fn index(&self, attrs: &BTreeMap<String, String>, task: &mut Task) -> Result<Response> {
        let names = names(attrs)?;
        let (store, variants) = (self.kit.0.engine.images().clone(), self.variants().await?);
        let (named, packed) = (names.clone(), compression::read(attrs)?);
        let archive = pieces::send(move |out| save_index(&store, &variants, &named, packed, out));
        self.send(archive, "sending tarball", task).await?;
        Ok(Response::from([("image.name".to_owned(), tagged(&names))]))
    }

    /// The digest of what the name stands for now: an image, or the index of all that was built.
    async fn push(
        &self,
        name: &Reference,
        image: Option<&ImageId>,
        compression: Compression,
    ) -> Result<String> {
        let shown = name.tagged_name().unwrap_or_default();
        let mut task = self.job.board.begin(&format!("pushing {shown}"));
        let pushed = self.push_told((name, compression), image, &mut task).await;
        task.ended(&pushed);
        pushed.with_context(|| format!("failed to push {shown}"))
    }

    async fn push_told(
        &self,
        (name, compression): (&Reference, Compression),
        image: Option<&ImageId>,
        task: &mut Task,
    ) -> Result<String> {
        let engine = &self.kit.0.engine;
        let credentials = self.session.credentials(name.registry()).await?;
        let to = (name, &credentials);
        let (events, told) = mpsc::channel(1);
        let Some(id) = image else {
            let variants = self.variants().await?;
            let pushing = push::push_index(engine.images(), (variants, compression), to, &events);
            return Ok(follow(task, told, pushing).await?.digest.to_string());
        };
        let gone = || Error::not_found(format!("No such image: {id}"));
        let held = engine.images().hold(&id.to_string()).ok_or_else(gone)?;
        let pushing = push::push(engine.images(), (held, compression), to, &events);
        let pushed = follow(task, told, pushing).await?;
        engine.image_done(id, ImageAct::Push(name));
        Ok(pushed.digest.to_string())
    }

    /// An image as one archive. It is not one of ours.
    async fn archive(&self, attrs: &BTreeMap<String, String>, task: &mut Task) -> Result<Response> {
        let names = names(attrs)?;
        task.part("exporting layers", (0, 0), false);
        let held = self.made.built.held().await?;
        task.part("exporting layers", (0, 0), true);
        let id = held.image.id.clone();
        let tags = names.iter().filter_map(Reference::tagged_name).collect();
        let (store, saved) = (self.kit.0.engine.images().clone(), [Saved { held, tags }]);
        let packed = compression::read(attrs)?;
        let archive = pieces::send(move |out| save(&store, &saved, packed, out));
        self.send(archive, "sending tarball", task).await?;
        Ok(about(&id, &names))
    }

    /// What was built, in a directory for each platform or at the top, with what is attested of it beside; for a thread that may block.
    fn trees(
        &self,
        attrs: &BTreeMap<String, String>,
    ) -> impl FnOnce() -> Result<Vec<Tree>> + Send + 'static {
        let has_platforms = self.outcome.has_platforms;
        let is_split = is_split(attrs, has_platforms);
        let parts = self.outcome.parts.iter().take(if is_split { usize::MAX } else { 1 });
        let mut parts: Vec<_> = parts
            .map(|made| {
                let name = if is_split { made.platform.replace('/', "_") } else { String::new() };
                (name, Naming::of(attrs, made, has_platforms, is_split), made.clone())
            })
            .collect();
        parts.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let open = |(name, naming, made): (String, Naming, Arc<Made>)| {
            let root = made.built.files()?;
            let more = statements::about(&root, &made.predicates, &naming)?;
            Ok(Tree { name: name.into(), root, more, time: made.time })
        };
        move || parts.into_iter().map(open).collect()
    }

    async fn files(&self, attrs: &BTreeMap<String, String>, task: &mut Task) -> Result<Response> {
        if !self.session.offers(SEND) {
            return Err(Error::invalid("the client has no place for files"));
        }
        task.part("copying files", (0, 0), false);
        let number = MetadataValue::from(self.number as u64);
        send::send(self.session, number, self.trees(attrs)).await.context("send files")?;
        task.part("copying files", (0, 0), true);
        Ok(Response::new())
    }

    async fn tar(&self, attrs: &BTreeMap<String, String>, task: &mut Task) -> Result<Response> {
        let trees = self.trees(attrs);
        let archive =
            pieces::send(move |out| pack::write_each(&trees()?, pack::Extent::Files, out));
        self.send(archive, "sending tarball", task).await?;
        Ok(Response::new())
    }

    async fn send(&self, mut archive: Pieces, part: &str, task: &mut Task) -> Result<()> {
        if !self.session.offers(SEND) {
            return Err(Error::invalid("the client has no place for an archive"));
        }
        let (pieces, outgoing) = mpsc::channel(BACKLOG);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        let number = MetadataValue::from(self.number as u64);
        request.metadata_mut().insert(EXPORTER, number);
        let mut client = FileSendClient::with_origin(self.session.caller(), Caller::origin());
        task.part(part, (0, 0), false);
        let reading = async move {
            while let Some(piece) = archive.recv().await {
                let data: Bytes = piece?;
                if pieces.send(BytesMessage { data }).await.is_err() {
                    break;
                }
            }
            Ok::<(), Error>(())
        };
        let sending = async {
            let answer = client.diff_copy(request).await.map_err(|status| failed_call(&status))?;
            let mut answer = answer.into_inner();
            // The client closes what it writes to, and then the call.
            while answer.message().await.map_err(|status| failed_call(&status))?.is_some() {}
            Ok::<(), Error>(())
        };
        let (read, sent) = tokio::join!(reading, sending);
        read?;
        sent.context("send the archive")?;
        task.part(part, (0, 0), true);
        Ok(())
    }
}

/// What `--metadata-file`, `--iidfile` and `-q` are made of.
fn about(id: &ImageId, names: &[Reference]) -> Response {
    let mut response = Response::new();
    response.insert("containerimage.config.digest".to_owned(), id.to_string());
    response.insert("containerimage.digest".to_owned(), id.to_string());
    if !names.is_empty() {
        response.insert("image.name".to_owned(), tagged(names));
    }
    response
}

fn tagged(names: &[Reference]) -> String {
    names.iter().filter_map(Reference::tagged_name).collect::<Vec<_>>().join(",")
}

/// Shows what becomes of the layers meanwhile.
async fn follow(
    task: &mut Task,
    mut told: mpsc::Receiver<push::Event>,
    pushing: impl Future<Output = Result<push::Pushed>>,
) -> Result<push::Pushed> {
    let mut pushing = std::pin::pin!(pushing);
    loop {
        tokio::select! {
            Some(event) = told.recv() => show(task, &event),
            pushed = &mut pushing => return pushed,
        }
    }
}

fn show(task: &mut Task, event: &push::Event) {
    let short = event.diff_id().hex().get(..12).unwrap_or_default();
    let part = format!("pushing layer {short}");
    match event {
        push::Event::Preparing(_) => {}
        push::Event::Pushing { .. } => {
            task.part(&part, event.progress().unwrap_or_default(), false);
        }
        push::Event::Present(_) => {
            task.part(&format!("layer {short} already exists"), (0, 0), true);
        }
        push::Event::Mounted(_, from) => {
            task.part(&format!("mounting layer {short} from {from}"), (0, 0), true);
        }
        push::Event::Pushed(_) => task.part(&part, (0, 0), true),
    }
}
