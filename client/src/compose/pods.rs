//! `compose up --cri`: containers that clients of the CRI see as pods.
//!
//! They bear a label that tells the daemon so. Whether a project's are pods is read from it, so that what is made later by
//! `up`, `scale` or `watch` is as the rest.

use cais_compose::{Node, Project};

use super::containers::Container;
use super::{labels, rolling};
use crate::Cais;
use crate::error::Result;

pub(super) fn check(cais: &Cais) -> Result<()> {
    rolling::check_daemon(cais, "--cri", "shows containers to clients of the CRI")
}

/// Whether it is shown because somebody said `--cri`, not because the file has the label.
pub(super) fn is_shown(project: &Project, container: &Container) -> bool {
    !container.label(labels::CRI_NAMESPACE).is_empty()
        && declared(project, &container.service).is_none()
}

/// Whether the flag wants it otherwise than it is.
pub(super) fn is_to_change(project: &Project, container: &Container, flag: Option<bool>) -> bool {
    // What the file says of it is in the hash.
    let is_declared = declared(project, &container.service).is_some();
    let has_label = !container.label(labels::CRI_NAMESPACE).is_empty();
    flag.is_some_and(|it| it != has_label && !is_declared)
}

fn declared<'p>(project: &'p Project, service: &str) -> Option<&'p Node> {
    project.service(service)?.get("labels")?.get(labels::CRI_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::super::tests::project;
    use super::*;
    use crate::json::Value;

    #[test]
    fn the_flag_changes_what_the_file_leaves_open() {
        let project = project(
            "services: {open: {image: a}, said: {image: a, labels: {cais.cri.namespace: prod}}}",
        );
        let container = |service: &str, namespace: &str| {
            let listed = format!(r#"{{"Labels": {{"cais.cri.namespace": "{namespace}"}}}}"#);
            Container {
                service: service.to_owned(),
                listed: Value::parse(listed.as_bytes()).unwrap(),
                ..Container::default()
            }
        };
        let (plain, shown) = (container("open", ""), container("open", "shop"));
        let said = container("said", "prod");
        assert!(!is_shown(&project, &plain) && is_shown(&project, &shown));
        assert!(!is_shown(&project, &said));
        for (container, flag, expected) in [
            (&plain, None, false),
            (&plain, Some(true), true),
            (&plain, Some(false), false),
            (&shown, None, false),
            (&shown, Some(true), false),
            (&shown, Some(false), true),
            (&said, Some(false), false),
        ] {
            assert_eq!(is_to_change(&project, container, flag), expected, "{flag:?}");
        }
    }
}
