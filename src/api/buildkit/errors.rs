//! Errors on their way to build clients and from them.
//!
//! A client shows an error with the lines of the Dockerfile that it is about, if the status has them as
//! a detail of BuildKit's own kind (`solver/errdefs`): JSON in a `google.protobuf.Any`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cais_dockerfile::ParseError;
use cais_proto::buildkit::control::{Any, RpcStatus};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

use crate::builder::Failure;
use crate::error::{Error, Kind};

const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// A Dockerfile as errors show it.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// In BuildKit's words.
pub(super) fn text(failure: &Failure) -> String {
    match failure.code {
        Some(code) => {
            let command = &failure.command;
            format!("process {command:?} did not complete successfully: exit code: {code}")
        }
        None => failure.error.chain(),
    }
}

pub(super) fn failed(failure: &Failure, source: &Source) -> Status {
    let mut details = Vec::new();
    if let Some((first, last)) = failure.lines.filter(|(first, _)| *first > 0) {
        let place = |line: usize| json!({ "line": line });
        let detail = json!({
            "info": {
                "filename": source.name,
                "data": BASE64.encode(&source.text),
                "language": "Dockerfile",
            },
            "ranges": [{ "start": place(first), "end": place(last) }],
        });
        details.push(Any { type_url: SOURCE.to_owned(), value: detail.to_string().into_bytes() });
    }
    let code = code(failure.error.kind());
    of_rpc(RpcStatus { code: code as i32, message: text(failure), details })
}

/// A Dockerfile that cannot be read.
pub(super) fn wrong(error: &ParseError, source: &Source) -> Status {
    let lines = Some((error.range.start.line, error.range.end.line));
    failed(&Failure { lines, ..Error::invalid(error.to_string()).into() }, source)
}

/// What a client reported, or what is reported to it, with its details.
pub(super) fn of_rpc(status: RpcStatus) -> Status {
    let details = status.encode_to_vec();
    let RpcStatus { code, message, .. } = status;
    // One without a code would be no error.
    let code = Some(Code::from_i32(code)).filter(|code| *code != Code::Ok);
    Status::with_details(code.unwrap_or(Code::Unknown), message, details.into())
}

pub(super) fn refused(error: &Error) -> Status {
    Status::new(code(error.kind()), error.chain())
}

pub(super) fn unsupported(what: &str) -> Status {
    refused(&Error::new(Kind::Unsupported, format!("{what} is not supported yet")))
}

/// Clients show the name of any code but `Unknown` before the text; what people are to read of their own
/// build stands alone.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument
        | Kind::NotFound
        | Kind::AlreadyExists
        | Kind::WrongState
        | Kind::Denied
        | Kind::Forbidden
        | Kind::Unsupported => Code::Unknown,
        Kind::Busy | Kind::Unavailable => Code::Unavailable,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Internal => Code::Internal,
    }
}

/// A call to a client that failed.
pub(super) fn failed_call(status: &Status) -> Error {
    let known = [
        (Code::NotFound, Kind::NotFound),
        (Code::Cancelled, Kind::Cancelled),
        (Code::Unavailable, Kind::Unavailable),
        (Code::Unauthenticated, Kind::Denied),
        (Code::PermissionDenied, Kind::Denied),
    ];
    let kind = known.iter().find(|(code, _)| *code == status.code());
    let kind = kind.map_or(Kind::InvalidArgument, |(_, kind)| *kind);
    Error::new(kind, status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_told_with_its_line() {
        let failure = Failure {
            code: Some(7),
            command: "/bin/sh -c \"no\"".to_owned(),
            lines: Some((2, 3)),
            ..Error::invalid("no").into()
        };
        let source = Source { name: "Dockerfile".to_owned(), text: "FROM a\n".to_owned() };
        let status = failed(&failure, &source);
        let expected = r#"process "/bin/sh -c \"no\"" did not complete successfully: exit code: 7"#;
        assert_eq!(status.message(), expected);
        let told = RpcStatus::decode(status.details()).unwrap();
        assert_eq!(told.message, expected);
        let detail: serde_json::Value = serde_json::from_slice(&told.details[0].value).unwrap();
        assert_eq!(detail["ranges"][0]["end"]["line"], 3);
        assert_eq!(detail["info"]["data"], "RlJPTSBhCg==");
        // Through the client, and back.
        assert_eq!(of_rpc(told).details(), status.details());
    }

    #[test]
    fn an_error_is_never_none() {
        assert_eq!(of_rpc(RpcStatus::default()).code(), Code::Unknown);
    }
}
