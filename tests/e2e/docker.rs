//! The Docker door of a node, by the real docker client and by HTTP as other programs speak it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::node::Node;
use crate::wait::LONG;

pub(crate) struct Docker {
    socket: PathBuf,
    home: PathBuf,
    client: Client,
}

/// Which program is run under docker's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Docker,
    /// Of Debian 12, which speaks version 1.41 of the API and builds with the classic call.
    Docker2010,
    Cais,
}

impl Client {
    /// For those that are not found under the name.
    fn program(self) -> Option<PathBuf> {
        match self {
            Self::Docker => None,
            Self::Docker2010 => {
                let path = std::env::var("PATH").unwrap();
                let found =
                    path.split(':').map(|directory| Path::new(directory).join("docker-20.10"));
                Some(found.into_iter().find(|it| it.exists()).expect("run hack/docker-clients"))
            }
            Self::Cais => Some(crate::cais::cais()),
        }
    }
}

/// The tests of these names, by docker's client and by ours. They are functions that take which one it is.
macro_rules! by_both_clients {
    ($($name:ident),* $(,)?) => {
        mod by_docker {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::docker::Client::Docker).await;
            })*
        }
        mod by_cais {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::docker::Client::Cais).await;
            })*
        }
    };
}
pub(crate) use by_both_clients;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Node {
    /// By the client that `CAIS_E2E_CLIENT` names, else docker's.
    pub(crate) fn docker(&self) -> Docker {
        let client = match std::env::var("CAIS_E2E_CLIENT").as_deref() {
            Ok("cais") => Client::Cais,
            Ok("docker-20.10") => Client::Docker2010,
            _ => Client::Docker,
        };
        let docker =
            Docker { socket: self.state.join("docker.sock"), home: self.home.clone(), client };
        docker.by(client)
    }
}

impl Docker {
    /// The same door by this client.
    pub(crate) fn by(mut self, client: Client) -> Self {
        self.client = client;
        let names = self.names();
        if let Some(program) = client.program()
            && !names.exists()
        {
            std::fs::create_dir(&names).unwrap();
            std::os::unix::fs::symlink(program, names.join("docker")).unwrap();
        }
        self
    }

    /// Where `docker` is another program.
    fn names(&self) -> PathBuf {
        self.home.join(format!("names-{:?}", self.client))
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The client, with nothing of this machine's settings.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        self.command_of("docker", words)
    }

    /// Another program, in which the client finds this door.
    pub(crate) fn command_of<S: AsRef<OsStr>>(&self, program: &str, words: &[S]) -> Command {
        let mut command = Command::new(program);
        if self.client != Client::Docker {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", self.names().display()));
        }
        command
            .args(words)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", self.home.join("docker-config"))
            .env_remove("CAIS_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) fn spawn<S: AsRef<OsStr>>(&self, words: &[S]) -> Child {
        self.command(words).stdin(Stdio::piped()).spawn().expect("docker: run hack/docker-clients")
    }

    /// Runs it to its end, whatever that is.
    pub(crate) async fn try_run(&self, words: &[&str]) -> Output {
        self.try_run_with(words, b"").await
    }

    /// As [`Docker::try_run`], with something on its standard input.
    pub(crate) async fn try_run_with(&self, words: &[&str], input: &[u8]) -> Output {
        let mut child = self.spawn(words);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end without having read all of it.
        tokio::spawn(async move { stdin.write_all(&input).await });
        output(child, &format!("docker {}", words.join(" "))).await
    }

    /// Runs it; it must succeed. What it wrote to standard output, without white space at its end.
    pub(crate) async fn run(&self, words: &[&str]) -> String {
        let done = self.try_run(words).await;
        assert_eq!(done.code, 0, "docker {}: {done:?}", words.join(" "));
        done.stdout.trim_end().to_owned()
    }

    /// Runs it; it must fail. What it wrote to standard error.
    pub(crate) async fn refused(&self, words: &[&str]) -> String {
        let done = self.try_run(words).await;
        assert_ne!(done.code, 0, "docker {}: {done:?}", words.join(" "));
        done.stderr.trim_end().to_owned()
    }

    /// What `docker inspect` prints, as one object.
    pub(crate) async fn inspect(&self, name: &str) -> Value {
        let text = self.run(&["inspect", name]).await;
        let mut list: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(list.len(), 1, "{text}");
        list.remove(0)
    }

    /// Removes every container that docker made, every volume and every network; what went wrong.
    pub(crate) async fn remove_all(&self) -> Vec<String> {
        let mut complaints = self.remove_containers().await;
        let listed = self.get("/volumes").await.json();
        for volume in listed["Volumes"].as_array().into_iter().flatten() {
            let path = format!("/volumes/{}", volume["Name"].as_str().unwrap_or_default());
            let reply = self.request(Method::DELETE, &path, None).await;
            if !reply.status.is_success() {
                complaints.push(format!("{path}: {reply:?}"));
            }
        }
        complaints
    }

    async fn remove_containers(&self) -> Vec<String> {
        let listed = self.get("/containers/json?all=1").await.json();
        let mut complaints = Vec::new();
        for container in listed.as_array().into_iter().flatten() {
            // A kubelet's are removed with their pods.
            if container["HostConfig"]["NetworkMode"] == "pod" {
                continue;
            }
            let id = container["Id"].as_str().unwrap_or_default();
            let path = format!("/containers/{id}?force=1&v=1");
            let reply = self.request(Method::DELETE, &path, None).await;
            if !reply.status.is_success() && reply.status != StatusCode::NOT_FOUND {
                complaints.push(format!("{path}: {reply:?}"));
            }
        }
        let listed = self.get("/networks?filters={%22type%22:[%22custom%22]}").await.json();
        for network in listed.as_array().into_iter().flatten() {
            let path = format!("/networks/{}", network["Id"].as_str().unwrap_or_default());
            let reply = self.request(Method::DELETE, &path, None).await;
            if !reply.status.is_success() {
                complaints.push(format!("{path}: {reply:?}"));
            }
        }
        complaints
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&str>) -> Reply {
        self.request(Method::POST, path, body).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<&str>) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header("Host", "docker");
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default().to_owned())));
        let exchange = async {
            let stream = UnixStream::connect(&self.socket).await.unwrap();
            let io = TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let response = sender.send_request(request.unwrap()).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply { status: head.status, headers: head.headers, body }
        };
        timeout(LONG, exchange).await.unwrap_or_else(|_| panic!("no reply to {path}"))
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Docker's form of an error.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

pub(crate) async fn output(child: Child, what: &str) -> Output {
    let ended = timeout(LONG, child.wait_with_output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{what} does not end")).unwrap();
    Output {
        code: ended.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    }
}
