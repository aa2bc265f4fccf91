//! Compiles `api.proto` and `nri.proto` with a compiler written in Rust, so that a build needs no `protoc`.

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
    Ok(())
}
