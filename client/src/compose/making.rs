//! What the flags of `up`, `create` and `scale` say about making containers.

use std::collections::BTreeMap;

use cais_compose::{Node, Project};
use clap::Args;

use super::resources::text;
use crate::error::{Failure, Result};

/// How what is there becomes what the files say.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Making {
    /// Recreate dependent containers. Incompatible with --no-recreate.
    #[arg(long)]
    pub(super) always_recreate_deps: bool,
    /// Show the services' containers as pods to clients of the CRI, such as crictl. It stays so until --cri=false.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) cri: Option<bool>,
    /// Build images before starting containers
    #[arg(long)]
    pub(super) build: bool,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long)]
    pub(super) force_recreate: bool,
    /// Don't build an image, even if it's policy
    #[arg(long)]
    pub(super) no_build: bool,
    /// Don't start linked services
    #[arg(long)]
    pub(super) no_deps: bool,
    /// If containers already exist, don't recreate them. Incompatible with --force-recreate.
    #[arg(long)]
    pub(super) no_recreate: bool,
    /// Pull image before running ("always"|"missing"|"never")
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) pull: String,
    /// Suppress the build output
    #[arg(long)]
    pub(super) quiet_build: bool,
    /// Pull without printing progress information; nothing is printed but that it was pulled
    #[arg(long)]
    pub(super) quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    pub(super) remove_orphans: bool,
    /// Recreate anonymous volumes instead of retrieving data from the previous containers
    #[arg(short = 'V', long)]
    pub(super) renew_anon_volumes: bool,
    /// Scale SERVICE to NUM instances. Overrides the scale setting in the Compose file if present.
    #[arg(long)]
    pub(super) scale: Vec<String>,
    /// Use this timeout in seconds for container shutdown when attached or when containers are already running
    #[arg(short, long)]
    pub(super) timeout: Option<i64>,
    /// Assume "yes" as answer to all prompts; nothing is asked
    #[arg(short, long, hide = true)]
    pub(super) yes: bool,
}

impl Making {
    pub(super) fn check(&self) -> Result<()> {
        if self.build && self.no_build {
            return Err(Failure::new("--build and --no-build are incompatible"));
        }
        let keeps = self.no_recreate;
        for (other, flag) in [
            (self.force_recreate, "--force-recreate and --no-recreate"),
            (self.always_recreate_deps, "--always-recreate-deps and --no-recreate"),
            (self.renew_anon_volumes, "--no-recreate and --renew-anon-volumes"),
        ] {
            if keeps && other {
                return Err(Failure::new(format!("{flag} are incompatible")));
            }
        }
        match self.pull.as_str() {
            "" | "policy" | "always" | "missing" | "never" => Ok(()),
            other => Err(Failure::new(format!(
                "invalid --pull option {other:?}: it is always, missing, never or policy"
            ))),
        }
    }

    /// How many containers each service is to have.
    pub(super) fn scales<'p>(&self, project: &'p Project) -> Result<BTreeMap<&'p str, i64>> {
        let mut scales: BTreeMap<&str, i64> = project
            .services()
            .map(|(name, service)| {
                let replicas = || service.get("deploy")?.get("replicas")?.as_int();
                let scale = service.get("scale").and_then(Node::as_int).or_else(replicas);
                (name.as_str(), scale.unwrap_or(1))
            })
            .collect();
        for word in &self.scale {
            let (name, count) = word.split_once('=').unwrap_or((word, ""));
            let count = count.parse().ok().filter(|it| *it >= 0).ok_or_else(|| {
                Failure::new(format!("invalid --scale option {word:?}. Should be SERVICE=NUM"))
            })?;
            match scales.get_mut(name) {
                Some(scale) => *scale = count,
                None => return Err(Failure::new(format!("no such service: {name}"))),
            }
        }
        Ok(scales)
    }
}

/// One name and one port of the host are one container's.
pub(super) fn check_sharing(name: &str, service: &Node, scale: i64) -> Result<()> {
    if scale < 2 {
        return Ok(());
    }
    if service.get("container_name").is_some() {
        return Err(Failure::new(format!(
            "services.{name}: container_name is one name, and there are to be {scale} containers: leave it out"
        )));
    }
    for port in service.get("ports").and_then(Node::as_list).unwrap_or_default() {
        let published = text(port, "published");
        let target = port.get("target").and_then(Node::as_int).unwrap_or(0);
        let (first, last) = published.split_once('-').unwrap_or((published, published));
        let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) else { continue };
        if first == 0 || last - first + 1 >= scale {
            continue;
        }
        let count = last - first + 1;
        let what = match count {
            1 => format!("cannot share port {first}"),
            _ => format!("cannot share the {count} ports {published}"),
        };
        let last = first + scale - 1;
        return Err(Failure::new(format!(
            "services.{name}.ports: {scale} containers {what} of the host: write \"{first}-{last}:{target}\", or \"{target}\" for ports of the daemon's choice"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    fn refused(ports: &str, scale: i64) -> String {
        let project = project(&format!("services: {{web: {{image: a, ports: [{ports}]}}}}"));
        let checked = check_sharing("web", project.service("web").unwrap(), scale);
        checked.map_or_else(|it| it.message, |()| String::new())
    }

    #[test]
    fn ports_of_the_host_are_as_many_as_containers() {
        assert_eq!(refused("\"8080:80\"", 1), "");
        assert_eq!(refused("\"80\"", 3), "");
        assert_eq!(refused("\"8080-8082:80\"", 3), "");
        assert!(refused("\"8080:80\"", 3).contains("write \"8080-8082:80\""));
        let few = refused("\"8080-8081:80\"", 3);
        assert!(few.contains("share the 2 ports 8080-8081 of the host: write \"8080-8082:80\""));
    }

    #[test]
    fn scales_come_from_flags_then_files() {
        let project = project(
            "services: {a: {image: a}, b: {image: a, scale: 2}, c: {image: a, deploy: {replicas: 3}}}",
        );
        let making = Making { scale: vec!["a=4".to_owned()], ..Making::default() };
        let scales = making.scales(&project).unwrap();
        assert_eq!(scales, BTreeMap::from([("a", 4), ("b", 2), ("c", 3)]));
        for wrong in ["a", "a=", "a=-1", "a=x", "d=1"] {
            let making = Making { scale: vec![wrong.to_owned()], ..Making::default() };
            assert!(making.scales(&project).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        let keeping = Making { no_recreate: true, force_recreate: true, ..Making::default() };
        assert!(keeping.check().unwrap_err().message.contains("are incompatible"));
        assert!(Making { pull: "often".to_owned(), ..Making::default() }.check().is_err());
        assert_eq!(Making::default().check(), Ok(()));
    }
}
