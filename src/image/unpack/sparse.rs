//! The segments of a sparse file, checked before anything is written.

use super::tar::Kind;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

pub(super) fn pairs(numbers: &[u64]) -> Vec<Segment> {
    numbers
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [offset, length] => Some(Segment { offset: *offset, length: *length }),
            _ => None,
        })
        .collect()
}

/// A sparse file whose segments are in order, inside it, and together as long as its data.
pub(super) fn sparse(size: u64, segments: Vec<Segment>, data: u64) -> Result<Kind> {
    let mut end = 0;
    let mut sum: u64 = 0;
    for segment in &segments {
        let next = segment.offset.checked_add(segment.length).filter(|next| *next <= size);
        match next {
            Some(next) if segment.offset >= end => end = next,
            _ => return Err(Error::invalid("the segments of the sparse file do not fit")),
        }
        sum += segment.length;
    }
    if sum != data {
        return Err(Error::invalid("the sparse file's data and its segments differ in length"));
    }
    Ok(Kind::Sparse { size, segments })
}
