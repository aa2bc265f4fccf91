//! SBOMs by generators: images that are run over what was built.

use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::{build, refused, with_buildx};
use crate::docker_buildx_index::Names;

/// Says what it sees, in the form of an SBOM.
const SCANNER: &str = "\
FROM busybox
COPY scan.sh /
WORKDIR /work
USER 1000
ENV OWN=own
ENTRYPOINT [\"sh\", \"/scan.sh\"]
CMD [\"<<first\"]
";
const SCAN: &str = r#"set -e
touch /tmp/here
if touch "$BUILDKIT_SCAN_SOURCE/more" 2>/dev/null; then echo 'it can write' >&2; exit 1; fi
seen="$1 $(cat "$BUILDKIT_SCAN_SOURCE/file") $(ls "$BUILDKIT_SCAN_SOURCE" | wc -l) $(id -u) $(pwd) $OWN $BUILDKIT_SCAN_DEPTH"
printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"%s","predicate":{"name":"%s"}}' \
  "$(cat /kind 2>/dev/null || echo https://spdx.dev/Document)" "$seen" >"$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json"
"#;

#[tokio::test]
async fn buildx_has_images_scanned_by_a_generator() {
    let (node, docker) = with_buildx().await;
    let scanner = Context::new(&node, "scanner", &[("Dockerfile", SCANNER), ("scan.sh", SCAN)]);
    build(&docker, &scanner, &["-t", "scanner:v1"]).await;
    let files = [("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /file\n")];
    let context = Context::new(&node, "context", &files);
    context.write("amd64", "of-amd64");
    context.write("arm64", "of-arm64");
    let names = Names::new(&node).await;
    let name = names.name("scanned");
    let by = |image: &str| format!("type=sbom,generator={image},DEPTH=3");
    let scanned = by("scanner:v1");
    let both = ["--platform", "linux/amd64,linux/arm64", "--provenance=false"];
    let words = [&both[..], &["-t", &name, "--push", "--attest", &scanned]].concat();
    let said = build(&docker, &context, &words).await;
    assert!(said.contains("generating sbom using docker.io/library/scanner:v1"), "{said}");
    let index = names.raw(&name);
    for (place, architecture) in ["amd64", "arm64"].iter().enumerate() {
        let (image, about) = (&index["manifests"][place], &index["manifests"][place + 2]);
        assert_eq!(image["platform"]["architecture"], *architecture);
        assert_eq!(about["annotations"]["vnd.docker.reference.digest"], image["digest"]);
        let layers = &names.by_digest(&about["digest"])["layers"];
        let kind = &layers[0]["annotations"]["in-toto.io/predicate-type"];
        assert_eq!(kind, "https://spdx.dev/Document");
        let statement = names.blob(&layers[0]["digest"]);
        let subject = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
        assert!(image["digest"].as_str().unwrap().ends_with(subject), "{statement}");
        let expected = format!("<<first of-{architecture} 1 0 /work own 3");
        assert_eq!(statement["predicate"]["name"], expected.as_str(), "{statement}");
    }
    // The same over the same is not done again.
    let said = build(&docker, &context, &words).await;
    let run = said.lines().find(|line| line.contains("RUN --mount=type=tmpfs")).unwrap();
    let number = run.split(' ').next().unwrap();
    assert!(said.contains(&format!("{number} CACHED")), "{said}");

    scanner.write("wrong", "FROM scanner:v1\nUSER 0\nRUN echo https://x.io/p >/kind\n");
    scanner.write("none", "FROM scratch\nCOPY scan.sh /\n");
    scanner.write("fails", "FROM busybox\nENTRYPOINT [\"sh\", \"-c\", \"echo broken; exit 3\"]\n");
    for (file, expected) in [
        ("wrong", "https://x.io/p does not match required predicate type"),
        ("none", "does not have cmd"),
        ("fails", "exit code: 3"),
    ] {
        let image = format!("scanner:{file}");
        let dockerfile = scanner.0.join(file).display().to_string();
        build(&docker, &scanner, &["-f", &dockerfile, "-t", &image]).await;
        let said =
            refused(&docker, &context, &["-t", &name, "--push", "--attest", &by(&image)]).await;
        assert!(said.contains(expected), "{expected}: {said}");
    }
    docker.run(&["builder", "prune", "-af"]).await;
    nothing_left(&node).await;
}
