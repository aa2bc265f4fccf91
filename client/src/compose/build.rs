//! `compose build`: the images of services that have a Dockerfile, made by the daemon from an archive of their directory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path as LocalPath;

use cais_compose::{Node, Project};
use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::body::plain;
use super::resources::{strings, text};
use super::{Files, given, labels, order, registry};
use crate::Cais;
use crate::client::Path;
use crate::context::{self, Context, Dockerfile};
use crate::error::{Context as _, Failure, Result};
use crate::json::Value;
use crate::{board, output, progress};

/// What BuildKit has, and the call that builds here has not. It is refused, not left out.
const NOT_YET: &[&str] = &["cache_to", "isolation", "provenance", "sbom"];

/// Build or rebuild services
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Build {
    /// Set build-time variables for services
    #[arg(long)]
    build_arg: Vec<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pull: bool,
    /// Push service images
    #[arg(long)]
    push: bool,
    /// Suppress the build output
    #[arg(short, long)]
    quiet: bool,
    /// Also build dependencies (transitively)
    #[arg(long)]
    with_dependencies: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Build {
    pub(super) fn run(&self, cais: &Cais, files: &Files) -> Result<()> {
        let project = files.project(&files.options()?, &self.service)?;
        let arguments = self.build_arg.iter().map(|it| match it.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (it.clone(), project.environment.get(it).cloned()),
        });
        let builder = Builder {
            cais,
            project: &project,
            arguments: arguments.filter_map(|(key, value)| Some((key, value?))).collect(),
            is_without_cache: self.no_cache,
            pulls: self.pull,
            is_quiet: self.quiet,
            built: RefCell::default(),
        };
        let only = if self.with_dependencies { &[] } else { self.service.as_slice() };
        let mut to_build = order::order(&project, only);
        to_build.retain(|it| project.service(it).is_some_and(|it| it.get("build").is_some()));
        if to_build.is_empty() {
            output::notice("warning: No services to build");
        }
        to_build.iter().try_for_each(|it| builder.build(it, &mut io::stdout()))?;
        if !self.push {
            return Ok(());
        }
        let named = to_build
            .iter()
            .filter(|it| project.service(it).is_some_and(|service| service.get("image").is_some()));
        named.into_iter().try_for_each(|it| registry::push(cais, &project, it))
    }
}

pub(super) struct Builder<'a> {
    pub(super) cais: &'a Cais,
    pub(super) project: &'a Project,
    /// Beside those of the files, and before them.
    pub(super) arguments: BTreeMap<String, String>,
    pub(super) is_without_cache: bool,
    pub(super) pulls: bool,
    pub(super) is_quiet: bool,
    /// The ids of images that were built, by service; none while one is under way.
    pub(super) built: RefCell<BTreeMap<String, Option<String>>>,
}

impl Builder<'_> {
    /// Builds a service's image and shows how.
    pub(super) fn build(
        &self,
        name: &str,
        out: &mut (impl io::Write + io::IsTerminal),
    ) -> Result<()> {
        let build = self.project.any_service(name).and_then(|it| it.get("build"));
        let Some(build) = build else { return Ok(()) };
        if self.built.borrow().contains_key(name) {
            return Ok(());
        }
        check(name, build)?;
        self.built.borrow_mut().insert(name.to_owned(), None);
        if self.cais.client.is_dry() {
            let mut others = self.project.build_contexts(name);
            others.try_for_each(|(_, other)| self.build(other, out))?;
            output::notice(&format!(" {name}  Built"));
            return Ok(());
        }
        let in_build = |it: Failure| Failure {
            message: format!("services.{name}.build: {}", it.message),
            ..it
        };
        let mut lending = given::lending(self.project, build).map_err(in_build)?;
        for (key, other) in self.project.build_contexts(name) {
            let id = self.image_of(other, out)?;
            lending.add_context(key, &format!("docker-image://{id}")).map_err(in_build)?;
        }
        let directory = LocalPath::new(text(build, "context"));
        let dockerfile = match text(build, "dockerfile_inline") {
            "" => Dockerfile::File(text(build, "dockerfile")),
            inline => Dockerfile::Inline(inline),
        };
        let context =
            Context::open(directory, dockerfile).context(format_args!("services.{name}.build"))?;
        let mut path = lending.announced(self.path(name, build, &context.dockerfile)?)?;
        let is_drawn = !self.is_quiet && out.is_terminal();
        if is_drawn {
            path = board::asked(path);
        }
        let reply = context.send(self.cais, path).map_err(in_build)?;
        lending.begin(self.cais);
        let mut id = None;
        let on_aux = |aux: &Value| id = Some(aux["ID"].text().to_owned());
        let built = if self.is_quiet {
            progress::quietly(reply.body)
        } else if is_drawn {
            board::show(reply.body, out, on_aux)
        } else {
            progress::show(reply.body, out, on_aux)
        };
        built.map_err(in_build)?;
        let id = id.map_or_else(|| self.id_of(name), Ok)?;
        self.built.borrow_mut().insert(name.to_owned(), Some(id));
        output::notice(&format!(" {name}  Built"));
        Ok(())
    }

    /// The id of a service's image that another build is made from; it is built before, if that is what its service says.
    fn image_of(&self, name: &str, out: &mut (impl io::Write + io::IsTerminal)) -> Result<String> {
        if self.built.borrow().get(name).is_some_and(Option::is_none) {
            return Err(Failure::new(format!("services.{name}: its build is made from itself")));
        }
        self.build(name, out)?;
        if let Some(Some(id)) = self.built.borrow().get(name) {
            return Ok(id.clone());
        }
        self.id_of(name)
    }

    fn id_of(&self, name: &str) -> Result<String> {
        let image = self.project.image(name, "-");
        let missing = || Failure::new(format!("services.{name}: no image {image}"));
        registry::known(self.cais, &image)?.map(|it| it.id).ok_or_else(missing)
    }

    fn path(&self, name: &str, build: &Node, dockerfile: &str) -> Result<Path> {
        let service = self.project.any_service(name);
        let list = |key: &str| build.get(key).and_then(Node::as_list).unwrap_or_default();
        let texts = |key: &str| list(key).iter().filter_map(Node::as_text).collect::<Vec<_>>();
        let mut arguments = strings(build.get("args"));
        arguments.extend(self.arguments.iter().map(|(key, it)| (key.clone(), it.as_str().into())));
        let mut own = strings(build.get("labels"));
        own.insert(labels::BUILDER.to_owned(), "classic".into());
        let is_set = |key: &str| build.get(key).and_then(Node::as_bool) == Some(true);
        let mut path = Path::new(&["build"])
            .with("version", "1")
            .with("rm", "1")
            .with("dockerfile", dockerfile)
            .with("t", &self.project.image(name, "-"))
            .with("buildargs", &Json::from(arguments).to_string())
            .with("labels", &Json::from(own).to_string())
            .with_text("target", text(build, "target"))
            .with_text("networkmode", text(build, "network"))
            .with_text("platform", platform(name, service, &texts("platforms"))?)
            .with_flag("nocache", self.is_without_cache || is_set("no_cache"))
            .with_flag("pull", self.pulls || is_set("pull"));
        for tag in texts("tags") {
            path = path.with("t", tag);
        }
        for allowed in texts("entitlements") {
            path = path.with("allow", allowed);
        }
        if is_set("privileged") {
            path = path.with("allow", "security.insecure");
        }
        for host in texts("extra_hosts") {
            path = path.with("extrahosts", &host.replacen('=', ":", 1));
        }
        if !texts("cache_from").is_empty() {
            path = path.with("cachefrom", &json!(texts("cache_from")).to_string());
        }
        if let Some(size) = build.get("shm_size").and_then(Node::as_int) {
            path = path.with("shmsize", &size.to_string());
        }
        if let Some(limits) = build.get("ulimits").and_then(Node::as_map) {
            let limit = |(name, it): (&String, &Node)| {
                let both = |key: &str| it.as_int().or_else(|| it.get(key)?.as_int()).unwrap_or(0);
                json!({ "Name": name, "Soft": both("soft"), "Hard": both("hard") })
            };
            path = path.with("ulimits", &limits.iter().map(limit).collect::<Json>().to_string());
        }
        Ok(path)
    }
}

/// Of several platforms one is built, the service's; without one there is nothing to choose by.
fn platform<'n>(name: &str, service: Option<&'n Node>, platforms: &[&'n str]) -> Result<&'n str> {
    match (service.map_or("", |it| text(it, "platform")), platforms) {
        ("", [only]) => Ok(only),
        ("", [_, _, ..]) => Err(Failure::new(format!(
            "services.{name}.build.platforms: cais compose builds for one platform: say which one in services.{name}.platform"
        ))),
        (own, _) => Ok(own),
    }
}

fn check(name: &str, build: &Node) -> Result<()> {
    let is_asked_for = |key: &&&str| match build.get(key).map(plain) {
        None | Some(Json::Null | Json::Bool(false)) => false,
        Some(Json::String(text)) => !matches!(text.as_str(), "" | "false"),
        Some(Json::Array(list)) => !list.is_empty(),
        Some(Json::Object(map)) => !Map::is_empty(&map),
        Some(_) => true,
    };
    if let Some(key) = NOT_YET.iter().find(is_asked_for) {
        return Err(Failure::new(format!(
            "services.{name}.build.{key}: cais compose cannot do this yet; docker buildx can, at the same daemon, where that says so"
        )));
    }
    let context = text(build, "context");
    if context::is_elsewhere(context) {
        return Err(Failure::new(format!(
            "services.{name}.build.context: {context} is elsewhere: cais compose builds from directories"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    #[test]
    fn what_cannot_be_built_is_refused_by_its_key() {
        let refused = |build: &str| {
            let project = project(&format!("services: {{web: {{build: {build}}}}}"));
            let node = project.service("web").unwrap().get("build").unwrap().clone();
            check("web", &node).map_or_else(|it| it.message, |()| String::new())
        };
        assert_eq!(refused("{context: ., target: a, args: {A: b}, privileged: true}"), "");
        assert!(refused("{context: ., sbom: true}").contains("services.web.build.sbom"));
        assert_eq!(refused("{context: ., provenance: false}"), "");
        assert!(refused("https://example.com/a.git").contains("is elsewhere"));
    }

    #[test]
    fn one_platform_is_built() {
        let project = project("services: {a: {image: a, platform: linux/arm64}, b: {image: b}}");
        let of = |name: &str, list: &[&'static str]| {
            platform(name, project.service(name), list).map(str::to_owned)
        };
        assert_eq!(of("a", &["linux/amd64", "linux/arm64"]).unwrap(), "linux/arm64");
        assert_eq!(of("b", &["linux/amd64"]).unwrap(), "linux/amd64");
        assert_eq!(of("b", &[]).unwrap(), "");
        assert!(of("b", &["linux/amd64", "linux/arm64"]).is_err());
    }
}
