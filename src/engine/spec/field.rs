//! Checks that many fields share; each error begins with the field's name.

use std::path::Path;

use crate::error::{Error, Result};

const PATH_MAX: usize = 4096;

/// Text of a request as it may be shown in an error.
pub(in crate::engine) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    format!("{cut:?}")
}

pub(in crate::engine) fn no_nul(field: &str, bytes: &[u8]) -> Result<()> {
    if bytes.contains(&0) {
        return Err(Error::invalid(format!("{field}: has a NUL byte")));
    }
    Ok(())
}

/// An absolute path without `..`, with single slashes and none at the end.
pub(in crate::engine) fn path(field: &str, path: &Path) -> Result<String> {
    let Some(text) = path.to_str() else {
        return Err(Error::invalid(format!("{field}: is not UTF-8")));
    };
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > PATH_MAX {
        return Err(Error::invalid(format!("{field}: longer than {PATH_MAX} bytes")));
    } else if !text.starts_with('/') {
        "is not absolute"
    } else if text.contains('\0') {
        "has a NUL byte"
    } else if text.split('/').any(|part| part == "..") {
        "has a component .."
    } else if text.split('/').any(|part| part.len() > 255) {
        "has a component longer than 255 bytes"
    } else {
        return Ok(clean(text));
    };
    Err(Error::invalid(format!("{field}: {} {problem}", shown(text))))
}

fn clean(text: &str) -> String {
    let parts: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_plain_are_refused_by_field() {
        for bad in ["", "etc", "/a/../b", "/..", "/a\0b", &format!("/{}", "x".repeat(256))] {
            let error = path("mounts[0].container_path", Path::new(bad)).unwrap_err();
            assert!(error.to_string().starts_with("mounts[0].container_path: "), "{error}");
        }
        assert_eq!(path("f", Path::new("//a/./b/")).unwrap(), "/a/b");
        assert_eq!(path("f", Path::new("/")).unwrap(), "/");
    }
}
