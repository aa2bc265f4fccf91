//! Tests against a real daemon, a real registry and the real kernel. `hack/e2e` runs them, as root.
//!
//! Each test boots a node of its own (see [`node`]), speaks CRI to it as kubelet would, and names a promise. When the node is
//! dropped, everything it made must be gone. Nothing waits for a time: it waits for a condition, with a deadline.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "a test fails by panicking, its files need no crash safety, its futures no small size"
)]

mod bad_containers;
mod bad_images;
mod bad_input;
mod bad_requests;
mod build_lending;
mod cais;
mod cais_bodies;
mod cais_build;
mod cais_containers;
mod cais_files;
mod cais_images;
mod cais_output;
mod cais_terminal;
mod cdi;
mod cgroup_files;
mod checkpoint;
mod cni;
mod cni_checks;
mod compose;
mod compose_boot;
mod compose_clients;
mod compose_cri;
mod compose_flags;
mod compose_networks;
mod compose_rolling;
mod compose_watch;
mod cri_containers;
mod cri_exec;
mod cri_pods;
mod cri_user;
mod cri_users;
mod cutting;
mod damaged_state;
mod docker;
mod docker_archives;
mod docker_bake;
mod docker_build;
mod docker_build_attacks;
mod docker_build_cache;
mod docker_build_contexts;
mod docker_build_cuts;
mod docker_build_git;
mod docker_build_ssh;
mod docker_build_users;
mod docker_buildx;
mod docker_buildx_cache;
mod docker_buildx_calls;
mod docker_buildx_compression;
mod docker_buildx_index;
mod docker_buildx_remote;
mod docker_buildx_scan;
mod docker_buildx_statements;
mod docker_commands;
mod docker_containers;
mod docker_devices;
mod docker_events;
mod docker_files;
mod docker_health;
mod docker_images;
mod docker_ipv6;
mod docker_making;
mod docker_misuse;
mod docker_names;
mod docker_networks;
mod docker_older_client;
mod docker_ports;
mod docker_prune;
mod docker_push;
mod docker_restarts;
mod docker_sharing;
mod docker_stats;
mod docker_system;
mod docker_tls;
mod docker_update;
mod docker_volumes;
mod docker_websocket;
mod events;
mod fake_registry;
mod faults_retry;
mod faults_stop;
mod faults_stuck;
mod image_volumes;
mod images;
mod lists;
mod logs;
mod metrics;
mod mounts;
mod network;
mod node;
mod nri;
mod oom;
mod pod_resources;
mod pulls;
mod pulls_killed;
mod resize;
mod resources;
mod restart;
mod restart_kills;
mod same_tree;
mod scale;
mod secure_registry;
mod soak;
mod stats;
mod streams;
mod wait;
