//! Commands in running containers.

use serde::{Deserialize, Serialize};

use super::nullable::or_default;
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own on the wire")]
pub(crate) struct CreateRequest {
    #[serde(deserialize_with = "or_default")]
    pub(crate) attach_stdin: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) attach_stdout: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) attach_stderr: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tty: bool,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) detach_keys: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) privileged: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    pub(crate) id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StartRequest {
    #[serde(deserialize_with = "or_default")]
    pub(crate) detach: bool,
    /// How output is to travel; the terminal itself was asked for before.
    #[serde(deserialize_with = "or_default")]
    pub(crate) tty: bool,
    /// Height and width.
    pub(crate) console_size: Option<(u16, u16)>,
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own on the wire")]
pub(crate) struct Details {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "Running")]
    pub(crate) running: bool,
    /// `null` until it has ended.
    #[serde(rename = "ExitCode")]
    pub(crate) exit_code: Option<i32>,
    #[serde(rename = "ProcessConfig")]
    pub(crate) process_config: ProcessConfig,
    #[serde(rename = "OpenStdin")]
    pub(crate) open_stdin: bool,
    #[serde(rename = "OpenStdout")]
    pub(crate) open_stdout: bool,
    #[serde(rename = "OpenStderr")]
    pub(crate) open_stderr: bool,
    #[serde(rename = "CanRemove")]
    pub(crate) can_remove: bool,
    #[serde(rename = "ContainerID")]
    pub(crate) container_id: String,
    #[serde(rename = "DetachKeys")]
    pub(crate) detach_keys: String,
    #[serde(rename = "Pid")]
    pub(crate) pid: i32,
}

#[derive(Serialize)]
pub(crate) struct ProcessConfig {
    pub(crate) tty: bool,
    pub(crate) entrypoint: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) privileged: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) user: String,
}
