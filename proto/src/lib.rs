//! The Kubernetes container runtime interface as Rust types, with client and server for both services, and the messages
//! of the Node Resource Interface.
//!
//! Everything in [`runtime::v1`] and [`nri::v1alpha1`] is generated at build time from `api.proto` and `nri.proto` in
//! this crate's root; nothing generated is checked in. A call or field of a newer version is added there and in
//! `tests/fields.txt` or `tests/nri-fields.txt`.

use std::fmt;

/// Follows the protobuf package `runtime.v1`: the path of every call on the wire begins with it.
pub mod runtime {
    /// Messages, `runtime_service_server`, `runtime_service_client` and the same two for `image_service`.
    #[expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "the generator's style, not ours"
    )]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}

/// Follows the protobuf package `nri.pkg.api.v1alpha1`.
pub mod nri {
    /// Messages only.
    pub mod v1alpha1 {
        tonic::include_proto!("nri.pkg.api.v1alpha1");
    }
}

/// Says which secrets are there, not what they are.
impl fmt::Debug for runtime::v1::AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By name, so that a new field does not compile until someone decides whether it is secret.
        let Self { username, password, auth, server_address, identity_token, registry_token } =
            self;
        f.debug_struct("AuthConfig")
            .field("username", username)
            .field("password", &redacted(password))
            .field("auth", &redacted(auth))
            .field("server_address", server_address)
            .field("identity_token", &redacted(identity_token))
            .field("registry_token", &redacted(registry_token))
            .finish()
    }
}

fn redacted(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "***" }
}

#[cfg(test)]
mod tests {
    use crate::runtime::v1::{AuthConfig, PullImageRequest};

    #[test]
    fn a_logged_pull_request_shows_no_secret() {
        let secret = || "hunter2".to_owned();
        let auth = AuthConfig {
            username: "ann".to_owned(),
            password: secret(),
            auth: secret(),
            server_address: "registry.example".to_owned(),
            identity_token: secret(),
            registry_token: secret(),
        };
        let shown = format!("{:?}", PullImageRequest { auth: Some(auth), ..Default::default() });
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains(r#"username: "ann", password: "***""#), "{shown}");
    }

    #[test]
    fn an_absent_secret_is_shown_as_absent() {
        assert!(format!("{:?}", AuthConfig::default()).contains(r#"password: """#));
    }
}
