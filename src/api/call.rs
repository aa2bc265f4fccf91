//! What holds for every call: a span, the client's deadline, that a bug in one call is that
//! call's error and nobody else's, and that a call which only looks waits for none that does.
//!
//! The door has a thread of its own. What is read from memory is answered there; all else is done by the engine's threads,
//! which disks and the kernel hold up when much is made at once.
//!
//! An error is logged here, once, when it leaves.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use tokio::runtime::Handle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument, Span, field};

use super::cri::is_ours;
use crate::error::Error;

/// Longest id or name that a span shows.
const SHOWN: usize = 128;

/// The calls that are answered from memory.
const LOOKS: [&str; 9] = [
    "Version",
    "Status",
    "RuntimeConfig",
    "ListPodSandbox",
    "PodSandboxStatus",
    "ListContainers",
    "ContainerStatus",
    "ListImages",
    "ImageStatus",
];

#[derive(Debug, Clone)]
pub(super) struct CallLayer {
    /// Where what is more than a look is done.
    pub(super) engine: Handle,
    /// Holds every call until it is answered.
    pub(super) under_way: TaskTracker,
}

impl<S> Layer<S> for CallLayer {
    type Service = Call<S>;

    fn layer(&self, inner: S) -> Call<S> {
        Call { inner, engine: self.engine.clone(), under_way: self.under_way.clone() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Call<S> {
    inner: S,
    engine: Handle,
    under_way: TaskTracker,
}

impl<S> Service<Request<Body>> for Call<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadline = deadline(request.headers()).map(|after| tokio::time::Instant::now() + after);
        // `/runtime.v1.RuntimeService/Version`
        let path = request.uri().path();
        let method = path.rsplit_once('/').map_or(path, |(_, method)| method);
        let span = tracing::info_span!(
            "cri",
            method = cut(method),
            pod = field::Empty,
            container = field::Empty,
            image = field::Empty,
        );
        // The one that was polled ready, not its clone, must take the call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let engine = (!LOOKS.contains(&method)).then(|| self.engine.clone());
        let guarded = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
        let guarded = run_on(engine, guarded.instrument(span.clone()));
        let answer = async move {
            let mut closing = Closing { started: Instant::now(), is_answered: false };
            let answered = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, guarded).await,
                None => Ok(guarded.await),
            };
            let response = match answered {
                Ok(Some(Ok(response))) => response?,
                Ok(Some(Err(panic))) => Status::from(bug(panic.as_ref())).into_http(),
                Ok(None) => Status::unavailable("the daemon is going down").into_http(),
                Err(_) => Status::deadline_exceeded("the client's deadline has passed").into_http(),
            };
            closing.with(response.extensions().get::<Status>());
            Ok(response)
        };
        Box::pin(self.under_way.track_future(answer.instrument(span)))
    }
}

/// Runs it there, or here. When the waiting future is dropped, so is it. `None`: the threads are gone.
async fn run_on<F>(there: Option<Handle>, work: F) -> Option<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    match there {
        Some(threads) => AbortOnDropHandle::new(threads.spawn(work)).await.ok(),
        None => Some(work.await),
    }
}

/// The client sees that it is our fault; what was said goes to the log.
pub(super) fn bug(panic: &(dyn std::any::Any + Send)) -> Error {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(said, "a call panicked");
    Error::internal("a bug in the runtime ended this call; its log has the details")
}

/// Closes a call's span, also when the client goes away and the call is dropped.
struct Closing {
    started: Instant,
    is_answered: bool,
}

impl Closing {
    fn with(&mut self, status: Option<&Status>) {
        self.is_answered = true;
        let duration = self.started.elapsed();
        let Some(status) = status.filter(|status| status.code() != Code::Ok) else {
            return tracing::debug!(?duration, "answered");
        };
        let (code, error) = (status.code(), status.message());
        if is_ours(code) {
            tracing::warn!(?duration, ?code, error, "failed");
        } else {
            tracing::info!(?duration, ?code, error, "refused");
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if !self.is_answered {
            tracing::debug!(duration = ?self.started.elapsed(), "the client went away");
        }
    }
}

/// Tells the span of the running call which object it is about.
pub(super) fn about(kind: &'static str, id: &str) {
    Span::current().record(kind, cut(id));
}

/// As much of a text from outside as a span shows.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(SHOWN).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// The `grpc-timeout` header: at most eight digits and a unit. One that is malformed is no
/// deadline.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = matches!(digits.len(), 1..=8) && digits.bytes().all(|it| it.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use cais_proto::runtime::v1;
    use cais_proto::runtime::v1::image_service_server::{ImageService, ImageServiceServer};
    use cais_proto::runtime::v1::{PullImageRequest, PullImageResponse};
    use http_body_util::{BodyExt, Full};
    use tokio_stream::wrappers::UnixListenerStream;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::api::socket::{Access, Socket};

    fn request(timeout: Option<&str>) -> Request<Body> {
        let mut request = Request::builder().uri("/runtime.v1.ImageService/PullImage");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        request.body(Body::empty()).unwrap()
    }

    async fn status<F>(answer: fn() -> F, timeout: Option<&str>) -> Option<Status>
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let inner = service_fn(move |_| async move { Ok::<_, Infallible>(answer().await) });
        let response = CallLayer { engine: Handle::current(), under_way: TaskTracker::new() }
            .layer(inner)
            .oneshot(request(timeout))
            .await
            .unwrap();
        assert_eq!(response.headers().get("content-type").unwrap(), "application/grpc");
        response.extensions().get::<Status>().cloned()
    }

    #[tokio::test]
    async fn a_call_that_outlives_its_deadline_is_answered_at_once() {
        let started = Instant::now();
        let status = status(std::future::pending, Some("1m")).await.unwrap();

        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_panic_is_the_error_of_one_call() {
        let status = status(|| async { panic!("the secret of room 101") }, None).await.unwrap();

        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("101"));
    }

    #[tokio::test]
    async fn an_answer_in_time_passes_as_it_is() {
        let answer = || async { Status::not_found("no pod").into_http() };
        let status = status(answer, Some("10S")).await.unwrap();

        assert_eq!((status.code(), status.message()), (Code::NotFound, "no pod"));
    }

    /// An image service whose calls never end, panic or answer.
    struct Odd;

    #[tonic::async_trait]
    impl ImageService for Odd {
        async fn pull_image(
            &self,
            _: tonic::Request<PullImageRequest>,
        ) -> Result<tonic::Response<PullImageResponse>, Status> {
            std::future::pending().await
        }

        async fn remove_image(
            &self,
            _: tonic::Request<v1::RemoveImageRequest>,
        ) -> Result<tonic::Response<v1::RemoveImageResponse>, Status> {
            panic!("on purpose")
        }

        async fn list_images(
            &self,
            _: tonic::Request<v1::ListImagesRequest>,
        ) -> Result<tonic::Response<v1::ListImagesResponse>, Status> {
            Ok(tonic::Response::new(v1::ListImagesResponse::default()))
        }

        async fn image_status(
            &self,
            _: tonic::Request<v1::ImageStatusRequest>,
        ) -> Result<tonic::Response<v1::ImageStatusResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn image_fs_info(
            &self,
            _: tonic::Request<v1::ImageFsInfoRequest>,
        ) -> Result<tonic::Response<v1::ImageFsInfoResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        type StreamImagesStream = tokio_stream::Empty<Result<v1::StreamImagesResponse, Status>>;

        async fn stream_images(
            &self,
            _: tonic::Request<v1::StreamImagesRequest>,
        ) -> Result<tonic::Response<Self::StreamImagesStream>, Status> {
            Err(Status::unimplemented(""))
        }
    }

    /// tonic itself answers a deadline with `Cancelled`; ours must come first, on a real socket.
    #[tokio::test]
    async fn over_a_socket_a_deadline_and_a_panic_end_one_call_each() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cri.sock");
        let socket = Socket::bind(&path, Access::Owner).unwrap();
        let incoming = UnixListenerStream::new(socket.listener().unwrap());
        let server = tonic::transport::Server::builder()
            .layer(CallLayer { engine: Handle::current(), under_way: TaskTracker::new() })
            .add_service(ImageServiceServer::new(Odd))
            .serve_with_incoming(incoming);
        let server = tokio::spawn(server);
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (client, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        // Not tonic's client: that one ends calls by the same header itself.
        let status = async |method: &str, timeout: &str| {
            let request =
                Request::post(format!("http://localhost/runtime.v1.ImageService/{method}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .header("grpc-timeout", timeout)
                    // An empty message: not compressed, length zero.
                    .body(Full::new(Bytes::from_static(&[0; 5])))
                    .unwrap();
            let response = client.clone().send_request(request).await.unwrap();
            let (head, body) = response.into_parts();
            let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
            let status = Status::from_header_map(&head.headers)
                .or_else(|| Status::from_header_map(&trailers));
            status.map(|status| status.code())
        };

        for _ in 0..20 {
            assert_eq!(status("PullImage", "1m").await, Some(Code::DeadlineExceeded));
        }
        assert_eq!(status("RemoveImage", "10S").await, Some(Code::Internal));
        assert_eq!(status("ListImages", "10S").await, Some(Code::Ok));
        server.abort();
    }

    #[test]
    fn a_deadline_is_digits_and_a_unit() {
        let read = |text: &str| deadline(request(Some(text)).headers());
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("999m"), Some(Duration::from_millis(999)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for text in ["", "1", "m", "-1S", "+1S", "1s", "999999999S", "1 S"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(deadline(request(None).headers()), None);
    }
}
