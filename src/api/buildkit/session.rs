//! Sessions: what build clients serve to us while their builds go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cais_proto::buildkit::filesync::CredentialsRequest;
use cais_proto::buildkit::filesync::auth_client::AuthClient;
use cais_proto::buildkit::secrets::GetSecretRequest;
use cais_proto::buildkit::secrets::secrets_client::SecretsClient;
use http::HeaderMap;
use tokio::sync::watch;
use tonic::Code;

use super::errors::failed_call;
use super::wire::{Caller, Io};
use crate::error::{Context, Error, Kind, Result};
use crate::image::{CredentialFields, Credentials};

const ID: &str = "X-Docker-Expose-Session-Uuid";
const SHARED_KEY: &str = "X-Docker-Expose-Session-Sharedkey";
const METHOD: &str = "X-Docker-Expose-Session-Grpc-Method";

/// A client opens its session while its first calls are on their way.
const PATIENCE: Duration = Duration::from_secs(20);

/// Docker's hub is known to clients by this host.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// What a client serves, as its request to open a session says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    id: String,
    /// The same for builds of the same files; may be empty.
    shared_key: String,
    /// `/package.service/method`, in lower case.
    methods: BTreeSet<String>,
}

impl Offer {
    /// # Errors
    /// `InvalidArgument` without an id.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = text(ID).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Error::invalid(format!("a session without {ID}")))?;
        let methods = headers.get_all(METHOD).into_iter().filter_map(|value| value.to_str().ok());
        Ok(Self {
            id: id.to_owned(),
            shared_key: text(SHARED_KEY).unwrap_or_default().to_owned(),
            methods: methods.map(str::to_ascii_lowercase).collect(),
        })
    }
}

/// A client that serves us.
pub(super) struct Session {
    offer: Offer,
    caller: Caller,
}

impl Session {
    pub(super) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    pub(super) fn shared_key(&self) -> &str {
        &self.offer.shared_key
    }

    pub(super) fn offers(&self, method: &str) -> bool {
        self.offer.methods.contains(&method.to_ascii_lowercase())
    }

    /// What the client shows to a registry.
    pub(super) async fn credentials(&self, registry: &str) -> Result<Credentials> {
        if !self.offers("/moby.filesync.v1.Auth/Credentials") {
            return Ok(Credentials::anonymous());
        }
        let host = if registry == HUB { HUB_HOST } else { registry };
        let mut auth = AuthClient::with_origin(self.caller(), Caller::origin());
        let answer = auth.credentials(CredentialsRequest { host: host.to_owned() }).await;
        let answer =
            answer.map_err(|status| failed_call(&status)).context("ask for credentials")?;
        let answer = answer.into_inner();
        let (password, identity_token) = match answer.username.is_empty() {
            // A secret alone is a token.
            true => (String::new(), answer.secret),
            false => (answer.secret, String::new()),
        };
        Credentials::from_fields(CredentialFields {
            username: answer.username,
            password,
            identity_token,
            ..CredentialFields::default()
        })
    }

    /// `None` if the client has none of this id.
    pub(super) async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        if !self.offers("/moby.buildkit.secrets.v1.Secrets/GetSecret") {
            return Ok(None);
        }
        let mut secrets = SecretsClient::with_origin(self.caller(), Caller::origin());
        match secrets.get_secret(GetSecretRequest { id: id.to_owned() }).await {
            Ok(answer) => Ok(Some(answer.into_inner().data)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => {
                Err(failed_call(&status)).with_context(|| format!("ask for secret {id}"))
            }
        }
    }
}

/// All that are open.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<BTreeMap<String, Arc<Session>>>,
    /// Counts those that were opened.
    opened: watch::Sender<u64>,
}

impl Sessions {
    /// Keeps a session as long as its connection lives.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of its id.
    pub(super) async fn keep(&self, offer: Offer, io: impl Io) -> Result<()> {
        let (caller, ending) = Caller::on(io).await?;
        let id = offer.id.clone();
        {
            let mut open = self.lock();
            if open.contains_key(&id) {
                let text = format!("session {id} already exists");
                return Err(Error::new(Kind::AlreadyExists, text));
            }
            open.insert(id.clone(), Arc::new(Session { offer, caller }));
        }
        self.opened.send_modify(|count| *count += 1);
        ending.await;
        self.lock().remove(&id);
        Ok(())
    }

    /// Waits for one that is being opened.
    ///
    /// # Errors
    /// `Unavailable` if it is not.
    pub(super) async fn find(&self, id: &str) -> Result<Arc<Session>> {
        let mut opened = self.opened.subscribe();
        let looking = async {
            loop {
                if let Some(session) = self.lock().get(id).cloned() {
                    return Ok(session);
                }
                opened.changed().await.context("wait for a session")?;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.map_err(|_| {
            Error::new(Kind::Unavailable, format!("no active session for {id}: the client is gone"))
        })?
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_offers_what_its_headers_say() {
        let mut headers = HeaderMap::new();
        assert!(Offer::of(&headers).is_err());
        headers.insert(ID, "abc".parse().unwrap());
        for method in ["/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.Auth/Credentials"]
        {
            headers.append(METHOD, method.parse().unwrap());
        }
        let offer = Offer::of(&headers).unwrap();
        assert_eq!((offer.id.as_str(), offer.shared_key.as_str()), ("abc", ""));
        assert!(offer.methods.contains("/moby.filesync.v1.filesync/diffcopy"));
        assert_eq!(offer.methods.len(), 2);
    }
}
