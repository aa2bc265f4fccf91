//! What a build may ask this program for while it goes on: the user's ssh agents, secrets, and files by name.
//!
//! The call that begins the build says what there is; what is not asked of a daemon by its call is given when the build has begun.

mod agents;
mod secrets;

use std::path::Path as LocalPath;
use std::thread;

use self::agents::Agent;
use self::secrets::Secret;
use crate::client::Path;
use crate::context::{Context, is_elsewhere};
use crate::error::{Context as _, Failure, Result};
use crate::http::Payload;
use crate::{Cais, output};

const UUID: &str = "/proc/sys/kernel/random/uuid";

/// The last of a name is meant.
#[derive(Debug, Default)]
pub(crate) struct Lending {
    /// By which the daemon tells this build from others.
    session: String,
    agents: Vec<Agent>,
    secrets: Vec<Secret>,
    /// By name.
    contexts: Vec<(String, Named)>,
}

#[derive(Debug)]
enum Named {
    /// An image or an address, as the daemon reads it.
    Elsewhere(String),
    Directory(Context),
}

impl Lending {
    /// `ID`, or `ID=SOCKET`.
    ///
    /// # Errors
    /// There is no such agent.
    pub(crate) fn add_agent(&mut self, text: &str) -> Result<()> {
        let agent = agents::read(text, std::env::var_os("SSH_AUTH_SOCK"))?;
        self.agents.retain(|known| known.id != agent.id);
        self.agents.push(agent);
        Ok(())
    }

    /// As docker's `--secret` has it.
    ///
    /// # Errors
    /// It is no such text, or its file cannot be read.
    pub(crate) fn add_secret(&mut self, text: &str) -> Result<()> {
        let secret = secrets::read(text, |name| std::env::var_os(name))?;
        self.put_secret(secret)
    }

    /// # Errors
    /// It is too large.
    pub(crate) fn add_secret_value(&mut self, id: &str, value: Vec<u8>) -> Result<()> {
        self.put_secret(Secret { id: id.to_owned(), value })
    }

    fn put_secret(&mut self, secret: Secret) -> Result<()> {
        secret.check()?;
        self.secrets.retain(|known| known.id != secret.id);
        self.secrets.push(secret);
        Ok(())
    }

    /// `value` is a directory here, or else an image (`docker-image://NAME`) or an address.
    ///
    /// # Errors
    /// There is no such directory.
    pub(crate) fn add_context(&mut self, name: &str, value: &str) -> Result<()> {
        let named = if is_elsewhere(value) {
            if value.starts_with("oci-layout://") {
                return Err(Failure::new(format!(
                    "context {name}: {value}: images in directories are not read yet"
                )));
            }
            Named::Elsewhere(value.to_owned())
        } else {
            Named::Directory(
                Context::of_files(LocalPath::new(value)).context(format_args!("context {name}"))?,
            )
        };
        self.contexts.retain(|(known, _)| known != name);
        self.contexts.push((name.to_owned(), named));
        Ok(())
    }

    /// The call of the build, with what it may ask for.
    pub(crate) fn announced(&mut self, mut path: Path) -> Result<Path> {
        let is_lent = |(_, named): &(String, Named)| matches!(named, Named::Directory(_));
        if !(self.agents.is_empty() && self.secrets.is_empty()) || self.contexts.iter().any(is_lent)
        {
            std::fs::read_to_string(UUID).context(UUID)?.trim().clone_into(&mut self.session);
            path = path.with("session", &self.session);
        }
        for agent in &self.agents {
            path = path.with("ssh", &agent.id);
        }
        for secret in &self.secrets {
            path = path.with("secret", &secret.id);
        }
        for (name, named) in &self.contexts {
            let value = match named {
                Named::Elsewhere(value) => value,
                Named::Directory(_) => "",
            };
            path = path.with("context", &format!("{name}={value}"));
        }
        Ok(path)
    }

    /// Gives it all, beside the build that has begun.
    pub(crate) fn begin(self, cais: &Cais) {
        // Nobody joins any of them: an agent waits as long as the build goes on, which need not use what it asked for.
        for agent in self.agents {
            let (client, session) = (cais.client.clone(), self.session.clone());
            thread::spawn(move || agents::lend(&client, &session, &agent));
        }
        let at = |kind: &str, id: &str| {
            Path::new(&["build", kind]).with("session", &self.session).with("id", id)
        };
        for secret in self.secrets {
            let (cais, path) = (cais.clone(), at("secret", &secret.id));
            thread::spawn(move || {
                let given = cais.client.call("POST", path, Payload::Json(secret.value), Vec::new());
                given.map_or_else(|failure| told(&failure, "secret", &secret.id), drop);
            });
        }
        for (name, named) in self.contexts {
            let Named::Directory(context) = named else { continue };
            let (cais, path) = (cais.clone(), at("context", &name));
            thread::spawn(move || {
                context
                    .send(&cais, path)
                    .map_or_else(|failure| told(&failure, "context", &name), drop);
            });
        }
    }
}

/// A build that is over before it took it has said why itself.
fn told(failure: &Failure, what: &str, name: &str) {
    if !failure.is_not_found() {
        output::notice(&format!("warning: {what} {name}: {failure}"));
    }
}
