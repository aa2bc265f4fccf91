//! Huge pages, by page size.

use super::Resources;
use super::controller::{Controller, Version};
use super::settings::Setting;
use crate::error::{Error, Result};

pub(super) fn settings(resources: &Resources, version: Version) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    for (size, limit) in &resources.hugepage_limits {
        if !is_size(size) {
            let shown: String = size.chars().take(80).collect();
            return Err(Error::invalid(format!(
                "hugepage_limits: {shown:?} is not a page size such as 2MB"
            )));
        }
        let suffix = match version {
            Version::V1 => "limit_in_bytes",
            Version::V2 => "max",
        };
        // Pages reserved but not yet touched are limited by a file of their own on newer kernels.
        let reserved = format!("hugetlb.{size}.rsvd.{suffix}");
        let setting = Setting::new(
            Controller::Hugetlb,
            format!("hugetlb.{size}.{suffix}"),
            limit.to_string(),
        );
        // kubelet forbids every size it knows; a size that the machine lacks is forbidden already.
        all.push(if *limit == 0 { setting.skip_if_missing() } else { setting });
        all.push(Setting::new(Controller::Hugetlb, reserved, limit.to_string()).skip_if_missing());
    }
    Ok(all)
}

fn is_size(size: &str) -> bool {
    ["KB", "MB", "GB"].into_iter().filter_map(|unit| size.strip_suffix(unit)).any(|number| {
        !number.is_empty() && number.len() <= 6 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        assert!(["2MB", "1GB", "64KB"].into_iter().all(is_size));
        assert!(!["", "MB", "2mb", "2M", "../2MB", "2MB/x", "+2MB"].into_iter().any(is_size));
    }

    #[test]
    fn a_forbidden_size_may_be_missing_and_an_allowed_one_may_not() {
        use crate::cgroup::settings::Missing;

        let resources = Resources {
            hugepage_limits: vec![("2MB".into(), 0), ("1GB".into(), 1 << 30)],
            ..Resources::default()
        };
        let all = settings(&resources, Version::V2).unwrap();
        let of = |file: &str| all.iter().find(|it| it.file == file).unwrap();
        assert_eq!(of("hugetlb.2MB.max").missing, Missing::Skip);
        assert_eq!(of("hugetlb.1GB.max").missing, Missing::Refuse);
        assert_eq!(of("hugetlb.1GB.max").value, "1073741824");
    }
}
