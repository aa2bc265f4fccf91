//! `compose watch`: what changes here is brought into containers, or they are built, made or started anew.
//!
//! `tree` sees what changed, `rule` says whom it concerns, and here it is done.

mod rule;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path as LocalPath, PathBuf};
use std::thread;

use cais_compose::Project;
use clap::{ArgAction, Args};
use serde_json::json;

use self::rule::{Action, Rule, Scope};
use self::tree::Tree;
use super::containers::{self, Container};
use super::converge::Act;
use super::making::Making;
use super::{Files, api_socket, hooks, others};
use crate::Cais;
use crate::client::Path;
use crate::error::{Context, Failure, Result};
use crate::http::Payload;
use crate::output;

/// Of paths as long as paths may be: the kernel takes 2 MiB of words.
const MOST_WORDS: usize = 256;

/// Watch build context for service and rebuild/refresh containers when files are updated
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Do not build & start services before watching
    #[arg(long)]
    no_up: bool,
    /// Prune dangling images on rebuild; --prune=false leaves them
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    prune: bool,
    /// Hide build output
    #[arg(long)]
    quiet: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Watch {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let project = api_socket::project(cais, files, &self.service)?;
        let watched = watched(&project, &self.service)?;
        if !self.no_up {
            let making = Making { build: true, quiet_build: self.quiet, ..Making::default() };
            let act = Act::new(cais, &project, &making, &self.service)?;
            act.make()?;
            act.start_all(&|| true)?;
        }
        let doing = Doing { cais, project: &project, is_quiet: self.quiet, prunes: self.prune };
        doing.follow(&watched)
    }
}

/// What of these services is watched, or of all.
fn watched<'p>(project: &'p Project, services: &[String]) -> Result<Vec<Watched<'p>>> {
    let mut watched = Vec::new();
    for (name, service) in project.services() {
        let Some(triggers) = service.get("develop").and_then(|it| it.get("watch")?.as_list())
        else {
            continue;
        };
        if !services.is_empty() && !services.contains(name) {
            continue;
        }
        let build = service.get("build");
        let rules: Result<Vec<Rule>> =
            triggers.iter().map(|it| Rule::new(name, it, build)).collect();
        watched.push(Watched { name, rules: rules? });
    }
    if watched.is_empty() {
        return Err(Failure::new(
            "none of the selected services is configured for watch, consider setting a 'develop' section",
        ));
    }
    Ok(watched)
}

/// Whether there is something to watch in these services, or in all.
pub(super) fn check(project: &Project, services: &[String]) -> Result<()> {
    watched(project, services).map(drop)
}

/// Watches beside what else is done, until the program ends. Nobody joins the thread: it waits for changes that may never come.
pub(super) fn follow_beside(cais: &Cais, project: &Project, services: &[String]) {
    let (cais, project, services) = (cais.clone(), project.clone(), services.to_vec());
    thread::spawn(move || {
        let doing = Doing { cais: &cais, project: &project, is_quiet: false, prunes: true };
        if let Err(failure) = watched(&project, &services).and_then(|it| doing.follow(&it)) {
            output::notice(&format!("watch: {failure}"));
        }
    });
}

impl Doing<'_> {
    /// Brings what changes to where it belongs, for ever.
    fn follow(&self, watched: &[Watched<'_>]) -> Result<()> {
        let mut tree = tree(watched)?;
        let all = tree.all();
        for it in watched {
            for rule in it.rules.iter().filter(|rule| rule.syncs_first && rule.action.syncs()) {
                self.sync(it.name, rule, &rule.concerned(&all))?;
            }
        }
        output::line("Watch enabled")?;
        let mut undone: BTreeMap<&str, BTreeSet<PathBuf>> = BTreeMap::new();
        loop {
            let changed = tree.changed()?;
            for it in watched.iter().filter(|it| it.is_concerned(&changed)) {
                let mut paths = undone.remove(it.name).unwrap_or_default();
                paths.extend(changed.iter().cloned());
                // One that cannot be built today may be tomorrow: watching goes on.
                if let Err(failure) = self.react(it, &paths) {
                    output::notice(&format!("{}: {failure}", it.name));
                    undone.insert(it.name, paths);
                }
            }
        }
    }
}

struct Watched<'a> {
    name: &'a str,
    rules: Vec<Rule>,
}

impl Watched<'_> {
    fn is_concerned(&self, changed: &BTreeSet<PathBuf>) -> bool {
        self.rules.iter().any(|rule| !rule.concerned(changed).is_empty())
    }
}

/// Everything that a rule names, without what concerns none.
fn tree(watched: &[Watched<'_>]) -> Result<Tree> {
    let rules = || watched.iter().flat_map(|it| &it.rules);
    let scopes: Vec<Scope> = rules().map(|it| it.scope.clone()).collect();
    let roots: BTreeSet<PathBuf> = scopes.iter().map(|it| it.path.clone()).collect();
    let is_ignored = move |path: &LocalPath| scopes.iter().all(|it| it.is_ignored(path));
    Tree::new(roots.into_iter().collect(), is_ignored).context("watch")
}

struct Doing<'a> {
    cais: &'a Cais,
    project: &'a Project,
    is_quiet: bool,
    /// What a rebuild leaves without a name goes.
    prunes: bool,
}

impl Doing<'_> {
    fn react(&self, watched: &Watched<'_>, changed: &BTreeSet<PathBuf>) -> Result<()> {
        let name = watched.name;
        let concerned: Vec<(&Rule, Vec<&PathBuf>)> = watched
            .rules
            .iter()
            .map(|rule| (rule, rule.concerned(changed)))
            .filter(|(_, paths)| !paths.is_empty())
            .collect();
        // A container that is made anew has everything.
        if concerned.iter().any(|(rule, _)| rule.action == Action::Rebuild) {
            output::line(&format!("Rebuilding service {name:?} after changes were detected..."))?;
            self.rebuild(name)?;
            return output::line(&format!("service {name:?} successfully built"));
        }
        let mut restarts = false;
        for (rule, paths) in &concerned {
            if rule.action.syncs() {
                let count = paths.len();
                output::line(&format!(
                    "Syncing service {name:?} after {count} changes were detected"
                ))?;
                self.sync(name, rule, paths)?;
            }
            restarts |= matches!(rule.action, Action::Restart | Action::SyncRestart);
        }
        if restarts {
            for container in self.running(name)? {
                self.cais.client.post(others::timed(&container, "restart", None))?;
            }
            output::line(&format!("service(s) [{name:?}] restarted"))?;
        }
        for rule in concerned.iter().map(|(rule, _)| rule) {
            if let (Action::SyncExec, Some(hook)) = (rule.action, &rule.exec) {
                for container in self.running(name)? {
                    hooks::command(self.cais, &container, &hooks::body(hook))?;
                }
            }
        }
        Ok(())
    }

    fn running(&self, service: &str) -> Result<Vec<Container>> {
        let mut all = containers::of_project(self.cais, &self.project.name)?;
        all.retain(|it| it.service == service && it.is_running());
        Ok(all)
    }

    fn rebuild(&self, name: &str) -> Result<()> {
        let making =
            Making { build: true, no_deps: true, quiet_build: self.is_quiet, ..Making::default() };
        let named = [name.to_owned()];
        let mut act = Act::new(self.cais, self.project, &making, &named)?;
        act.tells_of_orphans = false;
        let mut former = containers::of_project(self.cais, &self.project.name)?;
        former.retain(|it| it.service == name);
        act.make()?;
        act.start_all(&|| true)?;
        if self.prunes {
            former.iter().try_for_each(|it| self.prune(it.listed["ImageID"].text()))?;
        }
        Ok(())
    }

    /// Removes an image that has no name any more. One that a container still has stays.
    fn prune(&self, image: &str) -> Result<()> {
        let is_gone = |it: &Failure| it.is_not_found() || it.status == Some(409);
        let pruned = self.cais.client.read(Path::new(&["images", image, "json"])).and_then(|it| {
            let is_named = !it["RepoTags"].items().is_empty();
            if is_named {
                Ok(())
            } else {
                self.cais.client.delete(Path::new(&["images", image])).map(drop)
            }
        });
        pruned.or_else(|it| if is_gone(&it) { Ok(()) } else { Err(it) })
    }

    /// Brings paths as they are now into the service's containers; what is gone here goes there.
    fn sync(&self, name: &str, rule: &Rule, paths: &[&PathBuf]) -> Result<()> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut gone = Vec::new();
        let mut is_empty = true;
        for path in paths {
            let inside = rule.inside(path);
            match append(&mut builder, path, inside.trim_start_matches('/')) {
                Ok(()) => is_empty = false,
                Err(error) if is_gone(&error) => gone.push(*path),
                Err(error) => {
                    let path = path.display();
                    output::notice(&format!("warning: {path} is not synchronized: {error}"));
                }
            }
        }
        let gone: Vec<String> =
            to_remove(&gone, &rule.scope.path).into_iter().map(|it| rule.inside(it)).collect();
        let archive = builder.into_inner()?;
        for container in self.running(name)? {
            // First, so that it goes through no link that is brought.
            let removed = gone.chunks(MOST_WORDS).try_for_each(|gone| {
                let mut words = vec!["rm", "-rf", "--"];
                words.extend(gone.iter().map(String::as_str));
                hooks::command(self.cais, &container, &json!({ "Cmd": words }))
            });
            if !is_empty {
                let path = Path::new(&["containers", &container.id, "archive"]).with("path", "/");
                let mut archive = archive.as_slice();
                self.cais.client.call("PUT", path, Payload::Archive(&mut archive), Vec::new())?;
            }
            removed?;
        }
        Ok(())
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Of what is gone here, in order, what is to be removed there: nothing that goes with a directory above it, and nothing
/// below what is no directory any more, which is replaced as a whole.
fn to_remove<'p>(gone: &[&'p PathBuf], root: &LocalPath) -> Vec<&'p PathBuf> {
    let mut all: Vec<&PathBuf> = Vec::new();
    for path in gone {
        let above = || path.ancestors().skip(1).take_while(|it| it.starts_with(root));
        let is_other = |it: &LocalPath| fs::symlink_metadata(it).is_ok_and(|it| !it.is_dir());
        if !all.iter().any(|it| path.starts_with(it)) && !above().any(is_other) {
            all.push(path);
        }
    }
    all
}

/// A file, a link, or a directory by itself. In the container all belongs to root.
fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    path: &LocalPath,
    inside: &str,
) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_uid(0);
    header.set_gid(0);
    if metadata.is_symlink() {
        header.set_size(0);
        return builder.append_link(&mut header, inside, fs::read_link(path)?);
    }
    if metadata.is_file() {
        let bytes = fs::read(path)?;
        header.set_size(bytes.len() as u64);
        return builder.append_data(&mut header, inside, bytes.as_slice());
    }
    if metadata.is_dir() && !inside.is_empty() {
        header.set_size(0);
        return builder.append_data(&mut header, inside, std::io::empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_there_by_itself_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        fs::create_dir(root.join("kept")).unwrap();
        let gone = ["a", "a/b", "a/b/c", "a-b", "kept/x", "link/nowhere"].map(|it| root.join(it));
        let removed = to_remove(&gone.each_ref(), root);
        assert_eq!(removed, ["a", "a-b", "kept/x"].map(|it| root.join(it)).each_ref());
    }

    #[test]
    fn what_is_not_there_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let missing = append(&mut builder, &directory.path().join("a"), "a").unwrap_err();
        assert!(is_gone(&missing));
        assert!(!is_gone(&ErrorKind::PermissionDenied.into()));
    }
}
