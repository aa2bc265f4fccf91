//! A process's standard streams, for a door that carries them itself.

pub(crate) use crate::streaming::backend::{Stdio, Wanted};
pub(crate) use crate::streaming::stdio::Pipe;
