//! The one error type of the crate: a kind for programs, a chain for people.
//!
//! A layer adds what it was doing with [`Context::context`]; the layer that knows what the failure
//! means to a caller sets the [`Kind`]. An error is logged once, where it stops: at a door
//! (`api::*::status`) or in the task that ends with it.

use std::fmt;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may branch on. Each door maps these to its own codes in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request can never succeed as written.
    InvalidArgument,
    NotFound,
    AlreadyExists,
    /// The object exists but its state forbids this.
    WrongState,
    /// Somebody else is at it; trying again later may work.
    Busy,
    /// A resource or a limit is used up.
    Exhausted,
    /// A peer (registry, plugin, monitor) cannot be reached or answered with a fault of its own.
    Unavailable,
    /// Credentials are missing or refused.
    Denied,
    /// Nobody may do this to that object, whatever its state.
    Forbidden,
    Timeout,
    Cancelled,
    Unsupported,
    Internal,
}

/// An error with its kind, what was being done, and the cause below it.
#[derive(Debug)]
pub(crate) struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub(crate) fn wrong_state(message: impl Into<String>) -> Self {
        Self::new(Kind::WrongState, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same error under another kind, for the layer that knows what it means to the caller.
    #[must_use]
    pub(crate) fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// All links on one line, outermost first: `start container web: switch user: EPERM`.
    pub(crate) fn chain(&self) -> String {
        let mut line = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let text = error.to_string();
            // Library errors often repeat their source in their own text.
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = error.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// Adds a link to the chain of any error.
///
/// An [`Error`] below keeps its kind; any other error becomes [`Kind::Internal`] until
/// [`Context::kind`] says better.
pub(crate) trait Context<T> {
    fn context(self, message: impl Into<String>) -> Result<T>;
    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
    fn kind(self, kind: Kind) -> Result<T>;
}

impl<T, E> Context<T> for Result<T, E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.map_err(|error| wrap(error, message.into()))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| wrap(error, message().into()))
    }

    fn kind(self, kind: Kind) -> Result<T> {
        self.map_err(|error| {
            let error: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
            match error.downcast::<Error>() {
                Ok(own) => own.with_kind(kind),
                Err(other) => Error { kind, message: other.to_string(), source: Some(other) },
            }
        })
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::internal(message))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.ok_or_else(|| Error::internal(message()))
    }

    fn kind(self, kind: Kind) -> Result<T> {
        self.ok_or_else(|| Error::new(kind, "missing"))
    }
}

fn wrap<E>(error: E, message: String) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let source: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
    let kind = source.downcast_ref::<Error>().map_or(Kind::Internal, Error::kind);
    Error { kind, message, source: Some(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_kind_of_the_error_below() {
        let error = Err::<(), _>(Error::not_found("image busybox"))
            .context("create container web")
            .unwrap_err();

        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.chain(), "create container web: image busybox");
    }

    #[test]
    fn a_foreign_error_is_internal_until_a_layer_says_better() {
        let os = || std::io::Error::from_raw_os_error(libc::EPERM);

        assert_eq!(Err::<(), _>(os()).context("mount").unwrap_err().kind(), Kind::Internal);
        let named = Err::<(), _>(os()).context("mount").kind(Kind::Unavailable).unwrap_err();
        assert_eq!(named.kind(), Kind::Unavailable);
        assert!(named.chain().starts_with("mount: Operation not permitted"), "{}", named.chain());
    }
}
