//! Starting: in the order in which services depend on each other, each when those it waits for are ready.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use cais_compose::{Node, Project};

use super::containers::{self, Container, at_once};
use super::converge::Act;
use super::resources::text;
use super::{hooks, order, wait};
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::output;

impl Act<'_> {
    /// Starts what does not run, as long as `goes_on` says so.
    pub(super) fn start_all(&self, goes_on: &(impl Fn() -> bool + Sync)) -> Result<()> {
        if self.unchanged.get().is_some_and(|all| all.iter().all(Container::is_running)) {
            return self.start_again();
        }
        let all = containers::of_project(self.cais, &self.project.name)?;
        if self.cais.client.is_dry() {
            self.tell_of_starts(&all);
            return self.start_again();
        }
        let mut levels = order::levels(self.project, &self.order).into_iter();
        let started = levels.try_for_each(|level| {
            if goes_on() {
                let is_due =
                    |name: &&str| all.iter().any(|it| it.service == *name && !it.is_running());
                let level: Vec<&str> = level.into_iter().filter(is_due).collect();
                at_once(&level, |name| self.start_of(&all, name, goes_on))
            } else {
                Ok(())
            }
        });
        if goes_on() { started.and(self.start_again()) } else { started }
    }

    /// Of what is there and would be, once it was made.
    fn tell_of_starts(&self, all: &[Container]) {
        let imagined = self.imagined.lock().unwrap_or_else(PoisonError::into_inner);
        for service in &self.order {
            let stopped = all.iter().filter(|it| it.service == *service && !it.is_running());
            let made = imagined.iter().filter(|(of, _)| of == service).map(|(_, name)| name);
            let names: BTreeSet<&String> = stopped.map(|it| &it.name).chain(made).collect();
            for name in names {
                output::notice(&format!(" Container {name}  Started"));
            }
        }
    }

    /// Starts a service's containers, once what it waits for is ready.
    pub(super) fn start(&self, name: &str, goes_on: &(impl Fn() -> bool + Sync)) -> Result<()> {
        let all = containers::of_project(self.cais, &self.project.name)?;
        self.start_of(&all, name, goes_on)
    }

    fn start_of(
        &self,
        all: &[Container],
        name: &str,
        goes_on: &(impl Fn() -> bool + Sync),
    ) -> Result<()> {
        let mut to_start =
            all.iter().filter(|it| it.service == name && !it.is_running()).peekable();
        if to_start.peek().is_none() {
            return Ok(());
        }
        self.wait_for_dependencies(name, all, goes_on)?;
        for container in to_start.filter(|_| goes_on()) {
            self.cais.client.post(Path::new(&["containers", &container.id, "start"]))?;
            hooks::run(self.cais, Some(self.project), container, "post_start")?;
            output::notice(&format!(" Container {}  Started", container.name));
        }
        Ok(())
    }

    /// Until what a service waits for is as it wants it, or nobody wants it any more.
    pub(super) fn wait_for_dependencies(
        &self,
        name: &str,
        all: &[Container],
        goes_on: &impl Fn() -> bool,
    ) -> Result<()> {
        let depends_on = self.project.service(name).and_then(|it| it.get("depends_on")?.as_map());
        let about = |it: &String| self.order.contains(&it.as_str());
        for (dependency, how) in depends_on.into_iter().flatten().filter(|(it, _)| about(it)) {
            let is_required = how.get("required").and_then(Node::as_bool) != Some(false);
            for container in all.iter().filter(|it| it.service == *dependency) {
                let ready = match text(how, "condition") {
                    "service_healthy" => wait::healthy(&self.cais.client, container, goes_on),
                    "service_completed_successfully" => {
                        wait::completed(&self.cais.client, container, goes_on)
                    }
                    _ => Ok(()),
                };
                match ready {
                    Err(failure) if !is_required => {
                        output::notice(&format!(
                            "warning: optional dependency {dependency}: {failure}"
                        ));
                    }
                    ready => ready?,
                }
            }
        }
        Ok(())
    }

    /// Until all run, those with a check are healthy, and those that others want to have completed have.
    pub(super) fn wait_for_all(&self, limit: Option<u64>) -> Result<()> {
        let mut all = containers::of_project(self.cais, &self.project.name)?;
        all.retain(|it| self.order.contains(&it.service.as_str()));
        let (jobs, client) = (jobs(self.project), self.cais.client.clone());
        let (sender, receiver) = mpsc::channel();
        // Nobody joins it: it may wait for what never comes.
        thread::spawn(move || {
            let _ = sender.send(at_once(&all, |it: &Container| {
                if jobs.contains(&it.service) {
                    wait::completed(&client, it, &|| true)
                } else {
                    wait::running(&client, it)
                }
            }));
        });
        let Some(limit) = limit.filter(|it| *it > 0) else {
            return receiver.recv().unwrap_or_else(|_| Err(Failure::new("the wait broke off")));
        };
        match receiver.recv_timeout(Duration::from_secs(limit)) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                Err(Failure::new(format!("application not healthy after {limit}s")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Failure::new("the wait broke off")),
        }
    }
}

/// Services that are done when they have ended: others say so.
fn jobs(project: &Project) -> BTreeSet<String> {
    let depends_on = project.services().filter_map(|(_, it)| it.get("depends_on")?.as_map());
    let is_job = |how: &Node| text(how, "condition") == "service_completed_successfully";
    let named = depends_on.flatten().filter(|(_, how)| is_job(how));
    named.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    #[test]
    fn what_others_want_completed_is_a_job() {
        let project = project(
            "services: {app: {image: a, depends_on: {job: {condition: service_completed_successfully}, db: {condition: service_started}}}, job: {image: a}, db: {image: a}}",
        );
        assert_eq!(jobs(&project), BTreeSet::from(["job".to_owned()]));
    }
}
