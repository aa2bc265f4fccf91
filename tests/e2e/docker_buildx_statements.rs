//! What is attested of files that leave as files, and what SBOMs are made of besides the result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::{build, with_buildx};

/// The stages in the middle are built; one of them is looked at.
const STAGES: &str = "\
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true
FROM busybox AS tools
ARG BUILDKIT_SBOM_SCAN_STAGE=true
COPY tools /
FROM busybox AS quiet
ARG BUILDKIT_SBOM_SCAN_CONTEXT
RUN test -z \"$BUILDKIT_SBOM_SCAN_CONTEXT\" && echo made > /made
FROM scratch
COPY root /
COPY --from=tools /tool /bin/
COPY --from=quiet /made /
";
const FILES: [(&str, &str); 5] = [
    ("Dockerfile", STAGES),
    (
        "root/var/lib/dpkg/status",
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n",
    ),
    ("tools/tool", "a tool"),
    ("tools/lib/python/flask-3.0.dist-info/METADATA", "Name: Flask\nVersion: 3.0\n"),
    ("app/node_modules/left/package.json", r#"{"name":"left","version":"1.2.3"}"#),
];

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The names of what is in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Each subject is a file with that content.
fn is_about(statement: &Value, directory: &Path, files: &[&str]) {
    let subjects: BTreeMap<_, _> = statement["subject"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), it["digest"]["sha256"].as_str().unwrap()))
        .collect();
    assert!(subjects.keys().eq(files), "{subjects:?}");
    for (name, digest) in subjects {
        let summed = Command::new("sha256sum").arg(directory.join(name)).output().unwrap();
        assert!(summed.stdout.starts_with(digest.as_bytes()), "{name}: {digest} {summed:?}");
    }
}

fn packages(directory: &Path, file: &str) -> Vec<String> {
    let document = read(&directory.join(file));
    assert_eq!(document["predicateType"], "https://spdx.dev/Document", "{file}");
    is_about(&document, directory, &["bin/tool", "made", "var/lib/dpkg/status"]);
    let all = document["predicate"]["packages"].as_array().unwrap().iter().skip(1);
    all.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn buildx_has_statements_beside_files_about_them_and_what_they_are_made_of() {
    let (node, docker) = with_buildx().await;
    let context = Context::new(&node, "context", &FILES);
    let to = |name: &str| -> (PathBuf, String) {
        let path = node.home.join(name);
        (path.clone(), format!("dest={}", path.display()))
    };
    let built = ["bin", "made", "var"];

    // What nobody asked for is no file.
    let (files, dest) = to("plain");
    build(&docker, &context, &["-o", &format!("type=local,{dest}")]).await;
    assert_eq!(names(&files), built);

    let (files, dest) = to("files");
    let asked = ["--sbom=true", "--provenance=mode=max", "-o"];
    build(&docker, &context, &[&asked[..], &[&format!("type=local,{dest}")]].concat()).await;
    let said =
        ["provenance.json", "sbom-context.spdx.json", "sbom-tools.spdx.json", "sbom.spdx.json"];
    let mut expected = [&built[..], &said[..]].concat();
    expected.sort_unstable();
    assert_eq!(names(&files), expected);
    let provenance = read(&files.join("provenance.json"));
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v0.2");
    is_about(&provenance, &files, &["bin/tool", "made", "var/lib/dpkg/status"]);
    assert_eq!(packages(&files, "sbom.spdx.json"), ["bash"]);
    assert_eq!(packages(&files, "sbom-tools.spdx.json"), ["Flask"]);
    assert_eq!(packages(&files, "sbom-context.spdx.json"), ["Flask", "left"]);

    // A client's values go before those of the Dockerfile.
    let (archive, dest) = to("files.tar");
    let output = format!("type=tar,attestation-prefix=x-,{dest}");
    let none = "BUILDKIT_SBOM_SCAN_CONTEXT=false";
    let words = ["--build-arg", none, "--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=other"];
    build(&docker, &context, &[&words[..], &["--sbom=true", "-o", &output]].concat()).await;
    let listed = Command::new("tar").arg("-tf").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let said: Vec<_> = listed.lines().filter(|line| line.ends_with(".json")).collect();
    assert_eq!(said, ["x-sbom.spdx.json"], "{listed}");

    // Of several platforms each has its own, in the directory of its files.
    let several = ["--platform", "linux/amd64,linux/arm64", "--provenance=true", "-o"];
    context.write("Dockerfile", "FROM scratch\nCOPY tools/tool /\n");
    let (files, dest) = to("several");
    build(&docker, &context, &[&several[..], &[&format!("type=local,{dest}")]].concat()).await;
    assert_eq!(names(&files), ["linux_amd64", "linux_arm64"]);
    for name in names(&files) {
        assert_eq!(names(&files.join(&name)), ["provenance.json", "tool"], "{name}");
        is_about(&read(&files.join(&name).join("provenance.json")), &files.join(&name), &["tool"]);
    }
    let (archive, dest) = to("several.tar");
    build(&docker, &context, &[&several[..], &[&format!("type=tar,{dest}")]].concat()).await;
    let member = "linux_arm64/provenance.json";
    let read = Command::new("tar").arg("-xOf").arg(&archive).arg(member).output().unwrap();
    let statement: Value = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(statement["subject"][0]["name"], "tool", "{statement}");
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}

/// One statement for each tree that it is shown.
const SCAN: &str = r#"set -e
for tree in "$BUILDKIT_SCAN_SOURCE" ${BUILDKIT_SCAN_SOURCE_EXTRAS:+"$BUILDKIT_SCAN_SOURCE_EXTRAS"/*}; do
  printf '{"predicateType":"https://spdx.dev/Document","predicate":{"name":"%s"}}' "$(ls "$tree" | tr '\n' ' ')" \
    >"$BUILDKIT_SCAN_DESTINATION/$(basename "$tree").spdx.json"
done
"#;

#[tokio::test]
async fn a_generator_sees_the_stages_and_the_context_that_a_dockerfile_wants_seen() {
    let (node, docker) = with_buildx().await;
    let scanner = [
        ("Dockerfile", "FROM busybox\nCOPY scan.sh /\nCMD [\"sh\", \"/scan.sh\"]\n"),
        ("scan.sh", SCAN),
    ];
    let scanner = Context::new(&node, "scanner", &scanner);
    build(&docker, &scanner, &["-t", "scanner:v1"]).await;
    let context = Context::new(&node, "context", &FILES);
    context.write(".dockerignore", "app\n");
    let files = node.home.join("files");
    let (output, by) =
        (format!("type=local,dest={}", files.display()), "--attest=type=sbom,generator=scanner:v1");
    let context_only = ["--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=0"];
    let seen = |file: &str| {
        read(&files.join(file))["predicate"]["name"].as_str().unwrap().trim().to_owned()
    };
    build(&docker, &context, &[by, "-o", &output]).await;
    assert_eq!(seen("sbom.spdx.json"), "bin made var");
    assert!(seen("sbom-tools.spdx.json").contains("tool"), "{}", seen("sbom-tools.spdx.json"));
    let of_context = seen("sbom-context.spdx.json");
    assert!(of_context.contains("root tools") && !of_context.contains("app"), "{of_context}");

    std::fs::remove_dir_all(&files).unwrap();
    build(&docker, &context, &[&context_only[..], &[by, "-o", &output]].concat()).await;
    assert!(files.join("sbom-context.spdx.json").exists());
    assert!(!files.join("sbom-tools.spdx.json").exists());
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
