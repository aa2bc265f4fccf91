//! The one place where an engine error becomes an HTTP status and Docker's `{"message"}`.

use http::{Response, StatusCode};
use serde::Serialize;

use super::reply::{self, Body};
use crate::error::{Error, Kind};

/// As every client of the API reads an error.
#[derive(Serialize)]
struct Refusal {
    message: String,
}

pub(super) fn refused(error: &Error) -> Response<Body> {
    let refusal = Refusal { message: error.chain() };
    // A text that cannot be written as JSON does not exist.
    reply::with_status(code(error.kind()), &refusal)
        .unwrap_or_else(|_| reply::empty(StatusCode::INTERNAL_SERVER_ERROR))
}

fn code(kind: Kind) -> StatusCode {
    match kind {
        Kind::InvalidArgument => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::WrongState | Kind::Busy => StatusCode::CONFLICT,
        // It is the registry that refuses the client's credentials.
        Kind::Denied => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Exhausted | Kind::Unavailable | Kind::Timeout | Kind::Cancelled | Kind::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// True when a client could not have avoided it: worth an operator's look.
pub(super) fn is_ours(kind: Kind) -> bool {
    code(kind) == StatusCode::INTERNAL_SERVER_ERROR
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::error::Context;

    #[tokio::test]
    async fn an_error_is_its_status_and_its_chain() {
        let error =
            Err::<(), _>(Error::wrong_state("it is paused")).context("stop web").unwrap_err();
        let response = refused(&error);

        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "{\"message\":\"stop web: it is paused\"}\n");
    }
}
