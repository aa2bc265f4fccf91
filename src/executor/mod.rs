//! The kernel work: namespaces, mounts, confinement, `execve`. Synchronous, no tokio.

pub(crate) mod plan;
