//! Tokens: asked for at the address a challenge names, kept until they expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

use super::auth::{Method, Secret};
use super::{Host, Registry, request};
use crate::error::{Context, Error, Kind, Result};

const LARGEST_TOKEN: usize = 1 << 20;
/// What the token specification says when a server does not.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token must outlive the request it is sent with.
const MARGIN: Duration = Duration::from_secs(10);

/// Keyed by what was asked and with which credentials, so one pod's never serves another's.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<TokenKey, Token>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) method: Method,
}

struct Token {
    value: Secret,
    expires: Instant,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    fn find(&self, key: &TokenKey) -> Option<Secret> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, token| token.expires > now);
        tokens.get(key).map(|token| token.value.clone())
    }

    fn keep(&self, key: TokenKey, token: Token) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, token);
    }

    fn forget(&self, key: &TokenKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Whether a kept token will do, or was just refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Any,
    New,
}

impl Registry {
    /// The token for `key`, for requests to `host`.
    pub(super) async fn token(
        &self,
        host: &Host,
        key: TokenKey,
        freshness: Freshness,
    ) -> Result<Secret> {
        match freshness {
            Freshness::New => self.tokens.forget(&key),
            Freshness::Any => {
                if let Some(token) = self.tokens.find(&key) {
                    return Ok(token);
                }
            }
        }
        let context = || format!("get a token from {}", shown(&key.realm));
        let realm = Url::parse(&key.realm)
            .map_err(|_| Error::new(Kind::Unavailable, "the token address is not a URL"))
            .with_context(context)?;
        let insecure = host.endpoint.base.scheme() == "http" && realm.scheme() == "http";
        if realm.scheme() != "https" && !insecure {
            return Err(Error::new(Kind::Denied, "the token address is not https"))
                .with_context(context);
        }
        let client = if request::same_origin(&realm, &host.endpoint.base) {
            &host.client
        } else {
            &host.strict
        };
        let sent =
            tokio::time::timeout(self.settings.response_timeout, build(client, realm, &key).send())
                .await
                .map_err(|_| Error::new(Kind::Unavailable, "no answer in time"))
                .with_context(context)?;
        let response =
            sent.map_err(|error| request::transport_error(&error)).with_context(context)?;
        let status = response.status();
        if !status.is_success() {
            let kind = match status.as_u16() {
                400 | 401 | 403 => Kind::Denied,
                _ => Kind::Unavailable,
            };
            return Err(request::refusal(response, kind).await).with_context(context);
        }
        let bytes = request::read_capped(response, LARGEST_TOKEN, self.settings.stall_time)
            .await
            .with_context(context)?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|_| Error::new(Kind::Unavailable, "the answer is not a token"))
            .with_context(context)?;
        let text = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let value = text
            .map(Secret::new)
            .ok_or_else(|| Error::new(Kind::Unavailable, "the answer has no token"))
            .with_context(context)?;
        let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
        if let Some(expires) = Instant::now().checked_add(life.saturating_sub(MARGIN)) {
            self.tokens.keep(key, Token { value: value.clone(), expires });
        }
        Ok(value)
    }
}

fn build(client: &reqwest::Client, mut realm: Url, key: &TokenKey) -> RequestBuilder {
    if let Method::IdentityToken(refresh) = &key.method {
        // The URL type encodes a form as it encodes a query.
        let mut form = realm.clone();
        form.set_query(None);
        let mut pairs = form.query_pairs_mut();
        pairs.append_pair("grant_type", "refresh_token");
        pairs.append_pair("refresh_token", refresh.reveal());
        pairs.append_pair("client_id", "cais");
        pairs.append_pair("scope", &key.scope);
        if let Some(service) = &key.service {
            pairs.append_pair("service", service);
        }
        drop(pairs);
        let body = form.query().unwrap_or_default().to_owned();
        return client
            .post(realm)
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
    }
    {
        let mut pairs = realm.query_pairs_mut();
        if let Some(service) = &key.service {
            pairs.append_pair("service", service);
        }
        for scope in key.scope.split(' ') {
            pairs.append_pair("scope", scope);
        }
    }
    match &key.method {
        Method::Password { username, password } => {
            client.get(realm).basic_auth(username, Some(password.reveal()))
        }
        Method::Anonymous | Method::IdentityToken(_) | Method::RegistryToken(_) => {
            client.get(realm)
        }
    }
}

/// An address without what may be secret in it.
fn shown(address: &str) -> String {
    Url::parse(address)
        .map_or_else(|_| "a malformed address".to_owned(), |url| request::origin(&url))
}
