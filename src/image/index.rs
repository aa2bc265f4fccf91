//! Several images under one name, and what is attested of them: an OCI index.
//!
//! ```text
//!   index ─▶ the manifest of an image, for its platform
//!         ─▶ a manifest for unknown/unknown: in-toto statements about the image that its annotation names
//! ```
//!
//! As BuildKit has it (docs/attestations/attestation-storage.md of moby/buildkit).

use serde_json::{Value, json};

use super::Held;
use super::digest::Digest;
use super::manifest::{self, Descriptor, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use super::reference::Reference;
use super::save::Documents;
use crate::error::{Context, Result};

const STATEMENT: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v0.1";

/// One image of an index.
pub(crate) struct Variant {
    pub(crate) held: Held,
    pub(crate) predicates: Vec<Predicate>,
}

/// What is said of an image; of which, is added when its digest is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Predicate {
    /// A URI.
    pub(crate) kind: &'static str,
    pub(crate) content: Value,
    /// What a statement with it is called that lies beside files.
    pub(crate) file: String,
    /// Nobody asked for it: where it would be a file it is left out.
    pub(crate) is_inline_only: bool,
}

/// in-toto's statement that a predicate holds for `subjects`.
pub(crate) fn statement(predicate: &Predicate, subjects: &[Value]) -> Value {
    json!({
        "_type": STATEMENT_TYPE,
        "predicateType": predicate.kind,
        "subject": subjects,
        "predicate": predicate.content,
    })
}

/// The statements about one image, and the documents that make an image of them.
pub(super) struct Attested {
    pub(super) statements: Vec<Vec<u8>>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

/// `names` are those that the image is to have.
pub(super) fn attest(
    image: &Documents,
    predicates: &[Predicate],
    names: &[Reference],
) -> Result<Option<Attested>> {
    if predicates.is_empty() {
        return Ok(None);
    }
    let digest = Digest::of(&image.manifest);
    let platform = platform(&image.config)?;
    let system = |key: &str| platform[key].as_str().unwrap_or_default().to_owned();
    let system = format!("{}%2F{}", system("os"), system("architecture"));
    let mut subjects: Vec<String> =
        names.iter().map(|name| format!("{}?platform={system}", package_url(name))).collect();
    if subjects.is_empty() {
        subjects.push("_".to_owned());
    }
    let subject = |name: &String| json!({ "name": name, "digest": { "sha256": digest.hex() } });
    let subjects: Vec<Value> = subjects.iter().map(subject).collect();
    let (mut statements, mut layers) = (Vec::new(), Vec::new());
    for predicate in predicates {
        let statement = statement(predicate, &subjects);
        let statement = serde_json::to_vec(&statement).context("write a statement")?;
        let mut layer = Descriptor::of(STATEMENT, &statement).to_json();
        layer["annotations"] = json!({ "in-toto.io/predicate-type": predicate.kind });
        layers.push(layer);
        statements.push(statement);
    }
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = serde_json::to_vec(&config).context("write a configuration")?;
    let manifest = manifest::write_of(&Descriptor::of(OCI_CONFIG, &config), &layers)?;
    Ok(Some(Attested { statements, config, manifest }))
}

/// `pkg:docker/busybox@latest` (package-url's type docker).
pub(crate) fn package_url(name: &Reference) -> String {
    // A digest is not a version; it is told beside the URL.
    let familiar = name.familiar();
    let familiar = familiar.split('@').next().unwrap_or_default();
    match familiar.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((repository, tag)) => format!("pkg:docker/{repository}@{tag}"),
        None => format!("pkg:docker/{familiar}"),
    }
}

/// The document that names all of them.
pub(super) fn write(images: &[(Documents, Option<Attested>)]) -> Result<Vec<u8>> {
    let describe = |manifest: &[u8], platform: Value| {
        let mut entry = Descriptor::of(OCI_MANIFEST, manifest).to_json();
        entry["platform"] = platform;
        entry
    };
    let (mut entries, mut attested) = (Vec::new(), Vec::new());
    for (image, about) in images {
        entries.push(describe(&image.manifest, platform(&image.config)?));
        if let Some(about) = about {
            let unknown = json!({ "architecture": "unknown", "os": "unknown" });
            let mut entry = describe(&about.manifest, unknown);
            entry["annotations"] = json!({
                "vnd.docker.reference.digest": Digest::of(&image.manifest).to_string(),
                "vnd.docker.reference.type": "attestation-manifest",
            });
            attested.push(entry);
        }
    }
    entries.extend(attested);
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
    serde_json::to_vec(&index).context("write the index")
}

/// Of an image's configuration.
fn platform(config: &[u8]) -> Result<Value> {
    let config: Value = serde_json::from_slice(config).context("read the image's configuration")?;
    let mut platform = json!({ "architecture": config["architecture"], "os": config["os"] });
    if let Some(variant) = config["variant"].as_str().filter(|variant| !variant.is_empty()) {
        platform["variant"] = json!(variant);
    }
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_images_first_and_then_what_is_attested_of_them() {
        let image = |architecture: &str| {
            let config = json!({ "os": "linux", "architecture": architecture, "rootfs": {} });
            let config = config.to_string().into_bytes();
            let manifest = manifest::write(&config, &[]).unwrap();
            Documents { config, manifest, layers: Vec::new() }
        };
        let names = [Reference::parse("localhost:5000/a/b:v1").unwrap()];
        let predicate = Predicate {
            kind: "https://x.io/p",
            content: json!({ "a": 1 }),
            file: "p.json".to_owned(),
            is_inline_only: false,
        };
        let images = ["amd64", "arm64"].map(|architecture| {
            let image = image(architecture);
            let attested = attest(&image, std::slice::from_ref(&predicate), &names).unwrap();
            (image, attested)
        });
        let index: Value = serde_json::from_slice(&write(&images).unwrap()).unwrap();
        let told: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
        let architectures: Vec<_> =
            told.iter().map(|it| it["platform"]["architecture"].as_str().unwrap()).collect();
        assert_eq!(architectures, ["amd64", "arm64", "unknown", "unknown"]);
        assert_eq!(told[3]["annotations"]["vnd.docker.reference.digest"], told[1]["digest"]);

        let attested = images[1].1.as_ref().unwrap();
        let manifest: Value = serde_json::from_slice(&attested.manifest).unwrap();
        let digest = Digest::of(&attested.statements[0]).to_string();
        assert_eq!(manifest["layers"][0]["digest"], digest.as_str());
        let statement: Value = serde_json::from_slice(&attested.statements[0]).unwrap();
        let subject = &statement["subject"][0];
        assert_eq!(subject["name"], "pkg:docker/localhost:5000/a/b@v1?platform=linux%2Farm64");
        assert!(
            told[1]["digest"]
                .as_str()
                .unwrap()
                .ends_with(subject["digest"]["sha256"].as_str().unwrap())
        );
        assert_eq!(statement["predicate"]["a"], 1);
        assert!(attest(&image("amd64"), &[], &names).unwrap().is_none());
    }
}
