//! What the build of a service may ask for: secrets, ssh agents and contexts by name, as the file says.

use cais_compose::{Node, Project};

use super::resources::text;
use crate::error::{Context as _, Failure, Result};
use crate::lending::Lending;

/// The beginning of a context that is another service's image.
const SERVICE: &str = "service:";

/// All but the contexts that are other services.
///
/// # Errors
/// Something is not there, or cannot be read.
pub(super) fn lending(project: &Project, build: &Node) -> Result<Lending> {
    let mut lending = Lending::default();
    for mount in build.get("secrets").and_then(Node::as_list).unwrap_or_default() {
        let (id, value) = secret(project, mount)?;
        lending.add_secret_value(id, value)?;
    }
    for agent in build.get("ssh").and_then(Node::as_list).unwrap_or_default() {
        // `ID: SOCKET` is how the file's mapping is kept.
        lending.add_agent(&agent.as_text().unwrap_or_default().replacen(": ", "=", 1))?;
    }
    let contexts = build.get("additional_contexts").and_then(Node::as_map).into_iter().flatten();
    for (name, value) in contexts {
        let value = value.as_text().unwrap_or_default();
        if !value.starts_with(SERVICE) {
            lending.add_context(name, value)?;
        }
    }
    Ok(lending)
}

fn secret<'n>(project: &Project, mount: &'n Node) -> Result<(&'n str, Vec<u8>)> {
    let source = text(mount, "source");
    let id = match text(mount, "target") {
        "" => source,
        target => target,
    };
    let resource = project.resource("secrets", source);
    let content = resource.and_then(|it| it.get("content")?.as_text());
    let value = match (content, resource.map_or("", |it| text(it, "file"))) {
        (Some(content), _) => content.as_bytes().to_vec(),
        (None, "") => {
            return Err(Failure::new(format!(
                "secrets: {source} is neither a file nor a variable: a build cannot have it"
            )));
        }
        (None, file) => std::fs::read(file).context(format_args!("secrets: {source}: {file}"))?,
    };
    Ok((id, value))
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;

    #[test]
    fn a_build_has_what_its_service_says() {
        let project = project(
            "services: {a: {build: {context: ., secrets: [s, {source: t, target: u}], additional_contexts: {base: 'service:b', img: 'docker-image://x'}}}, b: {build: b}}
secrets: {s: {file: /dev/null}, t: {file: /dev/null}}",
        );
        let build = project.service("a").unwrap().get("build").unwrap();
        assert_eq!(project.build_contexts("a").collect::<Vec<_>>(), [("base", "b")]);
        let mut lending = lending(&project, build).unwrap();
        let path = lending.announced(crate::client::Path::new(&["build"])).unwrap();
        let path = format!("{path:?}");
        for part in ["secret=s", "secret=u", "context=img%3Ddocker%2Dimage%3A%2F%2Fx", "session="] {
            assert!(path.contains(part), "{part}: {path}");
        }
        assert!(!path.contains("base"), "{path}");
    }

    #[test]
    fn a_secret_that_is_elsewhere_is_refused() {
        let project = project(
            "services: {a: {build: {context: ., secrets: [s]}}}
secrets: {s: {external: true}}",
        );
        let build = project.service("a").unwrap().get("build").unwrap();
        let failure = lending(&project, build).unwrap_err();
        assert!(failure.message.contains("neither a file nor a variable"), "{}", failure.message);
    }
}
