//! What our client makes of flags is what docker's client makes of them: both create through a door that only records.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::UnixListener;
use tokio::process::Command;

use crate::cais::cais;
use crate::docker::output;

/// Bodies of `POST …/create`, with the path and query.
type Recorded = Arc<Mutex<Vec<(String, Value)>>>;

/// A command line a row, of `create`, without the image and the command behind it.
const LINES: &[&str] = &[
    "",
    "-i",
    "-t",
    "-it",
    "-a stdout -a stdin -i",
    "--name web --hostname host --domainname example",
    "-h host -u 1:2 -w /work --entrypoint /bin/sh",
    "--entrypoint=",
    "-e A=b -e PATH -e NO_SUCH_VARIABLE --env EMPTY=",
    "--env-file ENV_FILE -e LAST=1",
    "-l a=b -l c --label d=e=f --label-file LABEL_FILE",
    "-p 8080:80 -p127.0.0.1:53:53/udp -p=[::1]:9:9 -p 7 -p 1.2.3.4::6",
    "-p 3000-3002:4000-4002 -p 5000-5009:50/tcp --expose 99 --expose 7-8/udp -P",
    "--publish published=8081,target=81,protocol=udp",
    "-v /host:/inside -v volume:/data:ro -v /anonymous -v ./relative:/x:z",
    "--volumes-from other:ro --volume-driver local",
    "--mount type=bind,src=/x,dst=/y,readonly --mount type=volume,target=/v,volume-nocopy,volume-label=a=b",
    "--mount type=volume,src=v,dst=/v,volume-driver=local,volume-opt=o=bind,volume-subpath=sub",
    "--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770 --tmpfs /run:size=3m --tmpfs /other",
    "--mount type=bind,source=./rel,target=/z,bind-propagation=rprivate,ro,bind-recursive=readonly",
    "--mount type=bind,source=/a,target=/z,bind-recursive=disabled --mount type=bind,src=/a,dst=/w,ro,bind-recursive=writable",
    "--mount type=bind,source=/a,target=/b,bind-propagation=rslave",
    "--mount type=image,src=busybox,dst=/i,image-subpath=x",
    "--network host --pid host --ipc shareable --uts host --userns host --cgroupns private --cgroup-parent /parent",
    "--network none",
    "--network container:other",
    "--network mine --network-alias one --network-alias two --ip 10.1.2.3 --ip6 fd00::1",
    "--net mine --net-alias one --mac-address 02:42:ac:11:00:02 --link db:alias",
    "--network name=mine,alias=a1,alias=a2,ip=10.1.2.3,driver-opt=a=b,gw-priority=3 --network other",
    "--network bridge --link db:alias --link-local-ip 169.254.1.1",
    "-m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 5 --cpus .5 -c 512 --cpuset-cpus 0-1",
    "--cpu-period 100000 --cpu-quota 50000 --cpu-rt-period 3 --cpu-rt-runtime 4 --cpuset-mems 0 --pids-limit 5",
    "--oom-kill-disable --oom-score-adj -5 --shm-size 1g --ulimit nofile=1:2 --ulimit nproc=5",
    "--blkio-weight 300 --blkio-weight-device /dev/sda:300 --device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:3",
    "--device-write-bps /dev/sda:2m --device-read-iops /dev/sda:7",
    "--device /dev/null:/dev/x:rw --device /dev/zero --device /dev/full:m --device-cgroup-rule c_1:3_rwm",
    "--device vendor.com/class=name",
    "--gpus all",
    "--gpus device=0,driver=nvidia,capabilities=compute",
    "--restart always",
    "--restart on-failure:3",
    "--restart unless-stopped",
    "--rm --init --read-only --privileged",
    "--init=false --privileged=false --rm=true",
    "--cap-add SYS_ADMIN --cap-add net_admin --cap-drop all --group-add 5 --group-add audio",
    "--security-opt no-new-privileges --security-opt label=disable --security-opt apparmor=unconfined",
    "--security-opt seccomp=unconfined --security-opt systempaths=unconfined",
    "--security-opt seccomp=SECCOMP_FILE",
    "--dns 1.1.1.1 --dns 8.8.8.8 --dns-search example --dns-option ndots:1 --dns-opt rotate",
    "--add-host a:1.2.3.4 --add-host b=::1 --add-host c:host-gateway --add-host d=[fd00::2]",
    "--health-cmd true --health-interval 3s --health-retries 2 --health-timeout 1m30s",
    "--health-start-period 1m --health-start-interval 2s",
    "--no-healthcheck",
    "--stop-signal TERM --stop-timeout 4",
    "--log-driver json-file --log-opt max-size=1m --log-opt tag",
    "--sysctl net.core.somaxconn=5 --storage-opt size=1g --annotation k=v --runtime other --isolation default",
    "--platform linux/amd64",
    "--cidfile CID_FILE",
];

/// Docker sends these where nothing was said; each means the same as its absence, which is what we send.
fn is_default(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty() || (key == "Name" && text == "no"),
        // -1 is "the kernel's own" for this one.
        Value::Number(number) => {
            number.as_i64() == Some(if key == "MemorySwappiness" { -1 } else { 0 })
        }
        Value::Array(items) => items.is_empty() && !matches!(key, "MaskedPaths" | "ReadonlyPaths"),
        Value::Object(members) => members.is_empty(),
    }
}

/// Without what is a default. Which networks and labels there are counts, whatever they say.
fn meaning(value: Value, key: &str) -> Value {
    let names_count = matches!(
        key,
        "EndpointsConfig" | "Labels" | "ExposedPorts" | "Volumes" | "Tmpfs" | "Config" | "Sysctls"
    );
    match value {
        // The terminal's size, which neither client has here.
        Value::Object(members) => {
            let members = members.into_iter().filter(|(key, _)| key != "ConsoleSize");
            let members = members.map(|(key, value)| {
                let value = meaning(value, &key);
                (key, value)
            });
            let kept = members.filter(|(key, value)| names_count || !is_default(key, value));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        // Docker puts these in no order.
        Value::Array(mut items) if matches!(key, "Env" | "Binds") => {
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|it| meaning(it, "")).collect()),
        other => other,
    }
}

async fn answer(
    request: Request<Incoming>,
    recorded: Recorded,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let response = Response::builder().header("Api-Version", "1.51").header("Ostype", "linux");
    if !target.contains("/containers/create") {
        return Ok(response.body(Full::new(Bytes::from("OK"))).unwrap());
    }
    let target = target.split_once("/containers").map_or_else(String::new, |it| it.1.to_owned());
    recorded.lock().unwrap().push((target, serde_json::from_slice(&body).unwrap()));
    let made = format!(r#"{{"Id":"{}","Warnings":[]}}"#, "a".repeat(64));
    Ok(response.status(StatusCode::CREATED).body(Full::new(Bytes::from(made))).unwrap())
}

fn serve(listener: UnixListener, recorded: Recorded) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let recorded = Arc::clone(&recorded);
            let service = service_fn(move |request| answer(request, Arc::clone(&recorded)));
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
}

#[tokio::test]
async fn cais_asks_for_the_containers_that_docker_asks_for() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let env = file("env", "# a comment\nONE=1\n\n  TWO=a b\nPATH\nNO_SUCH_VARIABLE\n");
    let labels = file("labels", "x=y\nz\n");
    let seccomp = file("seccomp", "{ \"defaultAction\":\n \"SCMP_ACT_ALLOW\" }");
    let socket = home.path().join("door");
    let recorded = Recorded::default();
    serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&recorded));

    let mut differences = Vec::new();
    for (row, line) in LINES.iter().enumerate() {
        let mut bodies = Vec::new();
        for program in ["docker", cais().to_str().unwrap()] {
            let cid = home.path().join("cid");
            let _ = std::fs::remove_file(&cid);
            let words = line.split_whitespace().map(|word| match word {
                "ENV_FILE" => env.clone(),
                "LABEL_FILE" => labels.clone(),
                "seccomp=SECCOMP_FILE" => format!("seccomp={seccomp}"),
                "CID_FILE" => cid.display().to_string(),
                "c_1:3_rwm" => "c 1:3 rwm".to_owned(),
                _ => word.to_owned(),
            });
            let mut command = Command::new(program);
            command.arg("create").args(words).args(["busybox", "sh", "-c", "x -y"]);
            command.current_dir(home.path()).env("DOCKER_CONFIG", home.path());
            command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
            command.env_remove("CAIS_HOST").stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            let done = output(command.spawn().unwrap(), program).await;
            assert_eq!(done.code, 0, "{program} create {line}: {done:?}");
            let (target, body) = recorded.lock().unwrap().pop().expect("a request to create");
            bodies.push((target, meaning(body, "")));
        }
        if bodies[0] != bodies[1] {
            differences
                .push(format!("{row}: {line}\n docker {:?}\n cais   {:?}", bodies[0], bodies[1]));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
