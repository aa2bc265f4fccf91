//! ListPodSandbox and ListContainers, from lists that are kept in the form of the wire.
//!
//! kubelet lists everything once a second, and next to nothing has changed since. The list of everything is kept until
//! something changes, and is sent as it is: looking at five hundred containers, most of them cold in the processor's caches,
//! would take longer than all else in the call. When something has changed, or a filter asks for a part, a list is put
//! together of entries, each encoded once per state of its object. The two calls are taken here before the service that is
//! generated sees them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use bytes::{BufMut, Bytes};
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
use crate::engine::Sight;
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
        let sight = cri.sight(request.extensions());
        match request.uri().path() {
            "/runtime.v1.RuntimeService/ListPodSandbox" => {
                Box::pin(list(request, move |request| cri.pods(request, sight)))
            }
            "/runtime.v1.RuntimeService/ListContainers" => {
                Box::pin(list(request, move |request| cri.containers(request, sight)))
            }
            _ => Box::pin(self.inner.call(request)),
        }
    }
}

/// The two lists of everything that is CRI's own.
#[derive(Default)]
pub(super) struct Lists {
    pods: Kept,
    containers: Kept,
}

impl Cri {
    pub(super) fn pods(&self, request: ListPodSandboxRequest, sight: Sight) -> Result<List> {
        let ListPodSandboxRequest { filter } = request;
        let wanted = filter::Pods::new(filter)?;
        if wanted == filter::Pods::default() && sight == Sight::Own {
            let generation = self.engine.generation_of_pods();
            let make = || List::of(&self.engine.pods(sight));
            return self.lists.pods.get_or_make(generation, make);
        }
        let mut pods = self.engine.pods(sight);
        pods.retain(|pod| wanted.keeps(pod));
        List::of(&pods)
    }

    pub(super) fn containers(&self, request: ListContainersRequest, sight: Sight) -> Result<List> {
        let ListContainersRequest { filter } = request;
        let wanted = filter::Containers::new(filter)?;
        if wanted == filter::Containers::default() && sight == Sight::Own {
            let generation = self.engine.generation_of_containers();
            let make = || List::of(&self.engine.containers(sight));
            return self.lists.containers.get_or_make(generation, make);
        }
        let mut containers = self.engine.containers(sight);
        containers.retain(|container| wanted.keeps(container));
        List::of(&containers)
    }
}

async fn list<T>(
    request: Request<Body>,
    find: impl Fn(T) -> Result<List>,
) -> Result<Response<Body>, Infallible>
where
    T: Message + Default + 'static,
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

/// An answer of entries. Its size is known to be right.
#[derive(Clone)]
pub(super) struct List(Bytes);

impl List {
    /// # Errors
    /// `Exhausted` when the list is larger than a message may be.
    fn of<R: Entry>(records: &[Arc<R>]) -> Result<Self> {
        let framed =
            |entry: &[u8]| key_len(LIST) + encoded_len_varint(entry.len() as u64) + entry.len();
        let size = records.iter().map(|record| framed(record.entry())).sum();
        check_size(size)?;
        let mut bytes = Vec::with_capacity(size);
        for record in records {
            let entry = record.entry();
            encode_key(LIST, WireType::LengthDelimited, &mut bytes);
            encode_varint(entry.len() as u64, &mut bytes);
            bytes.put_slice(entry);
        }
        Ok(Self(bytes.into()))
    }

    /// As the generated service wants it.
    pub(super) fn message<M: Message + Default>(self) -> Result<M> {
        M::decode(self.0).context("read back a list")
    }
}

/// A list, and the generation of what is in it.
#[derive(Default)]
struct Kept(ArcSwapOption<(u64, List)>);

impl Kept {
    /// `generation` was read before `make` looks: what changes meanwhile makes the next call look again.
    fn get_or_make(&self, generation: u64, make: impl FnOnce() -> Result<List>) -> Result<List> {
        if let Some(kept) = self.0.load().as_deref()
            && kept.0 == generation
        {
            return Ok(kept.1.clone());
        }
        let list = make()?;
        self.0.store(Some(Arc::new((generation, list.clone()))));
        Ok(list)
    }
}

/// Requests of type `T`, and lists.
struct Wire<T>(std::marker::PhantomData<fn(T)>);

impl<T: Message + Default + 'static> Codec for Wire<T> {
    type Encode = List;
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

impl<T> Encoder for Wire<T> {
    type Item = List;
    type Error = Status;

    fn encode(&mut self, list: List, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&list.0);
        Ok(())
    }
}

impl<T: Message + Default> Decoder for Wire<T> {
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
    use crate::error::Error;

    #[test]
    fn a_list_reads_as_the_entries_that_were_put_in_also_after_a_change() {
        let first = running_container();
        let records = [Arc::new(first.clone()), Arc::new(running_container())];
        let expected: Vec<_> = records.iter().map(|it| container::container(it)).collect();
        let read: ListContainersResponse = List::of(&records).unwrap().message().unwrap();
        assert_eq!(read.containers, expected);

        let mut second = first.clone();
        let _ = first.entry();
        second.phase = Phase::Created { pid: 1 };
        let read: ListContainersResponse =
            List::of(&[Arc::new(second)]).unwrap().message().unwrap();
        assert_ne!(read.containers[0].state, expected[0].state);
    }

    #[test]
    fn a_kept_list_is_made_once_per_generation() {
        let kept = Kept::default();
        let list = |text: &'static str| Ok(List(Bytes::from_static(text.as_bytes())));
        let none = || unreachable!("nothing has changed");

        assert_eq!(kept.get_or_make(1, || list("one")).unwrap().0, "one");
        assert_eq!(kept.get_or_make(1, none).unwrap().0, "one");
        assert_eq!(kept.get_or_make(2, || list("two")).unwrap().0, "two");
        assert_eq!(kept.get_or_make(2, none).unwrap().0, "two");
        let failed = kept.get_or_make(3, || Err(Error::internal("none")));
        assert!(failed.is_err());
        assert_eq!(kept.get_or_make(3, || list("three")).unwrap().0, "three");
    }
}
