//! Registries as they are outside of tests: HTTPS with certificates of one's own, passwords, and tokens.
//!
//! Each is Debian's `docker-registry` over the data of `hack/registry`, read-only. The certificates are made with `openssl`,
//! and so are the tokens, by a token server of the test: the registry verifies them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cais_proto::runtime::v1::AuthConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tonic::Code;

use crate::network::free_port;
use crate::node::Node;
use crate::wait::until;

const IMAGE: &str = "library/busybox:latest";
pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "correct horse: battery";
const REFRESH: &str = "a-refresh-token";

/// Runs a program that must succeed; what it wrote to standard output.
fn run(program: &str, words: &[&str]) -> Vec<u8> {
    let done = Command::new(program).args(words).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {words:?}: {said}");
    done.stdout
}

/// A certificate authority with a certificate for the server and one for a client.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    pub(crate) fn make(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let made = Self(directory.to_owned());
        let key = made.path("ca.key");
        let subject =
            ["-subj", "/CN=a test authority", "-days", "2", "-nodes", "-newkey", "rsa:2048"];
        let out = ["-keyout", &key, "-out", &made.path("ca.crt")];
        run("openssl", &[&["req", "-x509"][..], &subject, &out].concat());
        made.sign("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth");
        made.sign("client", "extendedKeyUsage=clientAuth");
        made
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn sign(&self, name: &str, extensions: &str) {
        let [key, request, certificate, extra] =
            ["key", "csr", "crt", "ext"].map(|ending| self.path(&format!("{name}.{ending}")));
        fs::write(&extra, extensions).unwrap();
        let subject = format!("/CN={name}");
        let words = ["req", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", &subject];
        run("openssl", &[&words[..], &["-keyout", &key, "-out", &request]].concat());
        let authority = [self.path("ca.crt"), self.path("ca.key")];
        let words =
            ["x509", "-req", "-in", &request, "-CA", &authority[0], "-CAkey", &authority[1]];
        let more = ["-CAcreateserial", "-days", "2", "-extfile", &extra, "-out", &certificate];
        run("openssl", &[&words[..], &more].concat());
    }
}

pub(crate) struct SecureRegistry {
    pub(crate) address: String,
    certificates: Certificates,
    process: Child,
}

impl SecureRegistry {
    /// `tls` and `auth` are the sections of its configuration that differ.
    async fn start(node: &Node, tls: &str, auth: &str) -> Self {
        let home = std::env::var("CAIS_REGISTRY_HOME").expect("run hack/e2e");
        let storage = format!(
            "filesystem: {{rootdirectory: {home}/data}}\n\
             \x20 maintenance: {{readonly: {{enabled: true}}, uploadpurging: {{enabled: false}}}}"
        );
        let tls = format!("\n  tls: {{certificate: DIR/server.crt, key: DIR/server.key{tls}}}");
        Self::start_over(node, &storage, &tls, auth).await
    }

    /// An empty one that can be pushed to, with TLS or without.
    pub(crate) async fn start_empty(node: &Node, has_tls: bool, auth: &str) -> Self {
        let data = node.home.join("pushed");
        let storage = format!("filesystem: {{rootdirectory: {}}}", data.display());
        let tls = "\n  tls: {certificate: DIR/server.crt, key: DIR/server.key}";
        Self::start_over(node, &storage, if has_tls { tls } else { "" }, auth).await
    }

    async fn start_over(node: &Node, storage: &str, tls: &str, auth: &str) -> Self {
        let certificates = Certificates::make(&node.home.join("certificates"));
        let address = format!("127.0.0.1:{}", free_port().await);
        let home = std::env::var("CAIS_REGISTRY_HOME").expect("run hack/e2e");
        let directory = certificates.0.display();
        let (tls, auth) = (
            tls.replace("DIR", &directory.to_string()),
            auth.replace("DIR", &directory.to_string()),
        );
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage:\n  {storage}\nhttp:\n  addr: \"{address}\"{tls}\n{auth}\n"
        );
        let file = node.home.join("registry.yml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(node.home.join("registry.log")).unwrap();
        let process = Command::new(format!("{home}/deb/usr/bin/docker-registry"))
            .args(["serve".as_ref(), file.as_os_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry");
        let registry = Self { address, certificates, process };
        until("the registry to listen", async || {
            tokio::net::TcpStream::connect(&registry.address).await.is_ok()
        })
        .await;
        registry
    }

    fn image(&self) -> String {
        format!("{}/{IMAGE}", self.address)
    }

    /// What `hosts.toml` says beside the address.
    pub(crate) fn known_to(&self, node: &Node, more: &str) {
        let more = more.replace("DIR", self.certificates.0.to_str().unwrap());
        node.write_hosts(
            &self.address,
            &format!("server = \"https://{}\"\n{more}\n", self.address),
        );
    }
}

impl Drop for SecureRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The pull must fail with this code and name these things.
async fn refused(
    node: &Node,
    registry: &SecureRegistry,
    auth: Option<AuthConfig>,
    code: Code,
    parts: &[&str],
) {
    let error = node.pull_as(&registry.image(), auth).await.unwrap_err();
    assert_eq!(error.code(), code, "{error:?}");
    let message = error.message().to_lowercase();
    assert!(message.contains(&registry.address), "{error:?}");
    for part in parts {
        assert!(message.contains(part), "{part}: {error:?}");
    }
    assert!(node.all_images().await.is_empty());
    for secret in [PASSWORD, REFRESH] {
        assert!(!message.contains(secret) && !node.log().contains(secret), "a secret was shown");
    }
}

async fn accepted(node: &Node, registry: &SecureRegistry, auth: Option<AuthConfig>) {
    let pulled = node.pull_as(&registry.image(), auth).await;
    pulled.unwrap_or_else(|error| panic!("{error:?}"));
    let image = node.image(&registry.image()).await.unwrap();
    node.remove_image(&image.id).await;
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_the_certificate_named_until_it_is_trusted() {
    let node = Node::boot().await;
    let registry = SecureRegistry::start(&node, "", "").await;
    registry.known_to(&node, "");
    refused(&node, &registry, None, Code::Unavailable, &["certificate"]).await;
    registry.known_to(&node, "ca = \"DIR/ca.crt\"");
    accepted(&node, &registry, None).await;
    // Another authority of the same name is another authority.
    Certificates::make(&node.home.join("others"));
    let others = node.home.join("others/ca.crt");
    registry.known_to(&node, &format!("ca = \"{}\"", others.display()));
    refused(&node, &registry, None, Code::Unavailable, &["certificate"]).await;
}

#[tokio::test]
async fn verification_is_skipped_where_the_operator_says_so() {
    let node = Node::boot().await;
    let registry = SecureRegistry::start(&node, "", "").await;
    registry.known_to(&node, "skip_verify = true");
    accepted(&node, &registry, None).await;
}

#[tokio::test]
async fn a_registry_that_wants_a_client_certificate_gets_ours() {
    let node = Node::boot().await;
    let registry = SecureRegistry::start(&node, ", clientcas: [DIR/ca.crt]", "").await;
    registry.known_to(&node, "ca = \"DIR/ca.crt\"");
    // With TLS 1.3 the server's alert may be lost behind the broken connection.
    refused(&node, &registry, None, Code::Unavailable, &[]).await;
    registry.known_to(
        &node,
        "ca = \"DIR/ca.crt\"\nclient = [[\"DIR/client.crt\", \"DIR/client.key\"]]",
    );
    accepted(&node, &registry, None).await;
    registry
        .known_to(&node, "ca = \"DIR/ca.crt\"\nclient = [[\"DIR/none.crt\", \"DIR/none.key\"]]");
    let error = node.try_pull(&registry.image()).await.unwrap_err();
    assert!(error.message().contains("none.crt"), "{error:?}");
}

/// As `htpasswd -B` writes it. The salt is fixed: it guards nothing here.
pub(crate) fn write_htpasswd(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let script = r#"print crypt($ARGV[0], '$2b$05$abcdefghijklmnopqrstuu')"#;
    let hash = run("perl", &["-e", script, PASSWORD]);
    let hash = String::from_utf8(hash).unwrap().replacen("$2b$", "$2y$", 1);
    assert!(hash.starts_with("$2y$05$"), "{hash}");
    fs::write(directory.join("htpasswd"), format!("{USER}:{hash}\n")).unwrap();
}

fn by_password(password: &str) -> AuthConfig {
    AuthConfig { username: USER.to_owned(), password: password.to_owned(), ..Default::default() }
}

fn by_auth(password: &str) -> AuthConfig {
    AuthConfig { auth: STANDARD.encode(format!("{USER}:{password}")), ..Default::default() }
}

#[tokio::test]
async fn a_password_opens_a_registry_with_basic_authentication_in_both_its_forms() {
    let node = Node::boot().await;
    write_htpasswd(&node.home.join("certificates"));
    let auth = "auth:\n  htpasswd: {realm: test, path: DIR/htpasswd}";
    let registry = SecureRegistry::start(&node, "", auth).await;
    registry.known_to(&node, "ca = \"DIR/ca.crt\"");
    let denied = Code::Unauthenticated;
    refused(&node, &registry, None, denied, &["401"]).await;
    refused(&node, &registry, Some(by_password("wrong")), denied, &["401"]).await;
    refused(&node, &registry, Some(by_auth("wrong")), denied, &["401"]).await;
    accepted(&node, &registry, Some(by_password(PASSWORD))).await;
    accepted(&node, &registry, Some(by_auth(PASSWORD))).await;
    // Credentials for somebody else stay where they are.
    let elsewhere =
        AuthConfig { server_address: "other.example".to_owned(), ..by_password(PASSWORD) };
    refused(&node, &registry, Some(elsewhere), denied, &["401"]).await;
}

/// Gives those who show a password or the refresh token what they ask for, signed as the registry wants it.
pub(crate) struct TokenServer {
    /// Of the TLS end: a password is shown to nobody who could be anybody.
    address: String,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    tls: Option<Child>,
}

impl TokenServer {
    /// With an empty registry that takes its tokens, for pushes.
    pub(crate) async fn start_with_registry(node: &Node) -> (Self, SecureRegistry) {
        let mut server = Self::start(node.home.join("certificates")).await;
        let port = free_port().await;
        let registry = SecureRegistry::start_empty(node, true, &token_section(port)).await;
        server.secure(port, &registry.certificates).await;
        (server, registry)
    }

    async fn start(certificates: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, certificates) = (Arc::clone(&seen), certificates.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let request = read_request(&mut stream).await;
                    let answer = answer(&request, &certificates);
                    seen.lock().unwrap().push(request);
                    let (status, body) = match answer {
                        Some(token) => ("200 OK", json!({"token": token, "access_token": token})),
                        None => ("401 Unauthorized", json!({"details": "who are you?"})),
                    };
                    let body = body.to_string();
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
                         Content-Length: {}\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all((head + &body).as_bytes()).await;
                });
            }
        });
        Self { address, requests, tls: None }
    }

    /// Speaks TLS from now on, with the certificate of the registry.
    async fn secure(&mut self, port: u16, certificates: &Certificates) {
        let [certificate, key] = ["server.crt", "server.key"].map(|name| certificates.path(name));
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={certificate},key={key}"
        );
        let to = format!("TCP:{}", self.address);
        let tls = Command::new("socat").args([listen, to]).process_group(0).spawn();
        self.tls = Some(tls.expect("socat"));
        self.address = format!("127.0.0.1:{port}");
        until("TLS", async || tokio::net::TcpStream::connect(&self.address).await.is_ok()).await;
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        let Some(tls) = self.tls.as_mut() else { return };
        // With what it started for each client.
        let group = i32::try_from(tls.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = tls.wait();
    }
}

/// The request line, the `authorization` header and the body, a line each.
async fn read_request(stream: &mut BufReader<tokio::net::TcpStream>) -> String {
    let mut request = String::new();
    let _ = stream.read_line(&mut request).await;
    let (mut length, mut line) = (0, String::new());
    while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
        let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "authorization" => request.push_str(&format!("{value}\n")),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
        line.clear();
    }
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body).await;
    request + &String::from_utf8_lossy(&body)
}

fn answer(request: &str, certificates: &Path) -> Option<String> {
    let basic = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let is_known = request.contains(&format!("Basic {basic}"))
        || request.contains("grant_type=refresh_token") && request.contains(REFRESH);
    is_known.then(|| token(certificates, &scopes(request)))
}

/// What is asked for, in the query or in the body: `repository:library/busybox:pull`.
fn scopes(request: &str) -> Vec<String> {
    let query = request.split(['?', ' ', '\n']).nth(2).unwrap_or_default();
    let body = request.lines().last().unwrap_or_default();
    let pairs = [query, body].into_iter().flat_map(|text| form_urlencoded::parse(text.as_bytes()));
    let scopes = pairs.filter(|(key, _)| key == "scope").map(|(_, value)| value.into_owned());
    scopes.flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A section of the registry's configuration.
fn token_section(port: u16) -> String {
    format!(
        "auth:\n  token: {{realm: \"https://127.0.0.1:{port}/token\", service: registry, \
         issuer: a test, rootcertbundle: DIR/ca.crt}}"
    )
}

/// A JSON web token that lets its bearer do these things.
fn token(certificates: &Path, scopes: &[String]) -> String {
    let access = scopes.iter().filter_map(|scope| {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions: Vec<&str> = actions.split(',').collect();
        Some(json!({"type": kind, "name": name, "actions": actions}))
    });
    let access: Vec<Value> = access.collect();
    let certificate = fs::read_to_string(certificates.join("server.crt")).unwrap();
    let begin = certificate.find("-----BEGIN").unwrap();
    let lines = certificate[begin..].lines().skip(1).take_while(|line| !line.starts_with('-'));
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [lines.collect::<String>()]});
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": "a test", "sub": USER, "aud": "registry", "jti": "1",
        "iat": now - 10, "nbf": now - 10, "exp": now + 600,
        "access": access,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let name = format!("token-{:?}", std::thread::current().id());
    let [text, signature] = ["txt", "sig"].map(|end| certificates.join(format!("{name}.{end}")));
    fs::write(&text, &signed).unwrap();
    let (key, text) = (certificates.join("server.key"), text.to_str().unwrap().to_owned());
    let out = signature.to_str().unwrap();
    run("openssl", &["dgst", "-sha256", "-sign", key.to_str().unwrap(), "-out", out, &text]);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fs::read(&signature).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_a_registry_for_all_four_kinds_of_credentials() {
    let node = Node::boot().await;
    let directory = node.home.join("certificates");
    let mut server = TokenServer::start(directory.clone()).await;
    let port = free_port().await;
    let registry = SecureRegistry::start(&node, "", &token_section(port)).await;
    server.secure(port, &registry.certificates).await;
    registry.known_to(&node, "ca = \"DIR/ca.crt\"");
    let denied = Code::Unauthenticated;
    refused(&node, &registry, None, denied, &["401"]).await;
    refused(&node, &registry, Some(by_password("wrong")), denied, &["401"]).await;

    accepted(&node, &registry, Some(by_password(PASSWORD))).await;
    accepted(&node, &registry, Some(by_auth(PASSWORD))).await;
    let asked = server.requests.lock().unwrap().join("\n");
    assert!(asked.contains("service=registry"), "{asked}");
    assert!(
        asked.contains("repository%3Alibrary%2Fbusybox%3Apull")
            || asked.contains("repository:library/busybox:pull"),
        "{asked}"
    );

    let identity =
        |token: &str| AuthConfig { identity_token: token.to_owned(), ..Default::default() };
    refused(&node, &registry, Some(identity("stale")), denied, &["401"]).await;
    accepted(&node, &registry, Some(identity(REFRESH))).await;

    let before = server.requests.lock().unwrap().len();
    let bearer = |token: String| AuthConfig { registry_token: token, ..Default::default() };
    refused(&node, &registry, Some(bearer("not.a.token".to_owned())), denied, &["401"]).await;
    accepted(
        &node,
        &registry,
        Some(bearer(token(&directory, &["repository:library/busybox:pull".to_owned()]))),
    )
    .await;
    let after = server.requests.lock().unwrap().len();
    assert_eq!(before, after, "a bearer token is shown to the registry itself, and to nobody else");
}
