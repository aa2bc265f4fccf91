//! Containers of a pod, their exits, logs and commands.

use std::fs;
use std::path::PathBuf;

use cais_proto::runtime::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption,
    RemoveContainerRequest, ReopenContainerLogRequest, StartContainerRequest, StopContainerRequest,
};
use tonic::Status;

use super::pod::Pod;
use super::{BUSYBOX, Node, named};
use crate::wait::{LONG, eventually, until};

pub(crate) struct Builder<'n, 'p> {
    pod: &'p Pod<'n>,
    config: ContainerConfig,
}

pub(crate) struct Container<'n> {
    pub(crate) node: &'n Node,
    pub(crate) id: String,
    pub(super) log: PathBuf,
}

pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) status: ContainerStatus,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) stream: String,
    /// The line goes on in the next entry of its stream.
    pub(crate) partial: bool,
    pub(crate) text: String,
}

impl<'n, 'p> Builder<'n, 'p> {
    pub(super) fn new(pod: &'p Pod<'n>, name: &str) -> Self {
        let options =
            NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(named(BUSYBOX)),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                resources: None,
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        };
        Self { pod, config }
    }

    /// Changes the request freely.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut ContainerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn image(self, image: &str) -> Self {
        self.with(|config| config.image = Some(named(image)))
    }

    pub(crate) fn command<const N: usize>(self, words: [&str; N]) -> Self {
        self.with(|config| config.command = words.map(str::to_owned).to_vec())
    }

    pub(crate) fn shell(self, script: &str) -> Self {
        self.command(["sh", "-c", script])
    }

    pub(crate) fn env(self, key: &str, value: &str) -> Self {
        let pair = KeyValue { key: key.to_owned(), value: value.into() };
        self.with(|config| config.envs.push(pair))
    }

    pub(crate) fn security(self, change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> Self {
        self.with(|config| {
            let linux = config.linux.get_or_insert_default();
            change(linux.security_context.get_or_insert_default());
        })
    }

    pub(crate) fn resources(self, change: impl FnOnce(&mut LinuxContainerResources)) -> Self {
        self.with(|config| {
            let linux = config.linux.get_or_insert_default();
            change(linux.resources.get_or_insert_default());
        })
    }

    pub(crate) fn memory_limit_mib(self, mib: i64) -> Self {
        self.resources(|resources| resources.memory_limit_in_bytes = mib << 20)
    }

    pub(crate) fn request(self) -> ContainerConfig {
        self.config
    }

    /// Creates without starting. Pulls the image first when the node lacks it.
    pub(crate) async fn try_create(self) -> Result<Container<'n>, Status> {
        let image = self.config.image.clone().unwrap_or_default().image;
        if !image.is_empty() && self.pod.node.image(&image).await.is_none() {
            self.pod.node.pull(&image).await;
        }
        self.try_create_at_once().await
    }

    /// The one call, of an image that is there.
    pub(crate) async fn try_create_at_once(self) -> Result<Container<'n>, Status> {
        let Self { pod, config } = self;
        let log = pod.log_directory().join(&config.log_path);
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let reply = pod.node.runtime().create_container(request).await?;
        Ok(Container { node: pod.node, id: reply.into_inner().container_id, log })
    }

    pub(crate) async fn create(self) -> Container<'n> {
        self.try_create().await.unwrap_or_else(|error| panic!("CreateContainer: {error:?}"))
    }

    pub(crate) async fn start(self) -> Container<'n> {
        let container = self.create().await;
        container.start().await.unwrap_or_else(|error| panic!("StartContainer: {error:?}"));
        container
    }

    /// Starts it, waits for its end, and returns what it wrote to standard output.
    pub(crate) async fn output(self) -> String {
        let container = self.start().await;
        let exit = container.wait_exit().await;
        let output = container.output();
        assert_eq!(exit.code, 0, "{output} {:?}", container.logs());
        output
    }
}

impl Container<'_> {
    pub(crate) async fn start(&self) -> Result<(), Status> {
        let request = StartContainerRequest { container_id: self.id.clone() };
        self.node.runtime().start_container(request).await.map(|_| ())
    }

    pub(crate) async fn try_stop(&self, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: self.id.clone(), timeout };
        self.node.runtime().stop_container(request).await.map(|_| ())
    }

    pub(crate) async fn stop(&self, timeout: i64) {
        self.try_stop(timeout).await.unwrap_or_else(|error| panic!("StopContainer: {error:?}"));
    }

    pub(crate) async fn try_remove(&self) -> Result<(), Status> {
        let request = RemoveContainerRequest { container_id: self.id.clone() };
        self.node.runtime().remove_container(request).await.map(|_| ())
    }

    pub(crate) async fn remove(&self) {
        self.try_remove().await.unwrap_or_else(|error| panic!("RemoveContainer: {error:?}"));
    }

    pub(crate) async fn try_status(&self) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        let reply = self.node.runtime().container_status(request).await?;
        Ok(reply.into_inner().status.expect("a status"))
    }

    pub(crate) async fn status(&self) -> ContainerStatus {
        self.try_status().await.unwrap_or_else(|error| panic!("ContainerStatus: {error:?}"))
    }

    pub(crate) async fn state(&self) -> ContainerState {
        self.status().await.state()
    }

    pub(crate) async fn wait_exit(&self) -> Exit {
        eventually("the container's exit", LONG, async || {
            let status = self.status().await;
            (status.state() == ContainerState::ContainerExited).then(|| Exit {
                code: status.exit_code,
                reason: status.reason.clone(),
                status,
            })
        })
        .await
    }

    pub(crate) async fn try_exec(
        &self,
        words: &[&str],
        timeout: i64,
    ) -> Result<ExecSyncResponse, Status> {
        let request = ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: words.iter().map(|&word| word.to_owned()).collect(),
            timeout,
        };
        self.node.runtime().exec_sync(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn exec(&self, words: &[&str]) -> ExecSyncResponse {
        self.try_exec(words, 20).await.unwrap_or_else(|error| panic!("ExecSync: {error:?}"))
    }

    /// Runs a script inside; its standard output without the last newline. It must succeed.
    pub(crate) async fn shell(&self, script: &str) -> String {
        let done = self.exec(&["sh", "-c", script]).await;
        let error = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.exit_code, 0, "{script}: {error}");
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    pub(crate) async fn reopen_log(&self) {
        let request = ReopenContainerLogRequest { container_id: self.id.clone() };
        let reopened = self.node.runtime().reopen_container_log(request).await;
        reopened.unwrap_or_else(|error| panic!("ReopenContainerLog: {error:?}"));
    }

    pub(crate) fn logs(&self) -> Vec<LogLine> {
        parse_log(&fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// What it wrote to standard output, with partial entries joined.
    pub(crate) fn output(&self) -> String {
        joined(&self.logs(), "stdout")
    }

    pub(crate) async fn wait_output(&self, text: &str) {
        until(&format!("{text:?} in the log"), async || self.output().contains(text)).await;
    }
}

/// Entries look like `2026-01-02T03:04:05.123456789Z stdout F text`. A last entry that is not complete yet is left out.
pub(crate) fn parse_log(text: &str) -> Vec<LogLine> {
    // Not `lines`, which would take a carriage return for a part of the line's end.
    let complete = text.rfind('\n').map(|end| &text[..end]);
    complete.iter().flat_map(|entries| entries.split('\n')).map(parse_entry).collect()
}

fn parse_entry(entry: &str) -> LogLine {
    let mut fields = entry.splitn(4, ' ');
    let mut field = || fields.next().unwrap_or_else(|| panic!("log entry {entry:?}"));
    let (time, stream, tag, text) = (field(), field(), field(), field());
    time.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("time {time:?}: {error}"));
    let partial = match tag {
        "F" => false,
        "P" => true,
        tag => panic!("tag {tag:?} in log entry {entry:?}"),
    };
    LogLine { stream: stream.to_owned(), partial, text: text.to_owned() }
}

pub(crate) fn joined(lines: &[LogLine], stream: &str) -> String {
    let of_stream = lines.iter().filter(|line| line.stream == stream);
    of_stream.map(|line| line.text.clone() + if line.partial { "" } else { "\n" }).collect()
}
