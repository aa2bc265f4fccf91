//! `login` and `logout`.

use std::io::{self, IsTerminal, Read, Write};

use clap::Args;

use crate::client::Path;
use crate::config_file::{ConfigFile, Credentials, HUB};
use crate::error::{Failure, Result};
use crate::output::notice;
use crate::{Cais, output, terminal};

/// Authenticate to a registry. Defaults to Docker Hub if no server is specified
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, default_value = "")]
    password: String,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, default_value = "")]
    username: String,
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Login {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let server = server_key(self.server.as_deref());
        let mut config = cais.config()?;
        if self.username.is_empty() && self.password.is_empty() && !self.password_stdin {
            let known = config.credentials(&server)?;
            if let Some(known) = known {
                notice(&format!(
                    "Authenticating with existing credentials... [Username: {}]",
                    known.username
                ));
                if let Ok(granted) = ask(cais, &server, &known) {
                    return keep(&mut config, &server, known, &granted);
                }
            }
        }
        let credentials = self.typed()?;
        let granted = ask(cais, &server, &credentials)?;
        keep(&mut config, &server, credentials, &granted)
    }

    /// From the flags, standard input or the terminal.
    fn typed(&self) -> Result<Credentials> {
        let mut password = self.password.clone();
        if !password.is_empty() {
            notice("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            if self.password_stdin {
                return Err(Failure::new(
                    "conflicting options: cannot specify both --password and --password-stdin",
                ));
            }
        }
        if self.password_stdin {
            if self.username.is_empty() {
                return Err(Failure::new(
                    "the --password-stdin option requires --username to be set",
                ));
            }
            io::stdin().read_to_string(&mut password)?;
            password = password.trim_end_matches(['\r', '\n']).to_owned();
        }
        let mut username = self.username.clone();
        let is_complete = !username.is_empty() && !password.is_empty();
        if !is_complete && !io::stdin().is_terminal() {
            return Err(Failure::new(
                "Error: Cannot perform an interactive login from a non TTY device",
            ));
        }
        if username.is_empty() {
            prompt("Username: ")?;
            io::stdin().read_line(&mut username)?;
            username = username.trim().to_owned();
        }
        if password.is_empty() {
            prompt("Password: ")?;
            password = terminal::read_hidden()?;
            output::line("")?;
        }
        if username.is_empty() || password.is_empty() {
            return Err(Failure::new("Error: username and password are required"));
        }
        Ok(Credentials { username, password, identity_token: String::new() })
    }
}

fn prompt(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The daemon asks the registry.
fn ask(cais: &Cais, server: &str, credentials: &Credentials) -> Result<crate::json::Value> {
    cais.client.post_json(Path::new(&["auth"]), &credentials.to_json(server))
}

fn keep(
    config: &mut ConfigFile,
    server: &str,
    mut credentials: Credentials,
    granted: &crate::json::Value,
) -> Result<()> {
    let token = granted["IdentityToken"].text();
    if !token.is_empty() {
        credentials.password.clear();
        token.clone_into(&mut credentials.identity_token);
    }
    let path = config.store(server, &credentials)?;
    if let Some(path) = path {
        notice(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    let status = granted["Status"].text();
    if status.is_empty() { Ok(()) } else { output::line(status) }
}

/// Log out from a registry. If no server is specified, the default is Docker Hub
#[derive(Debug, Args)]
pub(crate) struct Logout {
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Logout {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let server = server_key(self.server.as_deref());
        output::line(&format!("Removing login credentials for {server}"))?;
        cais.config()?.erase(&server).map(drop)
    }
}

/// What credentials are kept under: the host of a registry, or the key of Docker Hub.
fn server_key(server: Option<&str>) -> String {
    let server = server.unwrap_or_default();
    let bare = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    match bare.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}
