//! The Kubernetes container runtime interface as Rust types, with client and server for both services, the messages of
//! the Node Resource Interface, and what a BuildKit daemon and its clients say to each other.
//!
//! Everything in [`runtime::v1`], [`nri::v1alpha1`] and [`buildkit`] is generated at build time from `api.proto`,
//! `nri.proto` and `buildkit/` in this crate's root; nothing generated is checked in. A call or field of a newer version
//! is added there, and of the first two in `tests/fields.txt` or `tests/nri-fields.txt`.

use std::fmt;

/// A module of its own for the messages and calls of a protobuf package.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        #[expect(
            unused_qualifications,
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            reason = "the generator's style, not ours"
        )]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

/// Follows the protobuf package `runtime.v1`: the path of every call on the wire begins with it.
pub mod runtime {
    generated! {
        /// Messages, `runtime_service_server`, `runtime_service_client` and the same two for `image_service`.
        v1, "runtime.v1"
    }
}

/// Follows the protobuf package `nri.pkg.api.v1alpha1`.
pub mod nri {
    /// Messages only.
    pub mod v1alpha1 {
        tonic::include_proto!("nri.pkg.api.v1alpha1");
    }
}

/// Follows the protobuf packages below `moby`, and what its sessions have of containerd's, as far as we speak them.
pub mod buildkit {
    /// `moby.buildkit.v1`: messages and `control_server`.
    #[expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "the generator's style, not ours"
    )]
    pub mod control {
        tonic::include_proto!("moby.buildkit.v1");

        /// `moby.buildkit.v1.frontend`: messages and `llb_bridge_server`.
        pub mod frontend {
            tonic::include_proto!("moby.buildkit.v1.frontend");
        }
    }

    /// `moby.filesync.v1`: messages, `file_sync_client`, `file_send_client` and `auth_client`.
    #[expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "the generator's style, not ours"
    )]
    pub mod filesync {
        tonic::include_proto!("moby.filesync.v1");

        use tonic::body::Body;
        use tonic::client::{Grpc, GrpcService};
        use tonic::codegen::{Body as HttpBody, Bytes, StdError, http};
        use tonic::{IntoStreamingRequest, Response, Status, Streaming};

        /// `FileSend.DiffCopy` with packets for messages, as an exporter of files has it.
        pub struct FilesClient<T>(Grpc<T>);

        impl<T> FilesClient<T>
        where
            T: GrpcService<Body>,
            T::Error: Into<StdError>,
            T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
            <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
        {
            /// `largest` message, in bytes.
            pub fn new(inner: T, origin: http::Uri, largest: usize) -> Self {
                Self(Grpc::with_origin(inner, origin).max_decoding_message_size(largest))
            }

            /// # Errors
            /// What the client answers.
            pub async fn diff_copy(
                &mut self,
                request: impl IntoStreamingRequest<Message = Packet>,
            ) -> Result<Response<Streaming<Packet>>, Status> {
                self.0
                    .ready()
                    .await
                    .map_err(|error| Status::unavailable(error.into().to_string()))?;
                let path =
                    http::uri::PathAndQuery::from_static("/moby.filesync.v1.FileSend/DiffCopy");
                let codec = tonic_prost::ProstCodec::default();
                self.0.streaming(request.into_streaming_request(), path, codec).await
            }
        }
    }

    generated! {
        /// `moby.buildkit.secrets.v1`: messages and `secrets_client`.
        secrets, "moby.buildkit.secrets.v1"
    }

    generated! {
        /// `containerd.services.content.v1`: messages and `content_client`.
        content, "containerd.services.content.v1"
    }

    generated! {
        /// `moby.upload.v1`: messages and `upload_client`.
        upload, "moby.upload.v1"
    }

    generated! {
        /// `moby.sshforward.v1`: messages and `ssh_client`.
        ssh, "moby.sshforward.v1"
    }
}

impl fmt::Debug for buildkit::filesync::CredentialsResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { username, secret } = self;
        f.debug_struct("CredentialsResponse")
            .field("username", username)
            .field("secret", &redacted(secret))
            .finish()
    }
}

impl fmt::Debug for buildkit::secrets::GetSecretResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GetSecretResponse")
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
