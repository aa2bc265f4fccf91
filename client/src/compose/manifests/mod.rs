//! `compose convert`: a project as manifests for Kubernetes.
//!
//! ```text
//!   a service       ─▶ Deployment, StatefulSet, DaemonSet or Job (`workload`), its pod (`pod`) and what that mounts (`mounts`)
//!   its names       ─▶ Service for each; published ports a Service of their own (`services`)
//!   named volumes   ─▶ PersistentVolumeClaim
//!   secrets,configs ─▶ Secret, ConfigMap
//! ```
//! What Kubernetes has no word for is told of; what would be something else there is refused.

mod mounts;
mod names;
mod pod;
mod probes;
mod services;
mod workload;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use cais_compose::{Node, Project, Value, to_yaml};
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::Files;
use super::making::Making;
use crate::error::{Failure, Result};
use crate::output;

/// Print the project as manifests for Kubernetes, the values of its secrets included
#[derive(Debug, Args)]
pub(super) struct Convert {
    /// Save to file (default to stdout)
    #[arg(short, long)]
    output: Option<String>,
    /// How published ports are reached from outside of the cluster
    #[arg(long, value_enum, default_value = "load-balancer")]
    publish: Publish,
    /// What each named volume asks for
    #[arg(long, default_value = "1Gi")]
    volume_size: String,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Publish {
    LoadBalancer,
    NodePort,
    None,
}

impl Convert {
    pub(super) fn run(&self, files: &Files) -> Result<()> {
        let project = files.project(&files.options()?, &self.service)?;
        let conversion = Conversion {
            project: &project,
            scales: Making::default().scales(&project)?,
            publish: self.publish,
            volume_size: &self.volume_size,
            told: RefCell::default(),
        };
        let text = conversion.text()?;
        for told in conversion.told.take() {
            output::notice(&format!("warning: {told}"));
        }
        match &self.output {
            Some(path) => Ok(save(path, &text)?),
            None => output::raw(&text),
        }
    }
}

/// It holds the values of secrets: nobody else may read it. A file that is there keeps its mode, for it may be a pipe.
fn save(path: &str, text: &str) -> std::io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// # Errors
/// Of two objects that are one for Kubernetes.
fn check_once(all: &[Manifest]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for manifest in all {
        let (kind, name) = manifest.key();
        if !seen.insert((kind, name)) {
            return Err(Failure::new(format!(
                "two things of the file would be the {kind} {name}: give one of them another name"
            )));
        }
    }
    Ok(())
}

struct Conversion<'a> {
    project: &'a Project,
    scales: BTreeMap<&'a str, i64>,
    publish: Publish,
    volume_size: &'a str,
    /// What is lost on the way, or another thing there.
    told: RefCell<Vec<String>>,
}

/// An object, and why it is what it is.
struct Manifest {
    why: String,
    object: Json,
}

impl Manifest {
    /// Its kind and its name, by which Kubernetes knows an object.
    fn key(&self) -> (&str, &str) {
        let object = &self.object;
        let [kind, name] = [&object["kind"], &object["metadata"]["name"]]
            .map(|it| it.as_str().unwrap_or_default());
        (kind, name)
    }
}

impl Conversion<'_> {
    fn text(&self) -> Result<String> {
        let mut text = String::new();
        for Manifest { why, object } in self.manifests()? {
            text.push_str("---\n");
            if !why.is_empty() {
                text.push_str(&format!("# {why}\n"));
            }
            text.push_str(&to_yaml(&node(&object)));
        }
        Ok(text)
    }

    /// What is mounted comes before those who mount it.
    fn manifests(&self) -> Result<Vec<Manifest>> {
        self.check_names()?;
        let mut all = self.volumes()?;
        all.extend(self.files()?);
        let mut last = Vec::new();
        for (name, service) in self.project.services() {
            let service = Service { conversion: self, name, node: service };
            let (mounts, files) = service.mounts()?;
            all.extend(files);
            all.extend(service.services()?);
            last.push(service.workload(mounts)?);
        }
        all.extend(last);
        check_once(&all)?;
        if self.project.services().any(|(_, it)| it.get("depends_on").is_some()) {
            self.tell("depends_on is no order in Kubernetes: all start at once, and who needs another service must try again".to_owned());
        }
        Ok(all)
    }

    fn tell(&self, what: String) {
        let mut told = self.told.borrow_mut();
        if !told.contains(&what) {
            told.push(what);
        }
    }

    /// `metadata` of an object of the project.
    fn metadata(&self, name: &str) -> Json {
        json!({ "name": name, "labels": { PART_OF: names::label(&self.project.name) } })
    }
}

const PART_OF: &str = "app.kubernetes.io/part-of";
const NAME: &str = "app.kubernetes.io/name";

/// A service on its way.
struct Service<'a> {
    conversion: &'a Conversion<'a>,
    name: &'a str,
    node: &'a Node,
}

impl Service<'_> {
    /// Its name there.
    fn id(&self) -> String {
        names::label(self.name)
    }

    /// By which its pods are known.
    fn labels(&self) -> Json {
        json!({ NAME: self.id(), PART_OF: names::label(&self.conversion.project.name) })
    }

    fn list(&self, key: &str) -> &[Node] {
        self.node.get(key).and_then(Node::as_list).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self.node.get(key).and_then(Node::as_bool) == Some(true)
    }

    fn scale(&self) -> i64 {
        self.conversion.scales.get(self.name).copied().unwrap_or(1)
    }

    fn tell(&self, key: &str, what: &str) {
        self.conversion.tell(format!("services.{}.{key}: {what}", self.name));
    }

    fn cannot(&self, key: &str, what: &str) -> Failure {
        Failure::new(format!("services.{}.{key}: {what}", self.name))
    }
}

fn node(json: &Json) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(node).collect()),
        Json::Object(members) => {
            Value::Map(members.iter().map(|(key, it)| (key.clone(), node(it))).collect())
        }
    };
    value.into()
}

/// A member that is left out when there is nothing in it.
fn put(object: &mut Json, key: &str, value: Json) {
    let is_empty = match &value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    };
    if !is_empty {
        object[key] = value;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::project;
    use super::*;

    /// The objects that a file becomes by `KIND/NAME`, and what is told.
    pub(super) fn converted(text: &str) -> Result<(BTreeMap<String, Json>, Vec<String>)> {
        let project = project(text);
        let conversion = Conversion {
            project: &project,
            scales: Making::default().scales(&project)?,
            publish: Publish::LoadBalancer,
            volume_size: "1Gi",
            told: RefCell::default(),
        };
        let all = conversion.manifests()?;
        let named = all.into_iter().map(|it| {
            let (kind, name) = it.key();
            (format!("{kind}/{name}"), it.object)
        });
        Ok((named.collect(), conversion.told.take()))
    }

    #[test]
    fn two_objects_of_one_name_are_refused() {
        let file = "services: {web: {image: a, ports: ['80']}, web-published: {image: a}}";
        let refused = converted(file).unwrap_err();
        assert!(refused.message.contains("would be the Service web-published"), "{refused}");
    }

    #[test]
    fn others_cannot_read_what_is_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("all.yaml");
        save(path.to_str().unwrap(), "text").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_project_is_a_document_for_each_object() {
        let project = project(
            "services: {web: {image: a, environment: {A: 'yes', B: \"1\"}, ports: ['8080:80']}}",
        );
        let conversion = Conversion {
            project: &project,
            scales: Making::default().scales(&project).unwrap(),
            publish: Publish::None,
            volume_size: "1Gi",
            told: RefCell::default(),
        };
        let text = conversion.text().unwrap();
        assert_eq!(
            text,
            r#"---
apiVersion: v1
kind: Service
metadata:
  labels:
    app.kubernetes.io/part-of: shop
  name: web
spec:
  ports:
    - name: tcp-80
      port: 80
      protocol: TCP
      targetPort: 80
  selector:
    app.kubernetes.io/name: web
    app.kubernetes.io/part-of: shop
---
# a Deployment, for it has no volume that is to be one pod's at a time
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app.kubernetes.io/part-of: shop
  name: web
spec:
  replicas: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: web
      app.kubernetes.io/part-of: shop
  template:
    metadata:
      labels:
        app.kubernetes.io/name: web
        app.kubernetes.io/part-of: shop
    spec:
      automountServiceAccountToken: false
      containers:
        - env:
            - name: A
              value: "yes"
            - name: B
              value: "1"
          image: a
          imagePullPolicy: IfNotPresent
          name: web
          ports:
            - containerPort: 80
              protocol: TCP
      enableServiceLinks: false
      terminationGracePeriodSeconds: 10
"#
        );
    }
}
