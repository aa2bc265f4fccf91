//! Services replaced while they serve.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::compose::Project;
use crate::docker_containers::node;
use crate::network::free_port;
use crate::wait::{LONG, until};

/// What a server of HTTP says, to the end.
pub(crate) async fn asked(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Asks one request after the other, until it is told to end.
struct Load {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    asking: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(port: u16) -> Self {
        let (is_over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let failed = Arc::<Mutex<Vec<String>>>::default();
        let asking = (0..2).map(|_| {
            let (is_over, served, failed) = (is_over.clone(), served.clone(), failed.clone());
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_millis(2));
                while !is_over.load(Ordering::SeqCst) {
                    ticks.tick().await;
                    match timeout(LONG, asked(port)).await {
                        Ok(Ok(answer)) if answer.contains(" 200 ") => {
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        other => failed.lock().unwrap().push(format!("{other:?}")),
                    }
                }
            })
        });
        let asking = asking.collect();
        Self { is_over, served, failed, asking }
    }

    /// Returns when so many more were answered.
    async fn goes_on(&self, count: usize) {
        let before = self.served.load(Ordering::SeqCst);
        until("requests to be answered", async || {
            self.served.load(Ordering::SeqCst) >= before + count
                || !self.failed.lock().unwrap().is_empty()
        })
        .await;
    }

    /// What failed of all.
    async fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::SeqCst);
        for asking in self.asking {
            asking.await.unwrap();
        }
        self.failed.lock().unwrap().clone()
    }
}

/// By its fixed port and by its name, while its only container is replaced; and when the new one is no good.
#[tokio::test]
async fn rolling_up_loses_no_request() {
    let (node, docker) = node().await;
    let port = free_port().await;
    let text = r#"
services:
  web:
    image: busybox
    command: [sh, -c, 'test "$$WORD" != bad && mkdir /www && echo $$WORD > /www/index.html && exec httpd -f -p 80 -h /www']
    environment: {WORD: "${SETTING}"}
    stop_signal: SIGKILL
    ports: ["PORT:80"]
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 100ms, retries: 1000}
  asker:
    image: busybox
    stop_signal: SIGKILL
    depends_on: {web: {condition: service_healthy}}
    command: [sh, -c, "touch /failed; while true; do wget -q -O - http://web/ >> /said || echo no >> /failed; sleep 0.01; done"]
  dependent:
    image: busybox
    stop_signal: SIGKILL
    depends_on: {web: {condition: service_healthy, restart: true}}
    command: [sh, -c, "echo begun; exec sleep 1000"]
"#
    .replace("PORT", &port.to_string());
    let project = Project::new(&docker, &text);
    project.run("cais", "one", &["up", "-d"]).await;
    let web = async || docker.inspect("shop-web-1").await["Id"].clone();
    let first = web().await;
    let load = Load::begin(port);
    load.goes_on(5).await;

    project.run("cais", "two", &["up", "--rolling"]).await;
    let second = web().await;
    assert_ne!(second, first);
    assert!(asked(port).await.unwrap().ends_with("two\n"));

    let refused = project.done("cais", "bad", &["up", "--rolling"]).await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("shop-web-1 goes on as it was"), "{refused:?}");
    assert_eq!(web().await, second);
    load.goes_on(5).await;
    assert_eq!(load.end().await, [""; 0]);
    let heard = "sort -u /said; cat /failed";
    let heard = ["exec", "shop-asker-1", "sh", "-c", heard];
    until("the name to be asked for again", async || {
        docker.run(&heard).await.lines().any(|it| it == "two")
    })
    .await;
    assert_eq!(docker.run(&heard).await, "one\ntwo");
    // It goes on until the place is taken, and is started again then.
    let begun = async || docker.run(&["logs", "shop-dependent-1"]).await;
    until("the dependent to be started again", async || begun().await == "begun\nbegun").await;
    assert_eq!(docker.inspect("shop-dependent-1").await["State"]["Running"], true);
    assert_eq!(docker.run(&["ps", "-aq"]).await.lines().count(), 3);
    // The next daemon finds the place where it was given.
    node.restart().await;
    assert!(asked(port).await.unwrap().ends_with("two\n"));
    assert_ne!(docker.inspect("shop-web-1").await["State"]["Aside"], true);
    project.run("cais", "two", &["down", "-t", "0"]).await;
    project.is_gone().await;
}
