//! ListPodSandbox and ListContainers, from entries that are kept in the form of the wire.
//!
//! kubelet lists everything once a second, and next to nothing has changed since. Shaping five hundred containers anew takes
//! longer than all else in the call, so each entry is encoded once per state of its object, and a list is these bytes one after
//! the other. The two calls are taken here before the service that is generated sees them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use cais_proto::runtime::v1::{ListContainersRequest, ListPodSandboxRequest};
use http::{Request, Response};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status};
use tower::{Service, service_fn};

use super::convert::{container, pod};
use super::{Cri, LARGEST_MESSAGE, check_size, filter};
use crate::engine::container::record::Record as Container;
use crate::engine::pod::record::Record as Pod;
use crate::error::{Context as _, Result};

/// The list is field 1 of both answers, and nothing else is in them.
const LIST: u32 = 1;

/// Answers the two calls, and passes on all others.
#[derive(Clone)]
pub(in crate::api) struct Listed<S> {
    pub(super) cri: Cri,
    pub(super) inner: S,
}

impl<S: NamedService> NamedService for Listed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Listed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let cri = self.cri.clone();
        match request.uri().path() {
            "/runtime.v1.RuntimeService/ListPodSandbox" => {
                Box::pin(list(request, move |request| cri.pods(request)))
            }
            "/runtime.v1.RuntimeService/ListContainers" => {
                Box::pin(list(request, move |request| cri.containers(request)))
            }
            _ => Box::pin(self.inner.call(request)),
        }
    }
}

impl Cri {
    pub(super) fn pods(&self, request: ListPodSandboxRequest) -> Result<List<Pod>> {
        let ListPodSandboxRequest { filter } = request;
        let wanted = filter::Pods::new(filter)?;
        let mut pods = self.engine.pods();
        pods.retain(|pod| wanted.keeps(pod));
        List::of(pods)
    }

    pub(super) fn containers(&self, request: ListContainersRequest) -> Result<List<Container>> {
        let ListContainersRequest { filter } = request;
        let wanted = filter::Containers::new(filter)?;
        let mut containers = self.engine.containers();
        containers.retain(|container| wanted.keeps(container));
        List::of(containers)
    }
}

async fn list<T, R>(
    request: Request<Body>,
    find: impl Fn(T) -> Result<List<R>>,
) -> Result<Response<Body>, Infallible>
where
    T: Message + Default + 'static,
    R: Entry,
{
    let answer = service_fn(|request: tonic::Request<T>| {
        let found = find(request.into_inner());
        std::future::ready(found.map(tonic::Response::new).map_err(Status::from))
    });
    let mut grpc = Grpc::new(Wire(std::marker::PhantomData))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    Ok(grpc.unary(answer, request).await)
}

/// What has a place for its entry.
pub(super) trait Entry: Send + Sync + 'static {
    fn entry(&self) -> &[u8];
}

impl Entry for Pod {
    fn entry(&self) -> &[u8] {
        self.rendering.get_or_make(|| pod::pod(self).encode_to_vec())
    }
}

impl Entry for Container {
    fn entry(&self) -> &[u8] {
        self.rendering.get_or_make(|| container::container(self).encode_to_vec())
    }
}

/// An answer whose size is known to be right.
pub(super) struct List<R> {
    records: Vec<Arc<R>>,
    bytes: usize,
}

impl<R: Entry> List<R> {
    /// # Errors
    /// `Exhausted` when the list is larger than a message may be.
    fn of(records: Vec<Arc<R>>) -> Result<Self> {
        let framed =
            |entry: &[u8]| key_len(LIST) + encoded_len_varint(entry.len() as u64) + entry.len();
        let bytes = records.iter().map(|record| framed(record.entry())).sum();
        check_size(bytes)?;
        Ok(Self { records, bytes })
    }

    /// As the generated service wants it.
    pub(super) fn message<M: Message + Default>(self) -> Result<M> {
        let mut bytes = Vec::with_capacity(self.bytes);
        self.encode(&mut bytes);
        M::decode(bytes.as_slice()).context("read back a list")
    }

    fn encode(&self, buffer: &mut impl BufMut) {
        for record in &self.records {
            let entry = record.entry();
            encode_key(LIST, WireType::LengthDelimited, buffer);
            encode_varint(entry.len() as u64, buffer);
            buffer.put_slice(entry);
        }
    }
}

/// Requests of type `T`, and lists of `R`.
struct Wire<T, R>(std::marker::PhantomData<fn(T, R)>);

impl<T, R> Codec for Wire<T, R>
where
    T: Message + Default + 'static,
    R: Entry,
{
    type Encode = List<R>;
    type Decode = T;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(std::marker::PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T, R: Entry> Encoder for Wire<T, R> {
    type Item = List<R>;
    type Error = Status;

    fn encode(&mut self, list: List<R>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(list.bytes);
        list.encode(buffer);
        Ok(())
    }
}

impl<T: Message + Default, R> Decoder for Wire<T, R> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let malformed =
            |error| Status::new(Code::Internal, format!("a malformed request: {error}"));
        T::decode(buffer).map(Some).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use cais_proto::runtime::v1::ListContainersResponse;

    use super::super::filter::tests::running_container;
    use super::*;
    use crate::engine::container::phase::Phase;

    #[test]
    fn a_list_reads_as_the_entries_that_were_put_in_also_after_a_change() {
        let first = running_container();
        let kept = List::of(vec![Arc::new(first.clone()), Arc::new(running_container())]).unwrap();
        assert_eq!(kept.bytes, {
            let mut bytes = Vec::new();
            kept.encode(&mut bytes);
            bytes.len()
        });
        let expected: Vec<_> = kept.records.iter().map(|it| container::container(it)).collect();
        let read: ListContainersResponse = kept.message().unwrap();
        assert_eq!(read.containers, expected);

        let mut second = first.clone();
        let _ = first.entry();
        second.phase = Phase::Created { pid: 1 };
        let read: ListContainersResponse =
            List::of(vec![Arc::new(second)]).unwrap().message().unwrap();
        assert_ne!(read.containers[0].state, expected[0].state);
    }
}
