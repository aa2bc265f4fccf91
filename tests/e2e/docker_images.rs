//! Images by the docker client: its words, its tables, and one store for both doors.

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use crate::docker::Docker;
use crate::node::{BUSYBOX, Node};

#[tokio::test]
async fn docker_pull_says_what_it_does_and_both_doors_have_the_image() {
    let node = Node::boot().await;
    let docker = node.docker();

    let said = docker.run(&["pull", "busybox"]).await;
    for words in [
        "Using default tag: latest",
        "latest: Pulling from library/busybox",
        "Pull complete",
        "Digest: sha256:",
        "Status: Downloaded newer image for busybox:latest",
        "docker.io/library/busybox:latest",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let again = docker.run(&["pull", "busybox"]).await;
    assert!(again.contains("Status: Image is up to date for busybox:latest"), "{again}");
    let quiet = docker.run(&["pull", "-q", "busybox"]).await;
    assert_eq!(quiet, BUSYBOX);

    let by_cri = node.image(BUSYBOX).await.expect("the image by CRI");
    let id = docker.run(&["images", "--no-trunc", "--quiet"]).await;
    assert_eq!(id, by_cri.id);
    let image = docker.inspect("busybox").await;
    assert_eq!(image["Id"], by_cri.id.as_str());
    assert_eq!(image["RepoTags"][0], "busybox:latest");
    let digest = image["RepoDigests"][0].as_str().unwrap();
    assert_eq!(format!("docker.io/library/{digest}"), by_cri.repo_digests[0]);
    // By its digest, too, and by a part of its id.
    for name in [digest, &id[7..19], &id] {
        assert_eq!(docker.inspect(name).await["Id"], id.as_str(), "{name}");
    }
}

#[tokio::test]
async fn docker_an_image_that_nobody_has_is_an_error_in_its_words() {
    let node = Node::boot().await;
    let docker = node.docker();

    let said = docker.refused(&["pull", "cais/no-such-image:1"]).await;
    assert!(said.contains("no-such-image") && said.contains("manifest unknown"), "{said}");
    // The error travels in the stream: the head went out before it was known.
    let reply = docker.post("/images/create?fromImage=cais/no-such-image&tag=1", None).await;
    assert_eq!(reply.status, StatusCode::OK);
    let last = reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).next_back();
    let last: Value = serde_json::from_slice(last.unwrap()).unwrap();
    assert_eq!(last["error"], last["errorDetail"]["message"]);
    assert!(last["error"].is_string(), "{last}");

    let inspect = docker.get("/images/nothing/here:1/json").await;
    assert_eq!(inspect.status, StatusCode::NOT_FOUND);
    assert_eq!(inspect.message(), "No such image: nothing/here:1");
    assert!(docker.refused(&["rmi", "nothing"]).await.contains("No such image: nothing:latest"));
    for path in ["/images/create", "/images/create?fromImage=UPPER&tag=1"] {
        assert_eq!(docker.post(path, None).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    let elsewhere = docker.post("/images/create?fromSrc=http://127.0.0.1/tree.tar", None).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn docker_what_a_registry_has_is_told_without_a_pull() {
    let node = Node::boot().await;
    let docker = node.docker();
    for (name, architectures) in [("busybox", 1), ("cais/platforms", 2)] {
        let told = docker.get(&format!("/distribution/{name}/json")).await.json();
        let platforms = told["Platforms"].as_array().unwrap();
        assert_eq!(platforms.len(), architectures, "{told}");
        assert!(platforms.iter().all(|it| it["os"] == "linux"), "{told}");
        assert!(docker.run(&["images", "-q", name]).await.is_empty());
        docker.run(&["pull", "-q", name]).await;
        let digest = told["Descriptor"]["digest"].as_str().unwrap();
        assert_eq!(docker.inspect(name).await["RepoDigests"][0], format!("{name}@{digest}"));
        assert!(told["Descriptor"]["size"].as_u64().unwrap() > 0, "{told}");
        assert!(told["Descriptor"]["mediaType"].as_str().unwrap().starts_with("application/vnd."));
    }
    // Of the two, that of this machine alone is run.
    for (platform, words) in [
        ("linux/s390x", "no matching manifest for linux/s390x"),
        ("nonsense", "unknown operating system or architecture"),
    ] {
        let refused = docker.try_run(&["run", "--rm", "--platform", platform, "busybox"]).await;
        assert!(refused.code == 125 && refused.stderr.contains(words), "{refused:?}");
    }
    docker.run(&["run", "--rm", "--platform", "linux", "busybox", "true"]).await;
    let missing = docker.get("/distribution/cais/no-such-image/json").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND, "{missing:?}");
}

#[tokio::test]
async fn docker_tag_and_rmi_move_names_and_the_last_one_takes_the_image() {
    let node = Node::boot().await;
    let docker = node.docker();
    docker.run(&["pull", "-q", "busybox"]).await;
    // docker-compose 1.29 makes no container anew without what dockerd says to clients of its age.
    for (version, has_config, has_size) in [
        ("/v1.41", true, true),
        ("/v1.44", true, false),
        ("/v1.45", false, false),
        ("", false, false),
    ] {
        let shown = docker.get(&format!("{version}/images/busybox/json")).await.json();
        assert_eq!(shown.get("ContainerConfig").is_some(), has_config, "{version}: {shown}");
        assert_eq!(shown.get("VirtualSize").is_some(), has_size, "{version}: {shown}");
        if has_config {
            assert_eq!(shown["ContainerConfig"].get("Volumes"), Some(&Value::Null));
        }
    }
    let id = docker.run(&["images", "-q", "--no-trunc"]).await;

    // A pull is no tag of ours; docker compose shows the time of one.
    let tagged = async || {
        let shown = docker.inspect("busybox").await["Metadata"]["LastTagTime"].clone();
        shown.as_str().unwrap().parse::<Timestamp>().unwrap()
    };
    assert_eq!(tagged().await, "0001-01-01T00:00:00Z".parse().unwrap());
    let before = Timestamp::now();
    docker.run(&["tag", "busybox", "cais/mine:v1"]).await;
    let first = tagged().await;
    assert!(before <= first && first <= Timestamp::now(), "{before} {first}");
    docker.run(&["tag", "busybox", "cais/mine:v1"]).await;
    assert!(tagged().await > first);
    docker.run(&["tag", &id[7..19], "localhost:5000/other"]).await;
    let tags = docker.inspect("cais/mine:v1").await["RepoTags"].clone();
    assert_eq!(
        tags,
        serde_json::json!(["busybox:latest", "cais/mine:v1", "localhost:5000/other:latest"])
    );
    let refused = docker.refused(&["rmi", &id[7..19]]).await;
    assert!(refused.contains("must be forced") && refused.contains("multiple repositories"));

    assert_eq!(docker.run(&["rmi", "cais/mine:v1"]).await, "Untagged: cais/mine:v1");
    docker.run(&["rmi", "localhost:5000/other"]).await;
    let last = docker.run(&["rmi", "busybox"]).await;
    let lines: Vec<&str> = last.lines().collect();
    assert_eq!(lines[0], "Untagged: busybox:latest");
    assert!(lines.iter().any(|line| line.starts_with("Untagged: busybox@sha256:")), "{last}");
    assert!(lines.contains(&format!("Deleted: {id}").as_str()), "{last}");
    assert_eq!(docker.run(&["images", "-q"]).await, "");
    assert!(node.all_images().await.is_empty());
}

#[tokio::test]
async fn docker_images_are_listed_by_filter_and_format() {
    let node = Node::boot().await;
    let docker = node.docker();
    docker.run(&["pull", "-q", "busybox"]).await;
    docker.run(&["pull", "-q", "cais/pause"]).await;
    docker.run(&["tag", "busybox", "cais/shell:v1"]).await;

    let names = async |docker: &Docker, filter: &str| {
        let format = "{{.Repository}}:{{.Tag}}";
        let text = docker.run(&["images", "--format", format, "--filter", filter]).await;
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    // Another name of the same image does not match, and is not shown.
    assert_eq!(names(&docker, "reference=busybox").await, ["busybox:latest"]);
    assert_eq!(names(&docker, "reference=cais/*:v1").await, ["cais/shell:v1"]);
    assert_eq!(names(&docker, "label=for=sandboxes").await, ["cais/pause:latest"]);
    assert!(names(&docker, "label=for=nobody").await.is_empty());
    assert!(names(&docker, "dangling=true").await.is_empty());
    for filters in [r#"{"label":{"for":true}}"#, r#"{"label":["for"]}"#] {
        let query: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
        let listed = docker.get(&format!("/v1.41/images/json?filters={query}")).await.json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{filters}");
        assert_eq!(listed[0]["Labels"]["for"], "sandboxes");
    }
    let unknown = docker.get("/images/json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert_eq!(unknown.message(), "invalid filter 'colour'");
    assert_eq!(docker.get("/images/json?filters=").await.status, StatusCode::OK);
}

#[tokio::test]
async fn docker_history_tells_the_steps_and_their_sizes() {
    let node = Node::boot().await;
    let docker = node.docker();
    docker.run(&["pull", "-q", "cais/summed"]).await;

    let format = "{{.ID}} {{.CreatedBy}} {{.Size}}";
    let steps = docker.run(&["history", "--no-trunc", "--format", format, "cais/summed"]).await;
    let steps: Vec<&str> = steps.lines().collect();
    assert_eq!(steps.len(), 4, "{steps:?}");
    let id = docker.inspect("cais/summed").await["Id"].as_str().unwrap().to_owned();
    assert!(steps[0].starts_with(&id), "{steps:?}");
    assert!(steps[1..].iter().all(|step| step.starts_with("<missing> hack/images ")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.ends_with(" 0B")), "{steps:?}");
    let layers = docker.inspect("cais/summed").await["RootFS"]["Layers"].clone();
    assert_eq!(layers.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn docker_names_that_lead_elsewhere_are_nobody() {
    let node = Node::boot().await;
    let docker = node.docker();
    for name in ["..", "../../etc/passwd", "a%00b", "%2e%2e%2fx", "sha256:", "a:b:c", "@"] {
        for (method, tail) in
            [(Method::GET, "/json"), (Method::GET, "/history"), (Method::DELETE, "")]
        {
            let path = format!("/images/{name}{tail}");
            let reply = docker.request(method, &path, None).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
            reply.message();
        }
    }
}
