//! The client that a build is for, as far as a build asks it for things.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;

use super::Context;
use crate::error::{Error, Result};
use crate::image::Credentials;

/// Asked while a build goes on, and only for what its steps need.
pub(crate) trait Client: fmt::Debug + Send + Sync {
    /// The files to copy from; asked for once.
    fn context(&self) -> BoxFuture<'_, Result<Context>>;

    /// The files that it has by a name, as [`super::Named::Files`] has it; asked for once.
    fn named_context<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Context>>;

    /// What it shows to a registry, by the registry's host.
    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Credentials>>;

    /// The value of a secret, if it has one of this id.
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>>;

    /// Whether it has an ssh agent of this id.
    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>>;

    /// Passes a connection on to that agent, until either side ends it.
    fn agent<'a>(&'a self, id: &'a str, connection: UnixStream) -> BoxFuture<'a, Result<()>>;
}

/// A client that has sent all that it has.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) context: Context,
    /// By registry.
    pub(crate) credentials: BTreeMap<String, Credentials>,
}

impl Client for Sent {
    fn context(&self) -> BoxFuture<'_, Result<Context>> {
        let context = self.context.clone();
        async { Ok(context) }.boxed()
    }

    fn named_context<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Context>> {
        async move { Err(Error::not_found(format!("no context is called {name}"))) }.boxed()
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Credentials>> {
        let found = self.credentials.get(registry).cloned();
        async { Ok(found.unwrap_or_else(Credentials::anonymous)) }.boxed()
    }

    fn secret<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        async { Ok(None) }.boxed()
    }

    fn has_agent<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool>> {
        async { Ok(false) }.boxed()
    }

    fn agent<'a>(&'a self, id: &'a str, _: UnixStream) -> BoxFuture<'a, Result<()>> {
        async move { Err(Error::not_found(format!("no ssh agent is called {id}"))) }.boxed()
    }
}
