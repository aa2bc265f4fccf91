//! Which entry of an index is for this machine.

use serde::{Deserialize, Serialize};

use super::manifest::Descriptor;

/// The platform part of a descriptor or of an image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    pub(crate) fn new(architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// The platform this program was built for.
    pub(crate) fn host() -> Self {
        match std::env::consts::ARCH {
            "x86_64" => Self::new("amd64", None),
            "aarch64" => Self::new("arm64", None),
            "arm" => Self::new("arm", Some("v7")),
            "powerpc64" => Self::new("ppc64le", None),
            other => Self::new(other, None),
        }
    }

    /// How well an image for `other` runs here; less is better, `None` is not at all.
    fn distance(&self, other: &Self) -> Option<u32> {
        if !other.os.eq_ignore_ascii_case(&self.os) {
            return None;
        }
        match (self.architecture.as_str(), normal_architecture(&other.architecture)) {
            ("amd64", "amd64") => {
                // The baseline first, as other engines choose; a higher level only if it is all
                // there is and the processor has it.
                let level = amd64_level(other.variant.as_deref())?;
                let known = processor_level();
                (level <= known).then(|| if level == 1 { 0 } else { 1 + known - level })
            }
            ("amd64", "386") => Some(100),
            ("arm64", "arm64") => match other.variant.as_deref() {
                None | Some("" | "v8" | "8") => Some(0),
                Some(_) => None,
            },
            ("arm", "arm") => {
                let mine = arm_version(self.variant.as_deref())?;
                let theirs = arm_version(other.variant.as_deref())?;
                mine.checked_sub(theirs)
            }
            (mine, theirs) => (mine == theirs).then_some(0),
        }
    }

    /// Whether an image for `other` runs here.
    pub(crate) fn runs(&self, other: &Self) -> bool {
        self.distance(other).is_some()
    }

    /// The best entry for this platform, the first among equals.
    pub(crate) fn choose<'a>(&self, entries: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let best = entries
            .iter()
            .filter_map(|entry| Some((self.distance(entry.platform.as_ref()?)?, entry)))
            .min_by_key(|(distance, _)| *distance);
        match (best, entries) {
            (Some((_, entry)), _) => Some(entry),
            // An index of a single image may leave the platform to the image's configuration.
            (None, [only]) if only.platform.is_none() => Some(only),
            (None, _) => None,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

fn normal_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        other => other,
    }
}

fn amd64_level(variant: Option<&str>) -> Option<u32> {
    match variant {
        None | Some("" | "v1") => Some(1),
        Some("v2") => Some(2),
        Some("v3") => Some(3),
        Some("v4") => Some(4),
        Some(_) => None,
    }
}

fn arm_version(variant: Option<&str>) -> Option<u32> {
    match variant {
        None | Some("" | "v7" | "7") => Some(7),
        Some("v6" | "6") => Some(6),
        Some("v5" | "5") => Some(5),
        Some(_) => None,
    }
}

#[cfg(target_arch = "x86_64")]
fn processor_level() -> u32 {
    let v2 = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
    let v3 = v2
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("fma");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    1 + u32::from(v2) + u32::from(v3) + u32::from(v4)
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_level() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    fn entry(architecture: &str, variant: Option<&str>) -> Descriptor {
        let platform = Some(Platform::new(architecture, variant));
        Descriptor { platform, ..Descriptor::new("", Digest::of(architecture.as_bytes()), 1) }
    }

    fn chosen(host: &Platform, entries: &[Descriptor]) -> Option<String> {
        let platform = host.choose(entries)?.platform.as_ref()?;
        Some(platform.to_string())
    }

    #[test]
    fn the_baseline_of_the_own_architecture_wins() {
        let host = Platform::new("amd64", None);
        let entries = [
            entry("arm64", Some("v8")),
            entry("386", None),
            entry("amd64", Some("v2")),
            entry("amd64", None),
        ];
        assert_eq!(chosen(&host, &entries).unwrap(), "linux/amd64");
    }

    #[test]
    fn arm_takes_the_nearest_older_variant() {
        let host = Platform::new("arm", Some("v7"));
        let entries = [entry("arm", Some("v5")), entry("arm", Some("v6")), entry("amd64", None)];
        assert_eq!(chosen(&host, &entries).unwrap(), "linux/arm/v6");
    }

    #[test]
    fn a_strange_platform_is_not_taken_for_ours() {
        let host = Platform::new("amd64", None);
        let mut windows = entry("amd64", None);
        windows.platform.as_mut().unwrap().os = "windows".to_owned();
        assert_eq!(
            chosen(&host, &[windows, entry("unknown", None), entry("amd64", Some("v9"))]),
            None
        );
    }
}
