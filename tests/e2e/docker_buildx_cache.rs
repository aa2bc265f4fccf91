//! Build caches elsewhere: written by one build, and taken up by another when nothing is kept here any more.

use std::fs;

use crate::docker::Docker;
use crate::docker_build::{Context, nothing_left};
use crate::docker_buildx::{build, number, refused, with_buildx};
use crate::secure_registry::SecureRegistry;

/// What is made differs with each making.
const RANDOM: &str = "\
FROM busybox AS tools
RUN cat /proc/sys/kernel/random/uuid > /tool
FROM busybox
WORKDIR /made/here
COPY a /
RUN cat /proc/sys/kernel/random/uuid > own && rm -r /home
COPY --link --from=tools /tool /tool
";

const OWN: [&str; 4] = [
    "[stage-1 2/5] WORKDIR /made/here",
    "[stage-1 3/5] COPY a /",
    "[stage-1 4/5] RUN cat /proc/sys/kernel/random/uuid > own && rm -r /home",
    "[stage-1 5/5] COPY --link --from=tools /tool /tool",
];
const TOOLS: &str = "[tools 2/2] RUN cat /proc/sys/kernel/random/uuid > /tool";

fn is_cached(said: &str, step: &str) -> bool {
    said.contains(&format!("{} CACHED", number(said, step)))
}

/// Nothing of what was built is here any more.
async fn forget(docker: &Docker, name: &str) {
    docker.run(&["rmi", "-f", name]).await;
    docker.run(&["builder", "prune", "-af"]).await;
}

#[tokio::test]
async fn buildx_takes_up_what_its_caches_elsewhere_have() {
    let (node, docker) = with_buildx().await;
    let context = Context::new(&node, "context", &[("Dockerfile", RANDOM), ("a", "A")]);
    let registry = SecureRegistry::start_empty(&node, false, "").await;
    node.write_hosts(&registry.address, &format!("server = \"http://{}\"\n", registry.address));
    let directory = node.home.join("cache").display().to_string();
    let name = format!("{}/cais/made:v1", registry.address);
    let at = |tag: &str| format!("type=registry,ref={}/cais/cache:{tag}", registry.address);
    let made = async || {
        let all = "cat /made/here/own /tool /a; ls -d /home 2>&1; stat -c %a /made";
        docker.run(&["run", "--rm", &name, "sh", "-c", all]).await
    };
    for (to, from, has_all) in [
        (
            format!("type=local,dest={directory},mode=max"),
            format!("type=local,src={directory}"),
            true,
        ),
        (format!("{},mode=min", at("min")), at("min"), false),
        (format!("{},mode=max", at("max")), at("max"), true),
        ("type=inline".to_owned(), name.clone(), false),
    ] {
        build(&docker, &context, &["--no-cache", "--cache-to", &to, "-t", &name, "--push"]).await;
        let expected = made().await;
        forget(&docker, &name).await;
        let said = build(&docker, &context, &["--cache-from", &from, "-t", &name]).await;
        assert!(OWN.iter().all(|step| is_cached(&said, step)), "{from}: {said}");
        assert_eq!(is_cached(&said, TOOLS), has_all, "{from}: {said}");
        assert_eq!(made().await, expected, "{from}");
        // It is here now, and not asked for again.
        let said = build(&docker, &context, &["-t", &name]).await;
        assert!(OWN.iter().all(|step| is_cached(&said, step)), "{from}: {said}");
        forget(&docker, &name).await;
    }
    // The client's own index names what was written.
    let index = fs::read_to_string(node.home.join("cache/index.json")).unwrap();
    assert!(index.contains("application/vnd.oci.image.manifest.v1+json"), "{index}");

    // What another file changes is made anew, and a cache that is not there is done without.
    context.write("a", "B");
    let words = ["--cache-from", &at("max"), "--cache-from", &at("none"), "-t", &name];
    let said = build(&docker, &context, &words).await;
    assert!(said.contains("importing cache manifest from") && said.contains("ERROR"), "{said}");
    let cached: Vec<bool> = OWN.iter().map(|step| is_cached(&said, step)).collect();
    assert_eq!((cached, is_cached(&said, TOOLS)), (vec![true, false, false, true], true), "{said}");
    let said = refused(&docker, &context, &["--cache-to", "type=azblob,name=x"]).await;
    assert!(said.contains("a build cache of type \"azblob\" is not supported yet"), "{said}");
    forget(&docker, &name).await;
    nothing_left(&node).await;
}
