//! The configuration document of an image that is being built: what its containers get, and how it
//! came about.
//!
//! What the base image says stays, also what we have no word for; an instruction changes what it
//! names.

use cais_dockerfile::history::{COMMENT, DEFAULT_SHELL};
use cais_dockerfile::{Env, Platform, Scope, add_path};
use serde_json::{Map, Value, json};

use crate::error::{Context, Error, Result};
use crate::image::cache::INLINE;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// All but `config`, `history` and `rootfs`.
    document: Map<String, Value>,
    config: Map<String, Value>,
    history: Vec<Value>,
    /// A CMD of this build is newer than its ENTRYPOINT.
    has_own_cmd: bool,
}

impl Settings {
    /// Of an image without layers.
    pub(super) fn scratch(platform: &Platform) -> Self {
        let mut document = Map::new();
        document.insert("architecture".into(), json!(platform.architecture));
        document.insert("os".into(), json!(platform.os));
        if !platform.variant.is_empty() {
            document.insert("variant".into(), json!(platform.variant));
        }
        Self { document, config: Map::new(), history: Vec::new(), has_own_cmd: false }.with_path()
    }

    /// Of an image that others are built upon.
    pub(super) fn of(document: &[u8]) -> Result<Self> {
        let document: Value =
            serde_json::from_slice(document).context("read the image's configuration")?;
        let Value::Object(mut document) = document else {
            return Err(Error::invalid("the image's configuration is no object"));
        };
        let config = match document.remove("config") {
            Some(Value::Object(config)) => config,
            Some(_) | None => Map::new(),
        };
        let history = match document.remove("history") {
            Some(Value::Array(history)) => history,
            Some(_) | None => Vec::new(),
        };
        // They say how the base image was made, not this one.
        for key in [
            "rootfs",
            "container",
            "container_config",
            "docker_version",
            "comment",
            "parent",
            INLINE,
        ] {
            document.remove(key);
        }
        Ok(Self { document, config, history, has_own_cmd: false }.with_path())
    }

    fn with_path(mut self) -> Self {
        let os = self.document.get("os").and_then(Value::as_str).unwrap_or_default();
        let mut env = self.env();
        add_path(&mut env, os);
        self.set("Env", json!(env));
        self
    }

    pub(super) fn env(&self) -> Vec<String> {
        self.list("Env")
    }

    /// What words of a stage that begins with this are expanded with.
    pub(super) fn scope(&self) -> Scope {
        Scope::new(Env::from_pairs(self.env()))
    }

    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let mut all = self.env();
        let line = format!("{name}={value}");
        match all.iter_mut().find(|known| known.split('=').next() == Some(name)) {
            Some(known) => *known = line,
            None => all.push(line),
        }
        self.set("Env", json!(all));
    }

    pub(super) fn user(&self) -> String {
        self.text("User")
    }

    pub(super) fn set_user(&mut self, user: &str) {
        self.set("User", json!(user));
    }

    /// Absolute.
    pub(super) fn working_dir(&self) -> String {
        match self.text("WorkingDir") {
            empty if empty.is_empty() => "/".to_owned(),
            relative if !relative.starts_with('/') => format!("/{relative}"),
            path => path,
        }
    }

    pub(super) fn set_working_dir(&mut self, path: &str) {
        self.set("WorkingDir", json!(path));
    }

    pub(super) fn shell(&self) -> Vec<String> {
        match self.list("Shell") {
            none if none.is_empty() => DEFAULT_SHELL.map(str::to_owned).to_vec(),
            own => own,
        }
    }

    pub(super) fn set_shell(&mut self, words: &[String]) {
        self.set("Shell", json!(words));
    }

    pub(super) fn set_cmd(&mut self, words: &[String]) {
        self.set("Cmd", json!(words));
        self.has_own_cmd = true;
    }

    /// What the base image had as arguments means nothing to another entrypoint.
    pub(super) fn set_entrypoint(&mut self, words: &[String]) {
        self.set("Entrypoint", json!(words));
        if !self.has_own_cmd {
            self.config.remove("Cmd");
        }
    }

    pub(super) fn add_label(&mut self, key: &str, value: &str) {
        self.insert("Labels", key, json!(value));
    }

    /// `80/tcp`
    pub(super) fn add_port(&mut self, port: &str) {
        self.insert("ExposedPorts", port, json!({}));
    }

    pub(super) fn add_volume(&mut self, path: &str) {
        self.insert("Volumes", path, json!({}));
    }

    pub(super) fn set_stop_signal(&mut self, signal: &str) {
        self.set("StopSignal", json!(signal));
    }

    pub(super) fn set_healthcheck(&mut self, check: Value) {
        self.set("Healthcheck", check);
    }

    pub(super) fn add_trigger(&mut self, line: &str) {
        let mut all = self.list("OnBuild");
        all.push(line.to_owned());
        self.set("OnBuild", json!(all));
    }

    /// The instructions that an image asks of those built upon it, which it asks once.
    pub(super) fn take_triggers(&mut self) -> Vec<String> {
        let all = self.list("OnBuild");
        self.config.remove("OnBuild");
        all
    }

    pub(super) fn set_author(&mut self, author: &str) {
        self.document.insert("author".into(), json!(author));
    }

    /// Which steps made the layers.
    pub(super) fn set_inline_cache(&mut self, records: &str) {
        self.document.insert(INLINE.into(), json!(records));
    }

    /// A step that was done; one that changed no file has no layer.
    pub(super) fn add_history(&mut self, created: &str, created_by: &str, has_layer: bool) {
        let mut step = json!({ "created": created, "created_by": created_by, "comment": COMMENT });
        if !has_layer {
            step["empty_layer"] = json!(true);
        }
        self.history.push(step);
    }

    /// The document of the image; its layers are `diff_ids`, the base first.
    pub(super) fn document(&self, created: &str, diff_ids: &[String]) -> Result<Vec<u8>> {
        let mut document = self.document.clone();
        document.insert("created".into(), json!(created));
        document.insert("config".into(), Value::Object(self.config.clone()));
        document.insert("history".into(), Value::Array(self.history.clone()));
        document.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
        serde_json::to_vec(&document).context("write the image's configuration")
    }

    fn set(&mut self, key: &str, value: Value) {
        self.config.insert(key.to_owned(), value);
    }

    fn insert(&mut self, map: &str, key: &str, value: Value) {
        match self.config.get_mut(map).and_then(Value::as_object_mut) {
            Some(known) => drop(known.insert(key.to_owned(), value)),
            None => self.set(map, json!({ key: value })),
        }
    }

    fn text(&self, key: &str) -> String {
        self.config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn list(&self, key: &str) -> Vec<String> {
        let all = self.config.get(key).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &Settings) -> Value {
        let document = settings.document("now", &[]).unwrap();
        serde_json::from_slice::<Value>(&document).unwrap()["config"].clone()
    }

    #[test]
    fn what_the_base_says_stays_and_an_entrypoint_drops_its_arguments() {
        let base = json!({
            "architecture": "amd64", "os": "linux", "docker_version": "1",
            "config": { "Cmd": ["sh"], "Env": ["A=1", "B=2"], "OnBuild": ["RUN x"], "Odd": 7 },
            "history": [{ "created_by": "base" }],
            "rootfs": { "type": "layers", "diff_ids": ["x"] },
        });
        let mut settings = Settings::of(base.to_string().as_bytes()).unwrap();
        settings.set_env("A", "3");
        settings.set_env("C", "");
        assert_eq!(settings.take_triggers(), ["RUN x"]);
        settings.set_entrypoint(&["/init".to_owned()]);
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(Settings::scratch(&Platform::host()).env(), [path]);
        let expected =
            json!({ "Env": ["A=3", "B=2", path, "C="], "Entrypoint": ["/init"], "Odd": 7 });
        assert_eq!(config(&settings), expected);

        settings.set_cmd(&["run".to_owned()]);
        settings.set_entrypoint(&["/other".to_owned()]);
        assert_eq!(config(&settings)["Cmd"], json!(["run"]));

        settings.add_history("now", "ENV A=3", false);
        let document = settings.document("now", &["y".to_owned()]).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["rootfs"]["diff_ids"], json!(["y"]));
        assert_eq!(document["history"][0]["created_by"], "base");
        assert_eq!(document["history"][1]["empty_layer"], true);
        assert!(document.get("docker_version").is_none());
    }
}
