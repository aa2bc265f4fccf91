//! `~/.docker/config.json`, which docker's client shares: credentials, formats, detach keys.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::error::{Context, Failure, Result};

/// The key of Docker Hub, which has a form of its own.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
const TOKEN_USER: &str = "<token>";

#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    values: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) identity_token: String,
}

impl Credentials {
    /// As `X-Registry-Auth` and `POST /auth` have them.
    pub(crate) fn to_json(&self, server: &str) -> Value {
        if !self.identity_token.is_empty() {
            return json!({ "identitytoken": self.identity_token, "serveraddress": server });
        }
        json!({ "username": self.username, "password": self.password, "serveraddress": server })
    }
}

/// Where the client's files are: this directory, else `DOCKER_CONFIG`, else `~/.docker`.
pub(crate) fn directory(given: Option<&str>) -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    given
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("DOCKER_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| home().join(".docker"))
}

impl ConfigFile {
    /// A file that is not there is empty.
    pub(crate) fn load(directory: Option<&str>) -> Result<Self> {
        let path = self::directory(directory).join("config.json");
        let values = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .context(format_args!("WARNING: Error loading config file: {}", path.display()))?,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Map::new()
            }
            Err(error) => {
                let path = path.display();
                let text = format!("WARNING: Error loading config file: {path}: {error}");
                return Err(Failure::new(text));
            }
        };
        Ok(Self { path, values })
    }

    pub(crate) fn empty(directory: Option<&str>) -> Self {
        Self { path: self::directory(directory).join("config.json"), values: Map::new() }
    }

    /// A setting that is a text, as `psFormat` is.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.values.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The variables by which containers find their proxies, for the daemon at `host` or for every one, in both spellings.
    pub(crate) fn proxies(&self, host: &str) -> Vec<(String, &str)> {
        let all = self.values.get("proxies");
        let found = all.and_then(|it| it.get(host).or_else(|| it.get("default")));
        let mut variables = Vec::new();
        for (key, name) in [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ] {
            let value = found.and_then(|it| it.get(key)?.as_str()).filter(|it| !it.is_empty());
            if let Some(value) = value {
                variables.extend([(name.to_owned(), value), (name.to_lowercase(), value)]);
            }
        }
        variables
    }

    /// The program that keeps what belongs to this server, if one does.
    fn helper(&self, server: &str) -> Option<String> {
        let of_server =
            self.values.get("credHelpers").and_then(|it| it.get(server)).and_then(Value::as_str);
        let name = of_server.unwrap_or_else(|| self.text("credsStore"));
        (!name.is_empty()).then(|| format!("docker-credential-{name}"))
    }

    /// The servers that it knows something of.
    pub(crate) fn servers(&self) -> Vec<String> {
        let keys = |name: &str| self.values.get(name).and_then(Value::as_object).map(Map::keys);
        let mut servers: Vec<String> =
            ["auths", "credHelpers"].into_iter().filter_map(keys).flatten().cloned().collect();
        servers.sort();
        servers.dedup();
        servers
    }

    pub(crate) fn credentials(&self, server: &str) -> Result<Option<Credentials>> {
        if let Some(helper) = self.helper(server) {
            return from_helper(&helper, server);
        }
        let Some(entry) = self.values.get("auths").and_then(|it| entry_of(it, server)) else {
            return Ok(None);
        };
        let field =
            |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let identity_token = field("identitytoken");
        let decoded =
            BASE64.decode(field("auth")).context(format_args!("credentials for {server}"))?;
        let pair = String::from_utf8_lossy(&decoded).into_owned();
        let (username, password) = pair.split_once(':').unwrap_or((&pair, ""));
        let (username, password) =
            (username.to_owned(), password.trim_end_matches('\0').to_owned());
        if username.is_empty() && identity_token.is_empty() {
            return Ok(None);
        }
        Ok(Some(Credentials { username, password, identity_token }))
    }

    /// The file that they stand in, in plain text, unless a helper keeps them.
    pub(crate) fn store(
        &mut self,
        server: &str,
        credentials: &Credentials,
    ) -> Result<Option<PathBuf>> {
        let is_token = !credentials.identity_token.is_empty();
        if let Some(helper) = self.helper(server) {
            let (username, secret) = if is_token {
                (TOKEN_USER, &credentials.identity_token)
            } else {
                (credentials.username.as_str(), &credentials.password)
            };
            let entry = json!({ "ServerURL": server, "Username": username, "Secret": secret });
            run_helper(&helper, "store", &entry.to_string())?;
            // The file names the server, without its secret.
            self.set_entry(server, json!({}));
            return self.save().map(|()| None);
        }
        let pair = format!("{}:{}", credentials.username, credentials.password);
        let mut entry = json!({ "auth": BASE64.encode(pair) });
        if is_token {
            entry["identitytoken"] = credentials.identity_token.as_str().into();
            entry["auth"] = BASE64.encode(format!("{}:", credentials.username)).into();
        }
        self.set_entry(server, entry);
        self.save().map(|()| Some(self.path.clone()))
    }

    fn set_entry(&mut self, server: &str, entry: Value) {
        let auths = self.values.entry("auths").or_insert_with(|| json!({}));
        if let Value::Object(auths) = auths {
            auths.insert(server.to_owned(), entry);
        }
    }

    /// Whether there was something to forget.
    pub(crate) fn erase(&mut self, server: &str) -> Result<bool> {
        let auths = self.values.get_mut("auths").and_then(Value::as_object_mut);
        let was_there = auths.is_some_and(|auths| {
            let keys: Vec<_> =
                auths.keys().filter(|key| host_of(key) == host_of(server)).cloned().collect();
            keys.iter().for_each(|key| drop(auths.remove(key)));
            !keys.is_empty()
        });
        if let Some(helper) = self.helper(server) {
            run_helper(&helper, "erase", server)?;
        }
        if was_there {
            self.save()?;
        }
        Ok(was_there)
    }

    /// Written beside and renamed: it is whole at every moment, and nobody else can read it.
    fn save(&self) -> Result<()> {
        // A link stays one: it is the file behind it that changes.
        let target = fs::read_link(&self.path).map_or_else(
            |_| self.path.clone(),
            |link| self.path.parent().map_or_else(|| link.clone(), |parent| parent.join(&link)),
        );
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory).context(directory.display())?;
        }
        let mut name = target.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(name);
        let text = serde_json::to_string(&self.values).context(self.path.display())?;
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut file| file.write_all(crate::json::indented(&text, "\t").as_bytes()))
            .and_then(|()| fs::rename(&beside, &target));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written.context(self.path.display())
    }
}

/// By its name, or by the host of a name that is a URL.
fn entry_of<'a>(auths: &'a Value, server: &str) -> Option<&'a Value> {
    let auths = auths.as_object()?;
    auths.get(server).or_else(|| {
        let found = auths.iter().find(|(key, _)| host_of(key) == host_of(server));
        found.map(|(_, entry)| entry)
    })
}

fn host_of(server: &str) -> &str {
    let bare = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    bare.split('/').next().unwrap_or_default()
}

fn from_helper(helper: &str, server: &str) -> Result<Option<Credentials>> {
    let reply = match run_helper(helper, "get", server) {
        Ok(reply) => reply,
        Err(failure) if failure.message.contains("credentials not found") => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let reply: Value = serde_json::from_str(&reply).context(helper)?;
    let field = |name: &str| reply.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (username, secret) = (field("Username"), field("Secret"));
    Ok(Some(if username == TOKEN_USER {
        Credentials { identity_token: secret, ..Credentials::default() }
    } else {
        Credentials { username, password: secret, identity_token: String::new() }
    }))
}

/// What it wrote to standard output, which is also where it complains.
fn run_helper(helper: &str, verb: &str, input: &str) -> Result<String> {
    let failed = |what: &str| {
        Failure::new(format!("error getting credentials - err: {what}, {helper} {verb}"))
    };
    let spawned =
        Command::new(helper).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| failed(&format!("exec: {helper:?}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may not want to read.
        let _ = stdin.write_all(input.as_bytes());
    }
    let done = child.wait_with_output().map_err(|error| failed(&error.to_string()))?;
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    if done.status.success() {
        return Ok(text);
    }
    Err(failed(&format!("{}, out: `{text}`", done.status)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn alice() -> Credentials {
        Credentials {
            username: "alice".to_owned(),
            password: "se:cret".to_owned(),
            identity_token: String::new(),
        }
    }

    #[test]
    fn credentials_are_kept_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("new");
        let load = || ConfigFile::load(place.to_str()).unwrap();
        assert_eq!(load().credentials("reg:5000").unwrap(), None);
        load().store("reg:5000", &alice()).unwrap();
        let mode = fs::metadata(place.join("config.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(load().credentials("reg:5000").unwrap(), Some(alice()));
        assert_eq!(load().credentials("https://reg:5000/v1/").unwrap(), Some(alice()));
        assert!(load().erase("reg:5000").unwrap());
        assert!(!load().erase("reg:5000").unwrap());
        assert_eq!(load().credentials("reg:5000").unwrap(), None);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
    }

    #[test]
    fn proxies_are_those_of_the_daemon_or_of_all() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"{"proxies":{"default":{"httpProxy":"a","noProxy":""},"tcp://x:1":{"allProxy":"b"}}}"#;
        let mut file = fs::File::create(directory.path().join("config.json")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let config = ConfigFile::load(directory.path().to_str()).unwrap();
        let pair = |name: &str, value: &'static str| (name.to_owned(), value);
        let of_all = [pair("HTTP_PROXY", "a"), pair("http_proxy", "a")];
        assert_eq!(config.proxies("unix:///run/cais/docker.sock"), of_all);
        let of_one = [pair("ALL_PROXY", "b"), pair("all_proxy", "b")];
        assert_eq!(config.proxies("tcp://x:1"), of_one);
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(ConfigFile::load(nothing.path().to_str()).unwrap().proxies("x"), []);
    }

    #[test]
    fn what_else_stands_in_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(br#"{"detachKeys":"ctrl-a","auths":{"x":{"auth":"YTpi"}}}"#).unwrap();
        let mut config = ConfigFile::load(directory.path().to_str()).unwrap();
        assert_eq!(config.text("detachKeys"), "ctrl-a");
        config.store("y", &alice()).unwrap();
        let kept = ConfigFile::load(directory.path().to_str()).unwrap();
        assert_eq!(kept.text("detachKeys"), "ctrl-a");
        assert_eq!(kept.credentials("x").unwrap().unwrap().username, "a");
    }
}
