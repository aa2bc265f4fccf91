//! Raw files of the v2 hierarchy, for what the CRI has no field for (`memory.high`).

use super::Resources;
use super::settings::{Missing, Place, Setting};
use crate::error::{Error, Result};

pub(super) fn settings(resources: &Resources) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    for (name, value) in &resources.unified {
        check(name, value)?;
        all.push(Setting {
            place: Place::Unified,
            file: name.clone(),
            value: value.clone(),
            missing: Missing::Refuse,
        });
    }
    Ok(all)
}

/// `controller.file`: a name without a path, and none of the files that steer cgroups themselves.
fn check(name: &str, value: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let well_formed = name.len() <= 255
        && name.bytes().all(plain)
        && name.split_once('.').is_some_and(|(controller, file)| {
            !controller.is_empty() && !file.is_empty() && !file.starts_with('.')
        });
    let shown: String = name.chars().take(80).collect();
    if !well_formed {
        return Err(Error::invalid(format!("unified: {shown:?} is not the name of a cgroup file")));
    }
    if name.starts_with("cgroup.") {
        return Err(Error::invalid(format!("unified: {shown:?} is not a resource")));
    }
    if value.len() > 4096 || value.chars().any(|it| it.is_control() && it != '\n') {
        return Err(Error::invalid(format!(
            "unified: the value of {shown:?} has control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_resource_files_can_be_named() {
        for good in ["memory.high", "memory.oom.group", "io.max", "hugetlb.2MB.max"] {
            assert!(check(good, "1").is_ok(), "{good}");
        }
        for bad in [
            "",
            "memory",
            "../memory.high",
            "a/b.c",
            "cgroup.procs",
            "cgroup.kill",
            ".x",
            "x.",
            "x..y",
        ] {
            let error = check(bad, "1").unwrap_err();
            assert!(error.to_string().starts_with("unified: "), "{bad}: {error}");
        }
        assert!(check("memory.high", "1\0").is_err());
    }
}
