//! Compiles the `.proto` files with a compiler written in Rust, so that a build needs no `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=api.proto");
    let descriptors = protox::compile(["api.proto"], ["."])?;
    tonic_prost_build::configure()
        // Holds secrets; lib.rs gives it a Debug form that can be logged.
        .skip_debug([".runtime.v1.AuthConfig"])
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=nri.proto");
    let descriptors = protox::compile(["nri.proto"], ["."])?;
    tonic_prost_build::configure()
        // Its calls are ttrpc, not gRPC: only the messages are of use.
        .build_client(false)
        .build_server(false)
        // Maps in a fixed order: what plugins are told, and conflicts that are reported, repeat.
        .btree_map(".")
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=buildkit");
    let names = ["control", "frontend", "filesync", "secrets", "ssh", "upload", "content"];
    let files = names.map(|name| format!("buildkit/{name}.proto"));
    tonic_prost_build::configure()
        // These hold secrets; lib.rs gives them a Debug form that can be logged.
        .skip_debug([
            ".moby.filesync.v1.CredentialsResponse",
            ".moby.buildkit.secrets.v1.GetSecretResponse",
        ])
        .bytes(".moby.buildkit.v1.BytesMessage")
        .bytes(".moby.filesync.v1")
        .bytes(".moby.sshforward.v1")
        .bytes(".moby.upload.v1")
        .bytes(".containerd.services.content.v1")
        // Every warning has the whole Dockerfile with it.
        .bytes(".moby.buildkit.v1.SourceInfo")
        .btree_map(".")
        .compile_fds(protox::compile(files, ["."])?)?;
    Ok(())
}
