//! The Kubernetes container runtime interface.

mod convert;
mod filter;
mod status;
