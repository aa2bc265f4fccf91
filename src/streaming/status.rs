//! How a session tells its client the outcome: the error stream.

use bytes::Bytes;
use serde_json::json;

use crate::error::Error;

/// The forms of the error stream. Protocols 1 to 3 carry plain text, and nothing on success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// The text that goes to the error stream; empty for none.
pub(crate) fn message(form: Form, outcome: &Result<i32, Error>) -> Bytes {
    match form {
        Form::Json => Bytes::from(status(outcome).to_string()),
        Form::Text => match outcome {
            Ok(0) => Bytes::new(),
            Ok(code) => Bytes::from(exit_text(*code)),
            Err(error) => Bytes::from(error_text(error)),
        },
    }
}

/// A `metav1.Status`; clients find the exit code among the causes.
fn status(outcome: &Result<i32, Error>) -> serde_json::Value {
    match outcome {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": exit_text(*code),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": error_text(error),
            "reason": "InternalError",
            "details": {"causes": [{"message": error.chain()}]},
            "code": 500,
        }),
    }
}

fn exit_text(code: i32) -> String {
    format!("command terminated with non-zero exit code: {code}")
}

fn error_text(error: &Error) -> String {
    format!("Internal error occurred: {}", error.chain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_found_where_kubectl_looks_for_it() {
        let status: serde_json::Value =
            serde_json::from_slice(&message(Form::Json, &Ok(42))).unwrap();
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["reason"], "NonZeroExitCode");
        let cause = &status["details"]["causes"][0];
        assert_eq!((&cause["reason"], &cause["message"]), (&json!("ExitCode"), &json!("42")));
    }

    #[test]
    fn old_protocols_say_nothing_on_success() {
        assert!(message(Form::Text, &Ok(0)).is_empty());
        let failed = message(Form::Text, &Err(Error::internal("no shell")));
        assert_eq!(failed, "Internal error occurred: no shell");
    }
}
