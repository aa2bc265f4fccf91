//! The containers of a project, found by their labels.

use std::thread;

use super::labels;
use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::json::Value;

#[derive(Debug, Clone, Default)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) service: String,
    pub(super) number: i64,
    /// What the list of containers says of it.
    pub(super) listed: Value,
}

impl Container {
    fn new(listed: Value) -> Self {
        let label = |name: &str| listed["Labels"][name].text();
        let name = listed["Names"].items().first().map_or("", Value::text);
        Self {
            id: listed["Id"].text().to_owned(),
            name: name.trim_start_matches('/').to_owned(),
            service: label(labels::SERVICE).to_owned(),
            number: label(labels::NUMBER).parse().unwrap_or(0),
            listed,
        }
    }

    pub(super) fn label(&self, name: &str) -> &str {
        self.listed["Labels"][name].text()
    }

    /// Its name without the project's, unless the file gave it one of its own.
    pub(super) fn short_name(&self) -> &str {
        let (project, service, number) = (self.label(labels::PROJECT), &self.service, self.number);
        if self.name == format!("{project}-{service}-{number}") {
            &self.name[project.len() + 1..]
        } else {
            &self.name
        }
    }

    pub(super) fn state(&self) -> &str {
        self.listed["State"].text()
    }

    /// The id, or the name, of the container whose network it shares.
    pub(super) fn shares_with(&self) -> Option<&str> {
        self.listed["HostConfig"]["NetworkMode"].text().strip_prefix("container:")
    }

    pub(super) fn is_running(&self) -> bool {
        self.state() == "running"
    }
}

/// Does the same to several at once. The first failure is told when all are through.
pub(super) fn at_once<T: Sync>(items: &[T], act: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    if let [only] = items {
        return act(only);
    }
    let mut outcomes = Vec::new();
    thread::scope(|scope| {
        let acting: Vec<_> = items.iter().map(|it| scope.spawn(|| act(it))).collect();
        outcomes.extend(acting.into_iter().map(|it| {
            it.join().unwrap_or_else(|_| Err(Failure::new("one of several things broke off")))
        }));
    });
    outcomes.into_iter().collect()
}

/// Removes one that is of no use, as far as that can be done.
pub(super) fn discard(cais: &Cais, id: &str) {
    let _ = cais.client.delete(Path::new(&["containers", id]).with("force", "1"));
}

/// All of a project, stopped ones too, without those of single commands, by service and number.
pub(super) fn of_project(cais: &Cais, project: &str) -> Result<Vec<Container>> {
    let mut all = all_of_project(cais, project)?;
    all.retain(|it| it.label(labels::ONE_OFF) == "False");
    Ok(all)
}

/// The same, with those of single commands.
pub(super) fn all_of_project(cais: &Cais, project: &str) -> Result<Vec<Container>> {
    let wanted = [format!("{}={project}", labels::PROJECT)];
    listed(cais, &serde_json::json!({ "label": wanted }))
}

/// All that the daemon has, whoever made them.
pub(super) fn of_node(cais: &Cais) -> Result<Vec<Container>> {
    listed(cais, &serde_json::json!({}))
}

fn listed(cais: &Cais, filters: &serde_json::Value) -> Result<Vec<Container>> {
    let path = Path::new(&["containers", "json"]).with("all", "1");
    let listed = cais.client.read(path.with("filters", &filters.to_string()))?;
    let mut containers: Vec<Container> = listed.into_items().map(Container::new).collect();
    containers.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
    Ok(containers)
}
