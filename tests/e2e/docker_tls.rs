//! The Docker door over TCP: who shows a certificate of the configured authority is let in, and nobody else.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::docker::{Docker, Output, output};
use crate::network::free_port;
use crate::node::Node;
use crate::secure_registry::Certificates;
use crate::wait::until;

/// A directory as `DOCKER_CERT_PATH` wants it, with the certificate of `client` for those who trust `server`.
fn cert_path(directory: PathBuf, server: &Certificates, client: &Certificates) -> PathBuf {
    std::fs::create_dir_all(&directory).unwrap();
    for (from, to) in [
        (server.path("ca.crt"), "ca.pem"),
        (client.path("client.crt"), "cert.pem"),
        (client.path("client.key"), "key.pem"),
    ] {
        std::fs::copy(from, directory.join(to)).unwrap();
    }
    directory
}

/// Somebody on the other side of the network.
struct Client<'a> {
    docker: &'a Docker,
    port: u16,
}

impl Client<'_> {
    /// Docker's client, or ours under its name.
    fn command(&self, program: &str, certificates: Option<&Path>, words: &[&str]) -> Command {
        let mut command = match program {
            "docker" => self.docker.command(words),
            _ => self.docker.cais_command(words),
        };
        command.env("DOCKER_HOST", format!("tcp://127.0.0.1:{}", self.port));
        if let Some(certificates) = certificates {
            command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", certificates);
        }
        command.stdin(Stdio::piped());
        command
    }

    async fn run(&self, program: &str, certificates: Option<&Path>, words: &[&str]) -> Output {
        let mut child = self.command(program, certificates, words).spawn().unwrap();
        let mut typed = child.stdin.take().unwrap();
        // It may end without having read it.
        let _ = typed.write_all(b"over the network\n").await;
        drop(typed);
        output(child, &format!("{program} {}", words.join(" "))).await
    }
}

/// Connections that the daemon has at a port (proc_pid_net(5)).
fn connections(port: u16) -> usize {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let local = format!(":{port:04X}");
    rows.filter(|row| row[1].ends_with(&local) && ![LISTEN, TIME_WAIT].contains(&row[3])).count()
}

#[tokio::test]
async fn docker_over_tcp_lets_in_who_shows_a_certificate() {
    let temp = tempfile::tempdir().unwrap();
    let ours = Certificates::make(&temp.path().join("ours"));
    let foreign = Certificates::make(&temp.path().join("foreign"));
    let port = free_port().await;
    let [ca, cert, key] = ["ca.crt", "server.crt", "server.key"].map(|name| ours.path(name));
    let section = format!(
        "[docker.tls]\naddress = \"127.0.0.1:{port}\"\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n"
    );
    let node = Node::boot_asking(&section).await;
    let docker = node.docker();
    docker.run(&["pull", "-q", "busybox"]).await;
    let client = Client { docker: &docker, port };
    let known = cert_path(temp.path().join("known"), &ours, &ours);
    let stranger = cert_path(temp.path().join("stranger"), &ours, &foreign);
    let misled = cert_path(temp.path().join("misled"), &foreign, &ours);

    for program in ["docker", "cais"] {
        // What is typed comes back, and its end arrives, though the client reads on.
        let echo = ["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo no >&2; exit 7"];
        let done = client.run(program, Some(&known), &echo).await;
        let expected = (7, "over the network\n", "no\n");
        assert_eq!((done.code, &*done.stdout, &*done.stderr), expected, "{program}");
        let many = ["run", "--rm", "busybox", "seq", "200000"];
        let done = client.run(program, Some(&known), &many).await;
        assert!(
            done.code == 0 && done.stdout.ends_with("\n200000\n"),
            "{program}: {}",
            done.stderr
        );
        assert_eq!(done.stdout.len(), 1_288_895, "{program}");

        for (certificates, words) in [
            (
                Some(&stranger),
                &["certificate required", "error decrypting message", "DecryptError"][..],
            ),
            // They are the ones to refuse: it could be anybody's daemon.
            (Some(&misled), &["certificate signed by unknown authority", "BadSignature"]),
            (None, &["Client sent an HTTP request to an HTTPS server"]),
        ] {
            let refused = client.run(program, certificates.map(|it| &**it), &["ps"]).await;
            assert_ne!(refused.code, 0, "{program}: {refused:?}");
            let is_told = words.iter().any(|words| refused.stderr.contains(words));
            assert!(is_told, "{program} {words:?}: {refused:?}");
        }
        // One that goes without a word is seen to be gone.
        let name = format!("quiet-{program}");
        docker.run(&["run", "-d", "--name", &name, "busybox", "sleep", "1000"]).await;
        until("the others to be gone", async || connections(port) == 0).await;
        let mut waiting = client.command(program, Some(&known), &["wait", &name]).spawn().unwrap();
        until("it to be there", async || connections(port) > 0).await;
        waiting.kill().await.unwrap();
        until("the daemon to have let it go", async || connections(port) == 0).await;
        docker.run(&["rm", "-f", &name]).await;
    }
    // Without a certificate, and without looking at the daemon's: docker alone can do the latter.
    let refused = client.run("docker", None, &["--tls", "--tlscacert", &ca, "ps"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("certificate required"), "{refused:?}");
    let [client_cert, client_key] = ["client.crt", "client.key"].map(|name| ours.path(name));
    let files = ["--tlscacert", &ca, "--tlscert", &client_cert, "--tlskey", &client_key];
    let words = [&["--tlsverify"], &files[..], &["images", "-q"]].concat();
    let by_flags = client.run("cais", None, &words).await;
    assert!(by_flags.code == 0 && by_flags.stdout.trim().len() == 12, "{by_flags:?}");
    // Those who say nothing hold up nobody.
    let silent: Vec<_> =
        (0..20).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert_eq!(client.run("cais", Some(&known), &["ps", "-q"]).await.code, 0);
    drop(silent);
}
