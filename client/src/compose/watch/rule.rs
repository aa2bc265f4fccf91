//! `develop.watch` of a service: which changes concern it, and what is to be done about them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cais_compose::Node;
use cais_dockerfile::dockerignore::{Matcher, parse};

use crate::compose::resources::text;
use crate::error::{Context, Failure, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Sync,
    Rebuild,
    Restart,
    SyncRestart,
    SyncExec,
}

impl Action {
    pub(super) fn syncs(self) -> bool {
        matches!(self, Self::Sync | Self::SyncRestart | Self::SyncExec)
    }
}

/// Where a rule looks.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) path: PathBuf,
    ignored: Matcher,
    /// The directory that the service is built from, and what its `.dockerignore` leaves out.
    context: Option<(PathBuf, Matcher)>,
}

/// One entry of the list.
pub(super) struct Rule {
    pub(super) scope: Scope,
    pub(super) action: Action,
    /// Where the path is in containers, for what is synchronized.
    target: PathBuf,
    pub(super) exec: Option<Node>,
    pub(super) syncs_first: bool,
    included: Option<Matcher>,
}

/// Left out everywhere: version control, and what editors keep beside a file.
const EPHEMERAL: &str = "**/.git\n**/.idea\n**/*.swp\n**/*.swx\n**/*~\n**/.#*\n**/#*#\n**/4913\n";

impl Rule {
    pub(super) fn new(service: &str, node: &Node, build: Option<&Node>) -> Result<Self> {
        let refused =
            |what: String| Failure::new(format!("services.{service}.develop.watch: {what}"));
        let action = match text(node, "action") {
            "sync" => Action::Sync,
            "rebuild" => Action::Rebuild,
            "restart" => Action::Restart,
            "sync+restart" => Action::SyncRestart,
            "sync+exec" => Action::SyncExec,
            other => return Err(refused(format!("there is no action {other:?}"))),
        };
        let exec = node.get("exec").cloned();
        if action == Action::SyncExec && exec.is_none() {
            return Err(refused("exec is required for sync+exec action".to_owned()));
        }
        if action == Action::Rebuild && build.is_none() {
            return Err(refused("can't watch a service without a build for rebuild".to_owned()));
        }
        let texts = |key: &str| -> Vec<&str> {
            let list = node.get(key).and_then(Node::as_list).unwrap_or_default();
            list.iter().filter_map(Node::as_text).collect()
        };
        let matcher =
            |lines: &[&str]| Matcher::new(&parse(lines.join("\n").as_bytes())).map_err(refused);
        let included = texts("include");
        let context = build.map(|it| PathBuf::from(text(it, "context")));
        let context = match context {
            Some(directory) => {
                let file = std::fs::read(directory.join(".dockerignore")).unwrap_or_default();
                let left_out = Matcher::new(&parse(&file)).context(".dockerignore")?;
                Some((directory, left_out))
            }
            None => None,
        };
        let mut ignored: Vec<&str> = EPHEMERAL.lines().collect();
        ignored.extend(texts("ignore"));
        let path = PathBuf::from(text(node, "path"));
        Ok(Self {
            scope: Scope { path, ignored: matcher(&ignored)?, context },
            action,
            target: PathBuf::from(text(node, "target")),
            exec,
            syncs_first: node.get("initial_sync").and_then(Node::as_bool) == Some(true),
            included: if included.is_empty() { None } else { Some(matcher(&included)?) },
        })
    }
}

impl Scope {
    /// Whether nothing at or below a path concerns it.
    pub(super) fn is_ignored(&self, path: &Path) -> bool {
        let Some(own) = relative(path, &self.path) else { return true };
        let of_context = self.context.as_ref().is_some_and(|(directory, left_out)| {
            // What may be taken back is looked at.
            !left_out.has_exclusions()
                && relative(path, directory).is_some_and(|it| left_out.is_ignored(it))
        });
        !own.is_empty() && self.ignored.is_ignored(own) || of_context
    }
}

impl Rule {
    /// Of these paths, those that concern it.
    pub(super) fn concerned<'p>(&self, changed: &'p BTreeSet<PathBuf>) -> Vec<&'p PathBuf> {
        let is_concerned = |path: &&PathBuf| {
            let Some(own) = relative(path, &self.scope.path) else { return false };
            let of_context = self.scope.context.as_ref().is_some_and(|(directory, left_out)| {
                relative(path, directory).is_some_and(|it| left_out.is_ignored(it))
            });
            let is_included = self.included.as_ref().is_none_or(|it| it.is_ignored(own));
            !of_context && is_included && (own.is_empty() || !self.scope.ignored.is_ignored(own))
        };
        changed.iter().filter(is_concerned).collect()
    }

    /// Where a path is in containers.
    pub(super) fn inside(&self, path: &Path) -> String {
        let inside = match relative(path, &self.scope.path) {
            None | Some("") => self.target.clone(),
            Some(own) => self.target.join(own),
        };
        inside.to_string_lossy().into_owned()
    }
}

/// Empty for the directory itself, nothing for what is not below it.
fn relative<'p>(path: &'p Path, directory: &Path) -> Option<&'p str> {
    path.strip_prefix(directory).ok()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::tests::project;

    fn rule(entry: &str) -> Result<Rule> {
        let project =
            project(&format!("services: {{web: {{image: a, develop: {{watch: [{entry}]}}}}}}"));
        let watch = project.service("web").unwrap().get("develop").unwrap().get("watch").unwrap();
        Rule::new("web", &watch.as_list().unwrap()[0], None)
    }

    #[test]
    fn changes_concern_rules_by_their_paths() {
        let rule =
            rule("{path: /src, action: sync, target: /app, ignore: [node_modules/]}").unwrap();
        let changed: BTreeSet<PathBuf> =
            ["/src/a", "/src/node_modules/b", "/src/.git/c", "/src/d.swp", "/source/e"]
                .map(PathBuf::from)
                .into();
        assert_eq!(rule.concerned(&changed), [Path::new("/src/a")]);
        assert_eq!(rule.inside(Path::new("/src/deep/a")), "/app/deep/a");
        assert_eq!(rule.inside(Path::new("/src")), "/app");
        let is_ignored = |path: &str| rule.scope.is_ignored(Path::new(path));
        assert!(is_ignored("/src/node_modules") && is_ignored("/other"));
        assert!(!is_ignored("/src") && !is_ignored("/src/deep"));
    }

    #[test]
    fn only_what_is_included_concerns_a_rule() {
        let rule = rule("{path: /src, action: restart, include: ['*.js']}").unwrap();
        let changed: BTreeSet<PathBuf> = ["/src/a.js", "/src/a.css"].map(PathBuf::from).into();
        assert_eq!(rule.concerned(&changed), [Path::new("/src/a.js")]);
    }

    #[test]
    fn rules_without_what_they_need_are_refused() {
        for (entry, why) in [
            ("{path: /src, action: sync+exec, target: /a}", "exec is required"),
            ("{path: /src, action: rebuild}", "without a build"),
        ] {
            let refused = rule(entry).map(drop).unwrap_err();
            assert!(refused.message.contains(why), "{refused}");
        }
    }
}
