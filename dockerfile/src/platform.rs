//! Platforms: `linux/arm64/v8`, as containerd spells and normalises them.

use std::fmt;

use crate::quote::quote;

/// An operating system and a processor. Empty parts are not told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: String,
    pub os_version: String,
    pub os_features: Vec<String>,
}

const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// What containerd's messages show of the rule for each part.
const SYSTEM_RULE: &str = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$";
const PART_RULE: &str = "^[A-Za-z0-9_.-]+$";

impl Platform {
    /// What this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = normal_architecture(std::env::consts::ARCH, "");
        Self { os: "linux".to_owned(), architecture, variant, ..Self::default() }
    }

    /// As [`Self::parse`]; an empty text is the host's.
    ///
    /// # Errors
    /// As when it is parsed.
    pub fn or_host(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self::host()) } else { Self::parse(text) }
    }

    /// Whether the two differ in nothing but what a processor has beyond its name.
    pub fn fits(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }

    /// Reads `os[(version+feature…)][/architecture[/variant]]`, or an architecture alone.
    ///
    /// # Errors
    /// In containerd's words, `"x": unknown operating system or architecture: invalid argument`
    pub fn parse(text: &str) -> Result<Self, String> {
        let quoted = quote(text);
        if text.contains('*') {
            return Err(format!("{quoted}: wildcards not yet supported: invalid argument"));
        }
        let mut parts = text.splitn(4, '/');
        let system = parts.next().unwrap_or_default();
        let mut platform = Self::system(system, text)?;
        let rest: Vec<&str> = parts.collect();
        if let Some(part) = rest.iter().find(|part| !is_part(part, b"_.-")) {
            return Err(format!(
                "{} is an invalid component of {quoted}: platform specifier component must match {}: invalid argument",
                quote(part),
                quote(PART_RULE)
            ));
        }
        match rest.as_slice() {
            [] if SYSTEMS.contains(&platform.os.as_str()) => {
                platform.architecture = Self::host().architecture;
            }
            [] => {
                (platform.architecture, platform.variant) = short_architecture(system);
                if !ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Err(format!(
                        "{quoted}: unknown operating system or architecture: invalid argument"
                    ));
                }
                "linux".clone_into(&mut platform.os);
            }
            [architecture] => {
                (platform.architecture, platform.variant) = short_architecture(architecture);
            }
            [architecture, variant] => {
                (platform.architecture, platform.variant) =
                    normal_architecture(architecture, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    "v8".clone_into(&mut platform.variant);
                }
            }
            _ => {
                return Err(format!("{quoted}: cannot parse platform specifier: invalid argument"));
            }
        }
        Ok(platform)
    }

    /// The first part: a name, and perhaps a version and features in parentheses.
    fn system(part: &str, whole: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{} is an invalid OS component of {}: OSAndVersion specifier component must match {}: invalid argument",
                quote(part),
                quote(whole),
                quote(SYSTEM_RULE)
            )
        };
        let (name, options) = match part.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').ok_or_else(refused)?),
            None => (part, ""),
        };
        let mut options = options.split('+');
        let version = options.next().unwrap_or_default();
        let features: Vec<_> = options.map(str::to_owned).collect();
        let is_option = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let is_feature = |text: &String| !text.is_empty() && is_option(text);
        if !is_part(name, b"_-") || !is_option(version) || !features.iter().all(is_feature) {
            return Err(refused());
        }
        let os = match name.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Ok(Self { os, os_version: version.to_owned(), os_features: features, ..Self::default() })
    }

    /// In the one spelling that registries use.
    #[must_use]
    pub fn normal(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture, &self.variant);
        Self { os: self.os.to_lowercase(), architecture, variant, ..self.clone() }
    }

    /// Without version and features: `linux/arm64/v8`.
    pub fn short(&self) -> String {
        if self.os.is_empty() {
            return "unknown".to_owned();
        }
        self.joined(&self.os)
    }

    fn joined(&self, system: &str) -> String {
        let parts = [system, &self.architecture, &self.variant];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("/")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() || (self.os_version.is_empty() && self.os_features.is_empty()) {
            return f.write_str(&self.short());
        }
        let mut features = self.os_features.clone();
        features.sort();
        features.dedup();
        features.insert(0, self.os_version.clone());
        f.write_str(&self.joined(&format!("{}({})", self.os, features.join("+"))))
    }
}

fn is_part(text: &str, marks: &[u8]) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
}

/// Without the variant that is meant when none is told.
fn short_architecture(text: &str) -> (String, String) {
    let (architecture, variant) = normal_architecture(text, "");
    let variant = if architecture == "arm" && variant == "v7" { String::new() } else { variant };
    (architecture, variant)
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_platform_are_one() {
        for (text, platform) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("aarch64", "linux/arm64"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
            ("linux(+b+a)/s390x", "linux(+a+b)/s390x"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), platform, "{text}");
        }
        for text in ["", "linux//v7", "x", "linux/*", "a/b/c/d", "linux(/amd64", "lin ux/amd64"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }
}
