//! One request to one host: redirects, authentication, retries, and errors that name what was
//! wrong.

use std::time::Duration;

use base64::Engine as _;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, StatusCode};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::auth::{Challenge, Method};
use super::token::{Freshness, TokenKey};
use super::{Host, Served, Session};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, LARGEST_DOCUMENT, OCI_INDEX, OCI_MANIFEST,
};

const MOST_REDIRECTS: u32 = 5;
const LARGEST_ERROR: usize = 64 << 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What is asked for, under a repository.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// By tag or digest.
    Manifest(String),
    Blob(Digest),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    Manifests,
    Anything,
}

impl Session {
    fn url(&self, host: &Host, target: &Target) -> Url {
        let mut url = host.endpoint.base.clone();
        let repository = self.reference.repository();
        let path = match target {
            Target::Manifest(name) => format!("{repository}/manifests/{name}"),
            Target::Blob(digest) => format!("{repository}/blobs/{digest}"),
        };
        url.set_path(&format!("{}/{path}", host.endpoint.base.path().trim_end_matches('/')));
        if !host.endpoint.is_owner {
            // A mirror of several registries cannot tell otherwise whose name this is.
            url.query_pairs_mut().append_pair("ns", self.reference.registry());
        }
        url
    }

    /// Fetches a document whole.
    pub(super) async fn small(
        &self,
        host: &Host,
        target: &Target,
        accept: Accept,
    ) -> Result<Served> {
        let response = self.get(host, target, accept, 0).await?;
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let bytes = read_capped(response, LARGEST_DOCUMENT, self.registry.settings.stall_time)
            .await
            .with_context(|| self.context(host, target))?;
        Ok(Served { digest: Digest::of(&bytes), media_type, bytes })
    }

    /// The answer to a request, from `offset` on, once it is a success.
    pub(super) async fn get(
        &self,
        host: &Host,
        target: &Target,
        accept: Accept,
        offset: u64,
    ) -> Result<Response> {
        let settings = &self.registry.settings;
        let mut attempt = 1;
        loop {
            let result = self.try_get(host, target, accept, offset).await;
            match result {
                Ok(response) => return Ok(response),
                Err(Failure::Final(error)) => {
                    return Err(error).with_context(|| self.context(host, target));
                }
                Err(Failure::Passing { error, pause }) => {
                    if attempt >= settings.attempts {
                        return Err(error).with_context(|| self.context(host, target));
                    }
                    back_off(pause.unwrap_or_else(|| settings.back_off * 2_u32.pow(attempt - 1)))
                        .await;
                    attempt += 1;
                }
            }
        }
    }

    pub(super) fn context(&self, host: &Host, target: &Target) -> String {
        let what = match target {
            Target::Manifest(name) => format!("{}:{name}", self.reference.repository()),
            Target::Blob(digest) => digest.to_string(),
        };
        format!("fetch {what} from {}", origin(&host.endpoint.base))
    }

    async fn try_get(
        &self,
        host: &Host,
        target: &Target,
        accept: Accept,
        offset: u64,
    ) -> Result<Response, Failure> {
        let mut url = self.url(host, target);
        let mut redirects = 0;
        let mut freshness = Freshness::Any;
        loop {
            let is_home = same_origin(&url, &host.endpoint.base);
            let shown = if is_home { host.authorization.lock().await.clone() } else { None };
            let client = if is_home { &host.client } else { &host.strict };
            let mut request = client.get(url.clone());
            if is_home {
                request = request.headers(host.endpoint.headers.clone());
                if let Some(value) = &shown {
                    request = request.header(AUTHORIZATION, value);
                }
            }
            if accept == Accept::Manifests {
                let types = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, "*/*;q=0.1"];
                request = request.header(ACCEPT, types.join(", "));
            }
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            let timeout = self.registry.settings.response_timeout;
            let response = match tokio::time::timeout(timeout, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(Failure::of_transport(&error)),
                Err(_) => {
                    let error = Error::new(
                        Kind::Unavailable,
                        format!("the registry is too slow: no answer in {timeout:?}"),
                    );
                    return Err(Failure::Final(error));
                }
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status.is_redirection() {
                redirects += 1;
                url = redirect(&url, &response, redirects)?;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && is_home && freshness == Freshness::Any {
                let is_second = shown.is_some();
                if is_second {
                    freshness = Freshness::New;
                }
                if self.authorize(host, &response, shown, freshness).await? {
                    continue;
                }
            }
            return Err(Failure::of_status(response).await);
        }
    }

    /// As [`Self::authorize`], for requests that are no downloads.
    pub(super) async fn answer_challenge(
        &self,
        host: &Host,
        response: &Response,
        shown: Option<HeaderValue>,
        freshness: Freshness,
    ) -> Result<bool> {
        self.authorize(host, response, shown, freshness).await.map_err(|failure| match failure {
            Failure::Final(error) | Failure::Passing { error, .. } => error,
        })
    }

    /// Meets the challenge in `response`; false if there is nothing to show.
    async fn authorize(
        &self,
        host: &Host,
        response: &Response,
        shown: Option<HeaderValue>,
        freshness: Freshness,
    ) -> Result<bool, Failure> {
        let mut authorization = host.authorization.lock().await;
        if *authorization != shown {
            // Another request of this session has met it meanwhile.
            return Ok(true);
        }
        let values = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = Challenge::choose(values.iter().filter_map(|value| value.to_str().ok()));
        let text = match (challenge, &host.method) {
            (None, _) | (Some(Challenge::Basic), Method::Anonymous) => return Ok(false),
            (Some(_), Method::RegistryToken(token)) => format!("Bearer {}", token.reveal()),
            (Some(Challenge::Basic), Method::Password { username, password }) => {
                let pair = format!("{username}:{}", password.reveal());
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            (Some(Challenge::Basic), Method::IdentityToken(_)) => return Ok(false),
            (Some(Challenge::Bearer { realm, service, scope }), method) => {
                let scope = scope
                    .unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository()));
                let key = TokenKey { realm, service, scope, method: method.clone() };
                let token = self.registry.token(host, key, freshness).await;
                format!("Bearer {}", token.map_err(Failure::Final)?.reveal())
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| {
            Failure::Final(Error::new(Kind::Denied, "the credentials cannot be sent in a header"))
        })?;
        value.set_sensitive(true);
        if shown.as_ref() == Some(&value) {
            return Ok(false);
        }
        *authorization = Some(value);
        Ok(true)
    }
}

pub(super) enum Failure {
    /// Asking again would not help.
    Final(Error),
    Passing {
        error: Error,
        pause: Option<Duration>,
    },
}

impl Failure {
    fn of_transport(error: &reqwest::Error) -> Self {
        let text = transport_error(error);
        // Nobody there, or a wrong certificate: the next host is the better bet.
        if error.is_connect() || error.is_timeout() || error.is_builder() {
            Self::Final(text)
        } else {
            Self::Passing { error: text, pause: None }
        }
    }

    pub(super) async fn of_status(response: Response) -> Self {
        let status = response.status();
        let pause = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
        let (kind, is_final) = match status.as_u16() {
            401 | 403 => (Kind::Denied, true),
            404 => (Kind::NotFound, true),
            429 => (Kind::Exhausted, false),
            408 | 500 | 502 | 503 | 504 => (Kind::Unavailable, false),
            _ => (Kind::Unavailable, true),
        };
        let error = refusal(response, kind).await;
        if is_final { Self::Final(error) } else { Self::Passing { error, pause } }
    }
}

fn redirect(from: &Url, response: &Response, count: u32) -> Result<Url, Failure> {
    let refuse = |why: &str| Failure::Final(Error::new(Kind::Unavailable, why));
    if count > MOST_REDIRECTS {
        return Err(refuse("the registry redirects in circles"));
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to = location
        .and_then(|location| from.join(location).ok())
        .ok_or_else(|| refuse("the registry redirects to nowhere"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "https") | ("http", "http" | "https") => Ok(to),
        _ => Err(refuse("the registry redirects to an unprotected address")),
    }
}

pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Scheme, host and port: what may be shown of an address.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// A transport error in one line, without the address, which may be signed.
pub(super) fn transport_error(error: &reqwest::Error) -> Error {
    let what = if error.is_connect() {
        "the registry cannot be reached"
    } else if error.is_timeout() {
        "the registry does not answer in time"
    } else {
        "the connection to the registry broke"
    };
    let mut cause = std::error::Error::source(error);
    let mut deepest = String::new();
    while let Some(error) = cause {
        deepest = error.to_string();
        cause = error.source();
    }
    let text = if deepest.is_empty() { what.to_owned() } else { format!("{what}: {deepest}") };
    Error::new(Kind::Unavailable, text)
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
    message: Option<String>,
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// An answer that is not a success, with the registry's own words.
pub(super) async fn refusal(response: Response, kind: Kind) -> Error {
    let status = response.status();
    let body = read_capped(response, LARGEST_ERROR, Duration::from_secs(5)).await;
    let said = body.ok().and_then(|bytes| serde_json::from_slice::<ErrorBody>(&bytes).ok());
    let said = said.and_then(|body| match body.errors.into_iter().next() {
        Some(ErrorItem { code, message }) => Some(format!("{code}: {message}")),
        None => body.message.or(body.details),
    });
    let what = match status.as_u16() {
        401 | 403 => "access is denied",
        404 => "not found",
        429 => "the registry limits the rate of requests",
        _ => "the registry failed",
    };
    let mut text = format!("{what} ({status}");
    if let Some(said) = said {
        let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
        text.push_str(", ");
        text.push_str(&said);
    }
    text.push(')');
    Error::new(kind, text)
}

pub(super) async fn read_capped(
    mut response: Response,
    limit: usize,
    stall: Duration,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let chunk = tokio::time::timeout(stall, response.chunk())
            .await
            .map_err(|_| Error::new(Kind::Unavailable, "the registry is too slow"))?
            .map_err(|error| transport_error(&error))?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if bytes.len() + chunk.len() > limit {
            return Err(Error::invalid(format!("the answer is larger than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
}

#[expect(clippy::disallowed_methods, reason = "a registry gives no sign when it is well again")]
pub(super) async fn back_off(pause: Duration) {
    tokio::time::sleep(pause).await;
}
