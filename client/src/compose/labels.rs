//! What docker compose writes on what it makes, and knows it by again.

pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
pub(super) const NUMBER: &str = "com.docker.compose.container-number";
pub(super) const HASH: &str = "com.docker.compose.config-hash";
pub(super) const ONE_OFF: &str = "com.docker.compose.oneoff";
pub(super) const BUILDER: &str = "com.docker.compose.image.builder";
pub(super) const SLUG: &str = "com.docker.compose.slug";
pub(super) const VERSION: &str = "com.docker.compose.version";
pub(super) const IMAGE: &str = "com.docker.compose.image";
pub(super) const DEPENDS_ON: &str = "com.docker.compose.depends_on";
pub(super) const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
pub(super) const FILES: &str = "com.docker.compose.project.config_files";
pub(super) const REPLACES: &str = "com.docker.compose.replace";
pub(super) const NETWORK: &str = "com.docker.compose.network";
pub(super) const VOLUME: &str = "com.docker.compose.volume";

/// The version whose ways these are.
pub(super) const LIKE: &str = "2.40.3";

/// The daemon's own: it shows the container to CRI's clients, as a pod in this namespace.
pub(super) const CRI_NAMESPACE: &str = "cais.cri.namespace";
