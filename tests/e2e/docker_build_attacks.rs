//! Builds of Dockerfiles, contexts and images that mean harm.

use std::fs;
use std::process::Command;

use crate::docker_build::{Context, left, try_build};
use crate::docker_buildx;
use crate::wait::until;

/// Runs a script in the context's directory.
fn sh(context: &Context, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(&context.0).status();
    assert!(status.unwrap().success(), "{script}");
}

#[tokio::test]
async fn docker_build_stops_at_what_is_too_much() {
    let (node, docker) = docker_buildx::with_buildx().await;
    // 80 MiB from 80 KiB, as a member of an archive and as the archive itself.
    let context =
        Context::new(&node, "bomb", &[("Dockerfile", "FROM busybox\nADD bomb.tar.gz /\n")]);
    sh(&context, "truncate -s 80M zeros; tar -cf - zeros | gzip > bomb.tar.gz; rm zeros");
    let bomb = fs::read(context.0.join("bomb.tar.gz")).unwrap();
    assert!(bomb.len() < 1 << 20);
    let classic = try_build(&docker, &context, &[]).await;
    assert!(classic.code != 0 && classic.stderr.contains("decompression bomb"), "{classic:?}");
    let said = docker_buildx::refused(&docker, &context, &[]).await;
    assert!(said.contains("decompression bomb"), "{said}");
    let sent = docker.try_run_with(&["build", "-"], &bomb).await;
    assert!(sent.code != 0 && sent.stderr.contains("decompression bomb"), "{sent:?}");

    // More than a Dockerfile may be, and one line that is as long as one may be.
    for (length, expected) in
        [(5 << 20, "larger than 4194304 bytes"), (4_000_000, "greater than max allowed size")]
    {
        let text = format!("FROM busybox\nRUNN {}\n", "x ".repeat(length / 2));
        context.write("Dockerfile", &text);
        let done = try_build(&docker, &context, &[]).await;
        // It is not all shown when it is another one.
        let start = done.stderr.get(..500).unwrap_or(&done.stderr);
        assert!(done.code != 0 && start.contains(expected), "{start}");
    }
    docker.run(&["builder", "prune", "-af"]).await;
    until("nothing to be left of a build", async || left(&node).is_empty()).await;
}
