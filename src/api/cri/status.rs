//! The one place where an engine error becomes a gRPC status.

use tonic::{Code, Status};

use crate::error::{Error, Kind};

/// HTTP/2 clients refuse a header block that is too large, and with it the code.
const LONGEST_MESSAGE: usize = 4096;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut message = error.chain();
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
        }
        Self::new(code(error.kind()), message)
    }
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::WrongState => Code::FailedPrecondition,
        Kind::Busy => Code::Aborted,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        // It is the registry that refuses the client's credentials.
        Kind::Denied => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

/// True when a client could not have avoided it: worth an operator's look.
pub(in crate::api) fn is_ours(code: Code) -> bool {
    match code {
        Code::Internal
        | Code::Unknown
        | Code::DataLoss
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Context;

    #[test]
    fn a_status_has_the_kind_as_code_and_the_chain_as_message() {
        let error = Err::<(), _>(Error::wrong_state("it has exited"))
            .context("start container web")
            .unwrap_err();
        let status = Status::from(error);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "start container web: it has exited");
    }

    #[test]
    fn a_long_message_does_not_cost_the_client_the_code() {
        let status = Status::from(Error::invalid("é".repeat(100_000)));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().len() <= 2 * LONGEST_MESSAGE);
    }
}
