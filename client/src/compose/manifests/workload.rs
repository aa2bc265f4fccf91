//! What keeps a service's pods: a Deployment, unless something says that it is not.

use cais_compose::{Node, Project};
use serde_json::{Value as Json, json};

use super::super::resources::{strings, text};
use super::mounts::Mounts;
use super::{Manifest, Service, names, put};
use crate::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
}

impl Kind {
    fn of(project: &Project, name: &str, node: &Node, has_claim: bool) -> (Self, &'static str) {
        let is_job = |it: &Node| {
            let how = it.get("depends_on").and_then(|it| it.get(name));
            how.is_some_and(|it| text(it, "condition") == "service_completed_successfully")
        };
        let mode = node.get("deploy").map_or("", |it| text(it, "mode"));
        if project.services().any(|(_, it)| is_job(it)) {
            (Self::Job, "a Job, for another service waits until it is completed")
        } else if mode == "global" {
            (Self::DaemonSet, "a DaemonSet, for its deploy.mode is global")
        } else if has_claim {
            let why = "a StatefulSet, for it writes to a volume: the old pod ends before a new one begins";
            (Self::StatefulSet, why)
        } else {
            let why = "a Deployment, for it has no volume that is to be one pod's at a time";
            (Self::Deployment, why)
        }
    }
}

impl Service<'_> {
    pub(super) fn workload(&self, mounts: Mounts) -> Result<Manifest> {
        let project = self.conversion.project;
        let (kind, why) = Kind::of(project, self.name, self.node, mounts.writes_to_claim);
        let mut template = json!({ "metadata": { "labels": self.labels() } });
        put(&mut template["metadata"], "annotations", self.annotations());
        let mut pod = self.pod(mounts)?;
        let mut spec = json!({});
        match kind {
            Kind::Job => self.job(&mut spec, &mut pod),
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet => {
                spec["selector"] = json!({ "matchLabels": self.labels() });
                if ["no", "on-failure"].iter().any(|it| text(self.node, "restart").starts_with(it))
                {
                    self.tell("restart", "pods of services are started again whenever they end");
                }
            }
        }
        if matches!(kind, Kind::Deployment | Kind::StatefulSet) {
            spec["replicas"] = self.scale().into();
        }
        match kind {
            Kind::Deployment => put(&mut spec, "strategy", self.strategy()),
            Kind::StatefulSet => spec["serviceName"] = self.id().into(),
            Kind::DaemonSet | Kind::Job => {}
        }
        template["spec"] = pod;
        spec["template"] = template;
        let version = if kind == Kind::Job { "batch/v1" } else { "apps/v1" };
        let object = json!({
            "apiVersion": version,
            "kind": format!("{kind:?}"),
            "metadata": self.conversion.metadata(&self.id()),
            "spec": spec,
        });
        Ok(Manifest { why: why.to_owned(), object })
    }

    /// It ends by itself; how often it is tried is what `restart` says.
    fn job(&self, spec: &mut Json, pod: &mut Json) {
        let (policy, most) = match text(self.node, "restart") {
            restart if restart.starts_with("on-failure") => {
                let most = restart.split_once(':').and_then(|(_, it)| it.parse().ok());
                ("OnFailure", most.unwrap_or(6))
            }
            _ => ("Never", 0),
        };
        pod["restartPolicy"] = policy.into();
        spec["backoffLimit"] = most.into();
        spec["completions"] = self.scale().into();
        spec["parallelism"] = self.scale().into();
    }

    /// `deploy.update_config` in the words of Deployments; nothing where the file says nothing.
    fn strategy(&self) -> Json {
        let Some(update) = self.node.get("deploy").and_then(|it| it.get("update_config")) else {
            return Json::Null;
        };
        let at_once = update.get("parallelism").and_then(Node::as_int).unwrap_or(1).max(1);
        let (surge, unavailable) =
            if text(update, "order") == "start-first" { (at_once, 0) } else { (0, at_once) };
        json!({
            "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable },
        })
    }

    /// Labels of containers may be any text, which those of pods may not.
    fn annotations(&self) -> Json {
        let mut all = strings(self.node.get("labels"));
        all.extend(strings(self.node.get("annotations")));
        all.retain(|key, _| {
            let is_good = names::is_annotation(key);
            if !is_good {
                self.tell("labels", &format!("{key:?} cannot be the key of an annotation"));
            }
            is_good
        });
        all.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::converted;

    #[test]
    fn a_service_is_kept_by_what_suits_it() {
        let (all, told) = converted(
            "
services:
  web: {image: a, scale: 3, deploy: {update_config: {order: start-first, parallelism: 2}}, labels: {a.b: c}}
  db: {image: a, volumes: ['data:/data'], restart: 'no'}
  reader: {image: a, volumes: ['data:/data:ro']}
  agent: {image: a, deploy: {mode: global}}
  job: {image: a, restart: 'on-failure:3'}
  app: {image: a, depends_on: {job: {condition: service_completed_successfully}}}
volumes: {data: }
",
        )
        .unwrap();
        let web = &all["Deployment/web"]["spec"];
        assert_eq!(web["replicas"], 3);
        assert_eq!(web["strategy"]["rollingUpdate"]["maxSurge"], 2);
        assert_eq!(web["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
        assert_eq!(web["template"]["metadata"]["annotations"]["a.b"], "c");
        assert_eq!(web["selector"]["matchLabels"], web["template"]["metadata"]["labels"]);
        assert_eq!(all["StatefulSet/db"]["spec"]["serviceName"], "db");
        for name in ["Deployment/reader", "DaemonSet/agent", "Deployment/app"] {
            assert!(all.contains_key(name), "{name}");
        }
        assert!(all["DaemonSet/agent"]["spec"].get("replicas").is_none());
        let job = &all["Job/job"]["spec"];
        assert_eq!(job["backoffLimit"], 3);
        assert_eq!(job["template"]["spec"]["restartPolicy"], "OnFailure");
        assert!(job.get("selector").is_none());
        assert!(told.iter().any(|it| it.contains("services.db.restart")), "{told:?}");
        assert!(told.iter().any(|it| it.starts_with("depends_on is no order")), "{told:?}");
    }
}
