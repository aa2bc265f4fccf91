//! What is done to containers of either door, in Docker's words and with its attributes.

use super::{Attributes, Kind};
use crate::engine::Shared;
use crate::engine::container::phase::{End, Phase, Reason};
use crate::engine::container::record::Record as PodContainer;
use crate::engine::events::Change;
use crate::engine::standalone::health::Status;
use crate::engine::standalone::record::Record;
use crate::id::ContainerId;
use crate::image::reference::Reference;

/// Something that is done to a container.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act<'a> {
    /// Said without more.
    Plain(&'static str),
    Kill {
        signal: i32,
    },
    Die(&'a End),
    Health(Status),
    Rename {
        old: &'a str,
    },
    Resize {
        width: u16,
        height: u16,
    },
    /// A file is read or written.
    File {
        name: &'static str,
        path: &'a str,
    },
    Commit {
        image: &'a str,
        /// May be empty.
        reference: &'a str,
        comment: &'a str,
    },
    ExecCreate {
        exec: &'a str,
        command: &'a [String],
    },
    ExecStart {
        exec: &'a str,
        command: &'a [String],
    },
    ExecDie {
        exec: &'a str,
        code: i32,
    },
}

impl Act<'_> {
    fn name(&self) -> String {
        match self {
            Self::Plain(name) | Self::File { name, .. } => (*name).to_owned(),
            Self::Kill { .. } => "kill".to_owned(),
            Self::Die(_) => "die".to_owned(),
            Self::Health(status) => format!("health_status: {}", status.as_str()),
            Self::Rename { .. } => "rename".to_owned(),
            Self::Resize { .. } => "resize".to_owned(),
            Self::Commit { .. } => "commit".to_owned(),
            Self::ExecCreate { command, .. } => format!("exec_create: {}", command.join(" ")),
            Self::ExecStart { command, .. } => format!("exec_start: {}", command.join(" ")),
            Self::ExecDie { .. } => "exec_die".to_owned(),
        }
    }

    /// What is said of this act beside what is said of its container.
    fn attributes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Plain(_) | Self::Health(_) => Vec::new(),
            Self::Kill { signal } => vec![("signal", signal.to_string())],
            Self::Die(end) => vec![
                ("exitCode", end.code.to_string()),
                ("execDuration", lasted_seconds(end).to_string()),
            ],
            Self::Rename { old } => vec![("oldName", format!("/{old}"))],
            Self::Resize { width, height } => {
                vec![("width", width.to_string()), ("height", height.to_string())]
            }
            Self::File { path, .. } => vec![("path", (*path).to_owned())],
            Self::Commit { image, reference, comment } => vec![
                ("imageID", (*image).to_owned()),
                ("imageRef", (*reference).to_owned()),
                ("comment", (*comment).to_owned()),
            ],
            Self::ExecCreate { exec, .. } | Self::ExecStart { exec, .. } => {
                vec![("execID", (*exec).to_owned())]
            }
            Self::ExecDie { exec, code } => {
                vec![("execID", (*exec).to_owned()), ("exitCode", code.to_string())]
            }
        }
    }
}

fn lasted_seconds(end: &End) -> i64 {
    let lasted = end.started_at.map_or(0, |started| end.finished_at - started);
    lasted.max(0) / 1_000_000_000
}

impl Shared {
    pub(in crate::engine) fn tell(&self, record: &Record, act: Act<'_>) {
        let mut attributes = record.config.container.labels.clone();
        attributes.insert("image".to_owned(), record.image_name.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        self.tell_of(record.id.as_str(), attributes, act);
    }

    /// Of a container that runs, whoever made it.
    pub(in crate::engine) fn tell_of_running(&self, id: &ContainerId, act: Act<'_>) {
        if let Ok(found) = self.standalones.find(id.as_str()) {
            self.tell(&found.record(), act);
        } else if let Ok(found) = self.containers.find(id.as_str()) {
            self.tell_of_pods(&found.record(), act);
        }
    }

    /// What kubelet is told in its own words.
    pub(in crate::engine) fn tell_change(&self, change: Change, record: &PodContainer) {
        match (change, &record.phase) {
            (Change::Created, _) => self.tell_of_pods(record, Act::Plain("create")),
            (Change::Started, _) => self.tell_of_pods(record, Act::Plain("start")),
            (Change::Stopped, Phase::Exited(end)) => {
                if end.reason == Reason::OomKilled {
                    self.tell_of_pods(record, Act::Plain("oom"));
                }
                self.tell_of_pods(record, Act::Die(end));
            }
            (Change::Stopped, Phase::Created { .. } | Phase::Running { .. }) => {}
            (Change::Deleted, _) => self.tell_of_pods(record, Act::Plain("destroy")),
        }
    }

    fn tell_of_pods(&self, record: &PodContainer, act: Act<'_>) {
        let mut attributes = record.config.labels.clone();
        let image = &record.image_name;
        let image = Reference::parse(image).map_or_else(|_| image.clone(), |it| it.familiar());
        attributes.insert("image".to_owned(), image);
        attributes.insert("name".to_owned(), self.pod_container_name(record).unwrap_or_default());
        self.tell_of(record.id.as_str(), attributes, act);
    }

    fn tell_of(&self, id: &str, mut attributes: Attributes, act: Act<'_>) {
        let own = act.attributes().into_iter().map(|(key, value)| (key.to_owned(), value));
        attributes.extend(own);
        self.actions.tell(Kind::Container, act.name(), id, attributes);
    }
}
