//! Who we are to a registry, and the answers to its challenges.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::{Error, Result};

/// A value that does not show up in logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a client sent along with its request to pull; fields as in CRI's `AuthConfig`, empty
/// where not given.
#[derive(Debug, Clone, Default)]
pub(crate) struct CredentialFields {
    pub(crate) username: String,
    pub(crate) password: String,
    /// base64 of `username:password`.
    pub(crate) auth: String,
    pub(crate) server_address: String,
    pub(crate) identity_token: String,
    pub(crate) registry_token: String,
}

/// Credentials for one pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Credentials {
    /// The only host these may be sent to; `None` is the one that owns the image's name.
    pub(super) server: Option<String>,
    pub(super) method: Method,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) enum Method {
    #[default]
    Anonymous,
    Password {
        username: String,
        password: Secret,
    },
    /// An OAuth2 refresh token.
    IdentityToken(Secret),
    /// A bearer token, sent as it is.
    RegistryToken(Secret),
}

impl Credentials {
    pub(crate) fn anonymous() -> Self {
        Self::default()
    }

    pub(crate) fn from_fields(fields: CredentialFields) -> Result<Self> {
        let CredentialFields {
            username,
            password,
            auth,
            server_address,
            identity_token,
            registry_token,
        } = fields;
        let method = if !registry_token.is_empty() {
            Method::RegistryToken(Secret(registry_token))
        } else if !identity_token.is_empty() {
            Method::IdentityToken(Secret(identity_token))
        } else if !username.is_empty() || !password.is_empty() {
            Method::Password { username, password: Secret(password) }
        } else if !auth.is_empty() {
            decode(&auth)?
        } else {
            Method::Anonymous
        };
        let server = Some(host_of(&server_address)).filter(|host| !host.is_empty());
        Ok(Self { server: server.map(str::to_owned), method })
    }
}

fn decode(auth: &str) -> Result<Method> {
    // Neither the text nor what is wrong in it is repeated: it is a password.
    let refuse = || Error::invalid("auth is not the base64 of username:password");
    let bytes = BASE64.decode(auth.trim()).map_err(|_| refuse())?;
    let text = String::from_utf8(bytes).map_err(|_| refuse())?;
    let (username, password) = text.split_once(':').ok_or_else(refuse)?;
    let password = Secret::new(password.trim_end_matches('\0'));
    Ok(Method::Password { username: username.to_owned(), password })
}

/// The host and port of an address as people write it: `https://index.docker.io/v1/`.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}
