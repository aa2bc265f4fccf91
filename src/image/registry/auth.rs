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

    /// What may be shown to `host`, which owns the image's name or is a mirror of it: credentials
    /// never go to a host they were not given for.
    pub(super) fn method_for(&self, registry: &str, host: &str, is_owner: bool) -> Method {
        let fits = match &self.server {
            Some(server) => server == host || (is_owner && server == registry),
            None => is_owner,
        };
        if fits { self.method.clone() } else { Method::Anonymous }
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
pub(crate) fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// What a registry answers to a request without the right credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The challenge to meet among the values of `WWW-Authenticate`; a token is preferred.
    pub(super) fn choose<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for value in values {
            for (scheme, parameters) in challenges(value) {
                let get = |name: &str| {
                    let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.clone())
                };
                if scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = get("realm")
                {
                    return Some(Self::Bearer {
                        realm,
                        service: get("service"),
                        scope: get("scope"),
                    });
                }
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

type Parameters = Vec<(String, String)>;

/// Splits a header value into its schemes and their parameters.
fn challenges(value: &str) -> Vec<(&str, Parameters)> {
    let mut found: Vec<(&str, Parameters)> = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = parameter_value(value);
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            rest = after;
        } else {
            if !word.is_empty() {
                found.push((word, Vec::new()));
            }
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    found
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(index + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> CredentialFields {
        CredentialFields::default()
    }

    #[test]
    fn all_four_kinds_are_told_apart() {
        let password = |username: &str, password: &str| Method::Password {
            username: username.to_owned(),
            password: Secret::new(password),
        };
        let method = |fields| Credentials::from_fields(fields).unwrap().method;
        assert_eq!(method(fields()), Method::Anonymous);
        let pair = CredentialFields { username: "u".into(), password: "p:q".into(), ..fields() };
        assert_eq!(method(pair), password("u", "p:q"));
        let auth = CredentialFields { auth: BASE64.encode("u:p:q"), ..fields() };
        assert_eq!(method(auth), password("u", "p:q"));
        let token = CredentialFields { identity_token: "t".into(), ..fields() };
        assert_eq!(method(token), Method::IdentityToken(Secret::new("t")));
        let token = CredentialFields { registry_token: "t".into(), ..fields() };
        assert_eq!(method(token), Method::RegistryToken(Secret::new("t")));

        let bad = CredentialFields { auth: "not base64 secret".into(), ..fields() };
        let error = Credentials::from_fields(bad).unwrap_err().chain();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn credentials_stay_with_the_host_they_are_for() {
        let with = |server: &str| {
            let fields = CredentialFields {
                username: "u".into(),
                server_address: server.into(),
                ..fields()
            };
            Credentials::from_fields(fields).unwrap()
        };
        let sends = |server, host, is_owner| {
            with(server).method_for("docker.io", host, is_owner) != Method::Anonymous
        };
        assert!(sends("", "registry-1.docker.io", true));
        assert!(!sends("", "mirror.example", false));
        assert!(sends("https://index.docker.io/v1/", "registry-1.docker.io", true));
        assert!(!sends("https://quay.io", "registry-1.docker.io", true));
        assert!(sends("mirror.example", "mirror.example", false));
    }

    #[test]
    fn challenges_are_read_in_their_many_forms() {
        let choose = |values: &[&'static str]| Challenge::choose(values.iter().copied());
        assert_eq!(
            choose(&[
                r#"Bearer realm="https://a/t?x=1,2",service="r s",scope="repository:a/b:pull,push""#
            ]),
            Some(Challenge::Bearer {
                realm: "https://a/t?x=1,2".into(),
                service: Some("r s".into()),
                scope: Some("repository:a/b:pull,push".into()),
            })
        );
        assert_eq!(choose(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(choose(&["basic"]), Some(Challenge::Basic));
        let both = choose(&["Basic realm=\"x\", bearer realm=https://a"]);
        assert!(matches!(both, Some(Challenge::Bearer { .. })));
        assert_eq!(choose(&["Negotiate"]), None);
        assert_eq!(choose(&["Bearer service=\"no realm\""]), None);
    }
}
