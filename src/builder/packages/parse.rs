//! What package managers write down, read.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Package, PackageKind};

/// `ID` and `VERSION_ID` (os-release(5)).
pub(super) fn release(text: &str) -> (String, String) {
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().map(|value| value.trim_matches(['"', '\'']).to_owned()).unwrap_or_default()
    };
    (value("ID"), value("VERSION_ID"))
}

/// Fields of one paragraph, `Name: value`; lines that go on are left out.
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    let mut values =
        paragraph.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.next().map(str::trim).filter(|value| !value.is_empty())
}

/// dpkg's status, or one of its paragraphs in a file of its own, which says nothing of the status.
pub(super) fn dpkg(text: &str, path: &Path) -> Vec<Package> {
    let package = |paragraph: &str| {
        let status = field(paragraph, "Status").unwrap_or("install ok installed");
        if status.rsplit(' ').next() != Some("installed") {
            return None;
        }
        Some(Package {
            kind: PackageKind::Debian,
            name: field(paragraph, "Package")?.to_owned(),
            version: field(paragraph, "Version")?.to_owned(),
            architecture: field(paragraph, "Architecture").unwrap_or_default().to_owned(),
            license: String::new(),
            found_in: path.to_owned(),
        })
    };
    text.split("\n\n").filter_map(package).collect()
}

/// apk's list of what is installed: fields of one letter.
pub(super) fn apk(text: &str, path: &Path) -> Vec<Package> {
    let package = |paragraph: &str| {
        Some(Package {
            kind: PackageKind::Alpine,
            name: field(paragraph, "P")?.to_owned(),
            version: field(paragraph, "V")?.to_owned(),
            architecture: field(paragraph, "A").unwrap_or_default().to_owned(),
            license: field(paragraph, "L").unwrap_or_default().to_owned(),
            found_in: path.to_owned(),
        })
    };
    text.split("\n\n").filter_map(package).collect()
}

/// The head of a METADATA file (packaging.python.org, core metadata).
pub(super) fn python(text: &str, path: &Path) -> Option<Package> {
    let head = text.split("\n\n").next()?;
    let license = field(head, "License-Expression").or_else(|| field(head, "License"));
    Some(Package {
        kind: PackageKind::Python,
        name: field(head, "Name")?.to_owned(),
        version: field(head, "Version")?.to_owned(),
        architecture: String::new(),
        license: license.unwrap_or_default().to_owned(),
        found_in: path.to_owned(),
    })
}

/// A package.json of an installed package.
pub(super) fn node(text: &str, path: &Path) -> Option<Package> {
    #[derive(Deserialize)]
    struct Described {
        name: String,
        version: String,
        #[serde(default)]
        license: Value,
    }
    let Described { name, version, license } = serde_json::from_str(text).ok()?;
    let license = license.as_str().or_else(|| license["type"].as_str()).unwrap_or_default();
    Some(Package {
        kind: PackageKind::Node,
        name,
        version,
        architecture: String::new(),
        license: license.to_owned(),
        found_in: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_any_more_does_not_count() {
        let text = "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: half\nStatus: install ok half-configured\nVersion: 1\n\n\
            Package: here\nStatus: install ok installed\nVersion: 1:2-3\nDescription: a\n Package: x\n";
        let found = dpkg(text, Path::new("status"));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("here", "1:2-3"));
        assert!(dpkg("Package: nameless\n", Path::new("status")).is_empty());
    }

    #[test]
    fn licenses_have_several_forms_and_garbage_is_no_package() {
        let of = |text: &str| node(text, Path::new("package.json")).map(|it| it.license);
        let old = r#"{"name":"a","version":"1","license":{"type":"ISC"}}"#;
        assert_eq!(of(old).as_deref(), Some("ISC"));
        assert_eq!(of(r#"{"name":"a","version":"1"}"#).as_deref(), Some(""));
        assert_eq!(of(r#"{"name":"a"}"#), None);
        assert_eq!(of("not json"), None);
        let text = "Name: a\nVersion: 1\nLicense-Expression: MIT OR Apache-2.0\nLicense: x\n";
        let found = python(text, Path::new("METADATA")).unwrap();
        assert_eq!(found.license, "MIT OR Apache-2.0");
        assert_eq!(release("ID=alpine\nVERSION_ID=3.20.1\n").1, "3.20.1");
    }
}
