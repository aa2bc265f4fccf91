//! Lists as streams of parts, for lists that are too large for one message.
//!
//! What is in a list is decided when the call comes in, so no entry is there twice and none is
//! missing; what an entry says is written when its part is asked for. A client that reads slowly
//! holds up nobody but itself.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use tonic::Status;

/// Far below the 16 MiB that clients take, and enough for some thousand entries.
const PART_BYTES: usize = 1 << 20;
/// What an entry costs beside its own bytes: a tag, and its length.
const FRAME_BYTES: usize = 8;

pub(super) type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The entries in order, as many in each message as fit.
pub(super) fn of_entries<M, T, I>(entries: I, wrap: fn(Vec<M>) -> T) -> Parts<T>
where
    M: Message + 'static,
    T: Send + 'static,
    I: Iterator<Item = M> + Send + 'static,
{
    Box::pin(stream::iter(pack(entries, PART_BYTES).map(move |part| Ok(wrap(part)))))
}

/// As [`of_entries`], of entries that come in groups.
pub(super) fn of_groups<M, T>(
    groups: impl Stream<Item = Vec<M>> + Send + 'static,
    wrap: fn(Vec<M>) -> T,
) -> Parts<T>
where
    M: Message + 'static,
    T: Send + 'static,
{
    let parts = groups.flat_map(|group| stream::iter(pack(group.into_iter(), PART_BYTES)));
    Box::pin(parts.map(move |part| Ok(wrap(part))))
}

fn pack<M: Message>(
    entries: impl Iterator<Item = M>,
    part_bytes: usize,
) -> impl Iterator<Item = Vec<M>> {
    let mut entries = entries.peekable();
    std::iter::from_fn(move || {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = entries.peek() {
            bytes += entry.encoded_len() + FRAME_BYTES;
            if bytes > part_bytes && !part.is_empty() {
                break;
            }
            part.extend(entries.next());
        }
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use cais_proto::runtime::v1::{PodSandbox, StreamPodSandboxesResponse};

    use super::*;

    fn pods(count: usize) -> impl Iterator<Item = PodSandbox> + Send + 'static {
        (0..count).map(|number| PodSandbox {
            id: format!("{number:064}"),
            annotations: [("note".to_owned(), "x".repeat(600))].into(),
            ..Default::default()
        })
    }

    #[tokio::test]
    async fn twenty_thousand_entries_come_once_each_in_parts_that_fit() {
        let wrap = |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes };

        let parts: Vec<_> = of_entries(pods(20_000), wrap).collect().await;

        let parts: Vec<_> = parts.into_iter().map(Result::unwrap).collect();
        assert!(parts.len() > 10, "{}", parts.len());
        assert!(parts.iter().all(|part| part.encoded_len() <= PART_BYTES));
        let entries = parts.into_iter().flat_map(|part| part.pod_sandboxes);
        assert!(entries.eq(pods(20_000)));
    }

    #[test]
    fn an_entry_larger_than_a_part_comes_alone_and_an_empty_list_ends_at_once() {
        let sizes: Vec<_> = pack(pods(3), 10).map(|part| part.len()).collect();
        assert_eq!(sizes, [1, 1, 1]);
        assert_eq!(pack(pods(0), 10).count(), 0);
    }
}
