//! What is said of files in a container.

use serde::Serialize;

/// Goes base64-encoded into a header.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PathStat {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Go's `os.FileMode`.
    pub(crate) mode: u32,
    pub(crate) mtime: String,
    pub(crate) link_target: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Change {
    pub(crate) path: String,
    /// 0: modified, 1: added, 2: deleted.
    pub(crate) kind: u8,
}
