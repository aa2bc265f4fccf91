//! What an image is made of, as a document of SPDX 2.3 (spdx.github.io/spdx-spec/v2.3).
//!
//! It is our own: the packages whose managers say that they are there. Another scanner, which a client names by its image, is run
//! by [`super::scan`].

use serde_json::{Value, json};

use crate::builder::{Inventory, Package, PackageKind};
use crate::image::digest::Digest;
use crate::image::index::Predicate;

/// Of the document about the result, and how those of others begin. BuildKit has the same.
pub(super) const CORE: &str = "sbom";
pub(super) const CONTEXT: &str = "context";

/// As files are called by scanners: `sbom.spdx.json`, or `sbom-NAME.spdx.json` for what else was looked at.
pub(super) fn file_name(other: Option<&str>) -> String {
    match other {
        None => format!("{CORE}.spdx.json"),
        Some(other) => format!("{CORE}-{other}.spdx.json"),
    }
}

pub(super) const KIND: &str = "https://spdx.dev/Document";
const TOOL: &str = concat!("Tool: cais-", env!("CARGO_PKG_VERSION"));
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-DocumentRoot-Image";
/// Nothing is said about it.
const NOTHING: &str = "NOASSERTION";

/// `name` is for people; `created` in whole seconds, as the format wants it. `file`: what it is called as a file.
pub(super) fn predicate(
    (name, file): (&str, String),
    inventory: &Inventory,
    created: jiff::Timestamp,
) -> Predicate {
    let of_image = json!({
        "SPDXID": IMAGE,
        "name": name,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "primaryPackagePurpose": "CONTAINER",
    });
    let id = |number: usize| format!("SPDXRef-Package-{number}");
    let mut packages = vec![of_image];
    let mut relationships = vec![related(DOCUMENT, "DESCRIBES", IMAGE)];
    for (number, package) in inventory.packages.iter().enumerate() {
        packages.push(described(&id(number), package, &inventory.system));
        relationships.push(related(IMAGE, "CONTAINS", &id(number)));
    }
    let created = created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // The same image at the same time has the same document.
    let content = Digest::of(json!([name, created, packages]).to_string().as_bytes());
    Predicate {
        kind: KIND,
        file,
        is_inline_only: false,
        content: json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": DOCUMENT,
            "name": name,
            "documentNamespace": format!("https://spdx.org/spdxdocs/cais-{}", content.hex()),
            "creationInfo": { "created": created, "creators": [TOOL] },
            "packages": packages,
            "relationships": relationships,
        }),
    }
}

fn related(element: &str, how: &str, other: &str) -> Value {
    json!({ "spdxElementId": element, "relationshipType": how, "relatedSpdxElement": other })
}

fn described(id: &str, package: &Package, system: &(String, String)) -> Value {
    let mut described = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "sourceInfo": format!("acquired package info from /{}", package.found_in.display()),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package_url(package, system),
        }],
    });
    if !package.license.is_empty() {
        // In the package's own words, which need be no expression of SPDX.
        described["licenseComments"] = json!(package.license);
    }
    described
}

/// github.com/package-url/purl-spec.
fn package_url(package: &Package, (system, version): &(String, String)) -> String {
    let name = escaped(&package.name);
    let plain = escaped(&package.version);
    let of_system = |kind: &str, default: &str| {
        let system = if system.is_empty() { default } else { system.as_str() };
        let mut url = format!("pkg:{kind}/{}/{name}@{plain}", escaped(system));
        let distro = if version.is_empty() { String::new() } else { format!("{system}-{version}") };
        let qualifiers = [("arch", &package.architecture), ("distro", &distro)];
        let told = qualifiers.iter().filter(|(_, value)| !value.is_empty());
        for (number, (key, value)) in told.enumerate() {
            url.push_str(&format!(
                "{}{key}={}",
                if number == 0 { '?' } else { '&' },
                escaped(value)
            ));
        }
        url
    };
    match package.kind {
        PackageKind::Debian => of_system("deb", "debian"),
        PackageKind::Alpine => of_system("apk", "alpine"),
        PackageKind::Python => {
            let name = package.name.to_lowercase().replace('_', "-");
            format!("pkg:pypi/{}@{plain}", escaped(&name))
        }
        // The scope is a part of the path.
        PackageKind::Node => format!("pkg:npm/{}@{plain}", name.replace("%2F", "/")),
    }
}

/// What is no letter, digit or `.-_~:` becomes `%XX`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_urls_by_which_others_know_them() {
        let url = |kind, name: &str, version: &str, architecture: &str| {
            let package = Package {
                kind,
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: architecture.to_owned(),
                license: String::new(),
                found_in: "x".into(),
            };
            package_url(&package, &("debian".to_owned(), "12".to_owned()))
        };
        assert_eq!(
            url(PackageKind::Debian, "libstdc++6", "1:2+b1", "amd64"),
            "pkg:deb/debian/libstdc%2B%2B6@1:2%2Bb1?arch=amd64&distro=debian-12"
        );
        assert_eq!(url(PackageKind::Node, "@a/b", "1", ""), "pkg:npm/%40a/b@1");
        assert_eq!(url(PackageKind::Python, "Ruamel_Yaml", "1", ""), "pkg:pypi/ruamel-yaml@1");
    }

    #[test]
    fn a_document_names_the_image_and_all_that_it_contains() {
        let package = Package {
            kind: PackageKind::Alpine,
            name: "musl".to_owned(),
            version: "1".to_owned(),
            architecture: "x86_64".to_owned(),
            license: "MIT".to_owned(),
            found_in: "lib/apk/db/installed".into(),
        };
        let inventory = Inventory { packages: vec![package], ..Inventory::default() };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let made = predicate(("web", file_name(None)), &inventory, now);
        assert_eq!(made.kind, KIND);
        assert_eq!(made.content["creationInfo"]["created"], "1970-01-01T00:00:00Z");
        assert_eq!(made.content["packages"][1]["licenseComments"], "MIT");
        let locator = &made.content["packages"][1]["externalRefs"][0]["referenceLocator"];
        assert_eq!(locator, "pkg:apk/alpine/musl@1?arch=x86_64");
        let contains = &made.content["relationships"][1];
        assert_eq!(contains["relatedSpdxElement"], made.content["packages"][1]["SPDXID"]);
        assert_eq!(predicate(("web", file_name(None)), &inventory, now), made);
        assert_ne!(
            predicate(("other", file_name(None)), &inventory, now).content["documentNamespace"],
            made.content["documentNamespace"]
        );
    }
}
