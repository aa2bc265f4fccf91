//! How services are reached: within the cluster by their names, from outside by their published ports.

use std::collections::BTreeSet;

use cais_compose::Node;
use serde_json::{Value as Json, json};

use super::super::resources::text;
use super::{Manifest, Publish, Service, names};
use crate::error::Result;

/// What a cluster gives for node ports, unless its API server is told otherwise.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

impl Service<'_> {
    /// One for each name, and one for the ports that are published.
    pub(super) fn services(&self) -> Result<Vec<Manifest>> {
        let mut all = vec![self.named(&self.id())];
        for alias in self.aliases() {
            all.push(self.named(&alias));
        }
        if self.conversion.publish != Publish::None {
            all.extend(self.published()?);
        }
        Ok(all)
    }

    /// Without known ports its name leads to the pods themselves, on any port, as in compose.
    fn named(&self, name: &str) -> Manifest {
        let is_stateful = self.writes_to_claim();
        let ports: Vec<Json> = self
            .targets()
            .iter()
            .map(|(port, protocol)| self.port(*port, *port, protocol))
            .collect();
        let mut spec = json!({ "selector": self.labels() });
        let mut why = "";
        if ports.is_empty() || is_stateful {
            spec["clusterIP"] = "None".into();
            why = "without an address of its own: its name is that of its pods";
        }
        super::put(&mut spec, "ports", ports.into());
        Manifest { why: why.to_owned(), object: self.object(name, &spec) }
    }

    fn published(&self) -> Result<Option<Manifest>> {
        let mut ports = Vec::new();
        let mut taken = BTreeSet::new();
        for port in self.list("ports") {
            let target = port.get("target").and_then(Node::as_int).unwrap_or(0);
            let protocol = text(port, "protocol").to_uppercase();
            let published = text(port, "published");
            let first = published.split('-').next().unwrap_or_default();
            let outside = if first.is_empty() { Ok(target) } else { first.parse() };
            let outside: i64 =
                outside.map_err(|_| self.cannot("ports", &format!("{published:?} is no port")))?;
            if published.contains('-') {
                self.tell(
                    "ports",
                    &format!("of {published} the first is published, for all pods together"),
                );
            }
            if !text(port, "host_ip").is_empty() {
                self.tell("ports", &format!("{published} is published on every address"));
            }
            if !taken.insert((outside, protocol.clone())) {
                continue;
            }
            let mut entry = self.port(outside, target, &protocol);
            if self.conversion.publish == Publish::NodePort && NODE_PORTS.contains(&outside) {
                entry["nodePort"] = outside.into();
            }
            ports.push(entry);
        }
        if ports.is_empty() {
            return Ok(None);
        }
        let kind = match self.conversion.publish {
            Publish::NodePort => "NodePort",
            Publish::LoadBalancer | Publish::None => "LoadBalancer",
        };
        let spec = json!({ "type": kind, "selector": self.labels(), "ports": ports });
        let name = names::label(&format!("{}-published", self.id()));
        let why = "the ports that are published".to_owned();
        Ok(Some(Manifest { why, object: self.object(&name, &spec) }))
    }

    fn port(&self, port: i64, target: i64, protocol: &str) -> Json {
        let name = format!("{}-{port}", protocol.to_lowercase());
        json!({ "name": name, "port": port, "targetPort": target, "protocol": protocol })
    }

    fn object(&self, name: &str, spec: &Json) -> Json {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.conversion.metadata(name),
            "spec": spec,
        })
    }

    /// Other names in its networks, which all pods of a namespace share. The first who has one keeps it.
    fn aliases(&self) -> BTreeSet<String> {
        let project = self.conversion.project;
        let aliases = |node: &Node| -> BTreeSet<String> {
            let networks = node.get("networks").and_then(Node::as_map).into_iter().flatten();
            let lists = networks.filter_map(|(_, it)| it.get("aliases")?.as_list());
            lists.flatten().filter_map(|it| it.as_text().map(str::to_owned)).collect()
        };
        let mut own = aliases(self.node);
        own.retain(|alias| {
            let earlier = project.services().take_while(|(name, _)| *name != self.name);
            let is_taken = project.services().any(|(name, _)| names::label(name) == *alias)
                || earlier.into_iter().any(|(_, it)| aliases(it).contains(alias));
            let is_name = names::label(alias) == *alias;
            if is_taken && *alias != self.id() || !is_name {
                self.tell(
                    "networks",
                    &format!("the alias {alias:?} cannot be a Service's name here"),
                );
            }
            !is_taken && is_name
        });
        own
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::converted;
    use super::*;

    #[test]
    fn services_are_reached_by_their_names_and_published_ports() {
        let (all, told) = converted(
            "
services:
  web: {image: a, ports: ['8080:80', '53:53/udp', '443'], networks: {default: {aliases: [site, db, A]}}}
  worker: {image: a}
  db: {image: a, expose: ['5432'], volumes: ['data:/data']}
volumes: {data: }
",
        )
        .unwrap();
        let spec = |name: &str| all[&format!("Service/{name}")]["spec"].clone();
        let port = |port: i64, target: i64, protocol: &str| {
            let name = format!("{}-{port}", protocol.to_lowercase());
            json!({ "name": name, "port": port, "targetPort": target, "protocol": protocol })
        };
        assert_eq!(
            spec("web")["ports"],
            json!([port(53, 53, "UDP"), port(80, 80, "TCP"), port(443, 443, "TCP")])
        );
        assert!(spec("web").get("clusterIP").is_none());
        assert_eq!(spec("site"), spec("web"));
        assert_eq!(spec("web-published")["type"], "LoadBalancer");
        assert_eq!(
            spec("web-published")["ports"],
            json!([port(8080, 80, "TCP"), port(53, 53, "UDP"), port(443, 443, "TCP")])
        );
        for name in ["worker", "db"] {
            assert_eq!(spec(name)["clusterIP"], "None", "{name}");
        }
        assert!(spec("worker").get("ports").is_none());
        assert!(!all.contains_key("Service/worker-published"));
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
