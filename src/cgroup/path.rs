//! The grammar of cgroup paths and names that come from a request.

use crate::error::{Error, Result};

const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

/// Where a pod's or container's group is made when the request names no parent.
const DEFAULT_PARENT: &str = "/cais";

/// What a request's cgroup parent means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parent {
    /// A directory below each hierarchy's mount point.
    Path(String),
    /// A slice of systemd and the directory it has.
    Slice { unit: String, path: String },
}

/// Reads `field` of a request: a cgroupfs path, or one whose last component is a slice.
pub(super) fn parent(field: &str, text: &str) -> Result<Parent> {
    if text.is_empty() {
        return Ok(Parent::Path(DEFAULT_PARENT.to_owned()));
    }
    let path = absolute(field, text)?;
    let last = path.rsplit('/').next().unwrap_or_default();
    if !last.ends_with(".slice") {
        return Ok(Parent::Path(path));
    }
    let expanded = cgroups_rs::systemd::utils::expand_slice(last)
        .map_err(|_| Error::invalid(format!("{field}: {last:?} is not the name of a slice")))?;
    Ok(Parent::Slice { unit: last.to_owned(), path: format!("/{expanded}") })
}

/// The slice for pod `name` below a configured parent, which may be a slice or a path: a slice's name
/// says all that is above it.
pub(super) fn pod_slice(parent: &str, name: &str) -> String {
    let parent = parent.trim_matches('/');
    let stem = match parent.strip_suffix(".slice") {
        Some(stem) => stem.rsplit('/').next().unwrap_or(stem).to_owned(),
        None => parent.replace('/', "-"),
    };
    format!("{stem}-{name}.slice")
}

/// A path in which every component is a plain name, with one leading slash and no trailing one.
pub(super) fn absolute(field: &str, text: &str) -> Result<String> {
    if text.len() > PATH_MAX {
        return Err(Error::invalid(format!("{field}: longer than {PATH_MAX} bytes")));
    }
    let mut path = String::with_capacity(text.len() + 1);
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        component(field, part)?;
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() {
        return Err(Error::invalid(format!("{field}: {text:?} names the root of the hierarchy")));
    }
    Ok(path)
}

/// One directory name.
pub(super) fn component(field: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_MAX {
        "has a component longer than 255 bytes"
    } else if name == "." || name == ".." {
        "has a component that is . or .."
    } else if name.contains('/') {
        "has a slash in a name"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.starts_with("cgroup.") {
        "has a component that looks like one of the kernel's own files"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(80).collect();
    Err(Error::invalid(format!("{field}: {shown:?} {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_could_lead_elsewhere_is_refused_by_field() {
        let long = "a".repeat(256);
        for text in ["/a/../b", "..", "/a\nb", "/a\0b", "/", "//.//", "/cgroup.procs", &long] {
            let error = parent("linux.cgroup_parent", text).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::InvalidArgument, "{text:?}");
            assert!(error.to_string().starts_with("linux.cgroup_parent: "), "{error}");
        }
    }

    #[test]
    fn a_slice_is_expanded_to_its_directory_whatever_stands_before_it() {
        let expected = Parent::Slice {
            unit: "kubepods-burstable-podx.slice".to_owned(),
            path: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice"
                .to_owned(),
        };
        for text in [
            "kubepods-burstable-podx.slice",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice",
        ] {
            assert_eq!(parent("f", text).unwrap(), expected);
        }
        assert!(parent("f", "/a--b.slice").is_err());
    }

    #[test]
    fn a_pod_gets_a_slice_below_the_configured_parent() {
        assert_eq!(pod_slice("/cais", "p"), "cais-p.slice");
        assert_eq!(pod_slice("/node/cais/", "p"), "node-cais-p.slice");
        assert_eq!(pod_slice("/node.slice/node-cais.slice", "p"), "node-cais-p.slice");
    }

    #[test]
    fn plain_paths_are_cleaned_and_an_empty_one_is_ours() {
        assert_eq!(parent("f", "kubepods//pod1/").unwrap(), Parent::Path("/kubepods/pod1".into()));
        assert_eq!(parent("f", "").unwrap(), Parent::Path(DEFAULT_PARENT.into()));
    }
}
