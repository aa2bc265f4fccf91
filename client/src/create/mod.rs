//! Flags and words become the body of `POST /containers/create`.
//!
//! What a flag does not say is left out: the daemon has the defaults. `docker` sends them too; the two bodies mean the same.

mod flags;
pub(crate) mod host;
pub(crate) mod mounts;
mod network;
mod ports;
#[cfg(test)]
mod tests;
pub(crate) mod values;

use serde_json::{Map, Value, json};

use crate::client::Path;

pub(crate) use self::flags::Flags;
pub(crate) use self::mounts::binds;
pub(crate) use self::ports::published;

/// Why a container cannot be described, in docker's words where it has some.
pub(crate) type Refused = String;

/// What is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Attached {
    /// What connects these streams of a container.
    pub(crate) fn path(self, container: &str, detach_keys: &str) -> Path {
        Path::new(&["containers", container, "attach"])
            .with_flag("stderr", self.stderr)
            .with_flag("stdin", self.stdin)
            .with_flag("stdout", self.stdout)
            .with("stream", "1")
            .with_text("detachKeys", detach_keys)
    }
}

/// An object whose empty values are not put in.
#[derive(Debug, Default)]
pub(crate) struct Members(Map<String, Value>);

impl Members {
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let is_empty = match &value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Number(_) => false,
        };
        if !is_empty {
            self.0.insert(key.to_owned(), value);
        }
    }

    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Where the client stands: what it attaches, and the terminal that it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    pub(crate) is_detached: bool,
    /// Rows and columns.
    pub(crate) console: Option<(u16, u16)>,
}

impl Flags {
    /// What will be attached to: what `-a` names, else all there is.
    pub(crate) fn attached(&self, is_detached: bool) -> Result<Attached, Refused> {
        let mut attached = Attached { stdin: false, stdout: false, stderr: false };
        for name in &self.attach {
            match name.to_lowercase().as_str() {
                "stdin" => attached.stdin = true,
                "stdout" => attached.stdout = true,
                "stderr" => attached.stderr = true,
                _ => {
                    return Err(format!(
                        "invalid argument {name:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                    ));
                }
            }
        }
        if !is_detached && self.attach.is_empty() {
            attached = Attached { stdin: self.interactive, stdout: true, stderr: true };
        }
        Ok(attached)
    }

    /// The body for an image and a command.
    pub(crate) fn body(
        &self,
        image: &str,
        command: &[String],
        around: Surroundings,
    ) -> Result<Value, Refused> {
        let attached = self.attached(around.is_detached)?;
        let mut body = Members::default();
        body.set("Image", image);
        body.set("Cmd", command.to_vec());
        body.set("Hostname", self.hostname.as_str());
        body.set("Domainname", self.domainname.as_str());
        body.set("User", self.user.as_str());
        body.set("WorkingDir", self.workdir.as_str());
        body.set("AttachStdin", attached.stdin);
        body.set("AttachStdout", attached.stdout);
        body.set("AttachStderr", attached.stderr);
        body.set("Tty", self.tty);
        body.set("OpenStdin", self.interactive);
        body.set("StdinOnce", self.interactive && attached.stdin);
        body.set("Env", values::environment(&self.env, &self.env_file)?);
        body.set("Labels", values::labels(&self.label, &self.label_file)?);
        body.set("StopSignal", self.stop_signal.as_str());
        body.set("StopTimeout", self.stop_timeout);
        body.set("Healthcheck", self.healthcheck()?);
        if let Some(entrypoint) = &self.entrypoint {
            // An empty one removes the image's.
            body.0.insert("Entrypoint".to_owned(), json!([entrypoint]));
        }
        let ports = published(&self.publish, &self.expose)?;
        body.set("ExposedPorts", ports.exposed);
        let volumes = binds(&self.volume)?;
        body.set("Volumes", volumes.anonymous);
        let network = network::networks(self)?;
        body.set("NetworkingConfig", json!({ "EndpointsConfig": network.endpoints }));
        let host = self.host_config(ports.bindings, volumes.binds, &network.mode, around)?;
        body.set("HostConfig", host);
        Ok(body.into_value())
    }

    fn healthcheck(&self) -> Result<Value, Refused> {
        let mut check = Members::default();
        if !self.health_cmd.is_empty() {
            check.set("Test", json!(["CMD-SHELL", self.health_cmd]));
        }
        check.set("Interval", self.health_interval);
        check.set("Timeout", self.health_timeout);
        check.set("StartPeriod", self.health_start_period);
        check.set("StartInterval", self.health_start_interval);
        check.set("Retries", self.health_retries);
        let check = check.into_value();
        if !self.no_healthcheck {
            return Ok(check);
        }
        if check.as_object().is_some_and(|it| !it.is_empty()) {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        Ok(json!({ "Test": ["NONE"] }))
    }
}
