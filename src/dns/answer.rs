//! What becomes of a query: it is answered here, asked elsewhere, or refused.

use std::net::IpAddr;

use super::message::{
    CLASS_IN, Code, Data, Query, Refusal, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_AXFR, TYPE_IXFR,
    TYPE_PTR,
};
use super::table::{Index, Known, Upstream};
use crate::id::PodId;

/// How an answer travels, and so how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Datagram,
    Stream,
}

impl Transport {
    /// Bytes that an answer to this query may have.
    pub(super) fn limit(self, query: &Query) -> usize {
        match self {
            Self::Datagram => query.datagram_limit(),
            Self::Stream => usize::from(u16::MAX),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Answer(Vec<u8>),
    Ask(Query, Upstream),
    Silence,
}

/// `turn` chooses which of several addresses comes first.
pub(super) fn decide(
    index: &Index,
    pod: &PodId,
    bytes: &[u8],
    transport: Transport,
    turn: usize,
) -> Decision {
    let query = match Query::parse(bytes) {
        Ok(query) => query,
        Err(Refusal::Silence) => return Decision::Silence,
        Err(Refusal::Answer(bytes)) => return Decision::Answer(bytes),
    };
    let limit = transport.limit(&query);
    let answer = |code, data: &[Data]| Decision::Answer(query.answer(code, data, limit));
    if query.class != CLASS_IN || matches!(query.kind, TYPE_AXFR | TYPE_IXFR) {
        return answer(Code::Refused, &[]);
    }
    // It left all of its networks, and its socket is about to go.
    let Some(asker) = index.asker(pod) else { return answer(Code::ServerFailure, &[]) };
    match index.look_up(asker, &query.name) {
        Known::Addresses(mut addresses) => {
            // A name that has nothing of this type is there all the same; no other server knows
            // better.
            addresses.retain(|address| match query.kind {
                TYPE_A => address.is_ipv4(),
                TYPE_AAAA => address.is_ipv6(),
                kind => kind == TYPE_ANY,
            });
            answer(Code::NoError, &rotated(addresses, turn))
        }
        Known::Name(name) if matches!(query.kind, TYPE_PTR | TYPE_ANY) => {
            answer(Code::NoError, &[Data::Name(name)])
        }
        Known::Name(_) => answer(Code::NoError, &[]),
        Known::Nothing if asker.upstream == Upstream::Nobody => answer(Code::ServerFailure, &[]),
        Known::Nothing => {
            let upstream = asker.upstream.clone();
            Decision::Ask(query, upstream)
        }
    }
}

fn rotated(mut addresses: Vec<IpAddr>, turn: usize) -> Vec<Data> {
    let by = turn % addresses.len().max(1);
    addresses.rotate_left(by);
    addresses.into_iter().map(Data::Address).collect()
}
