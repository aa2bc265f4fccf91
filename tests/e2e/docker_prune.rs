//! Making room by the docker client, and `docker system df`.

use http::StatusCode;

use crate::docker::Docker;
use crate::docker_containers::node;

async fn names(docker: &Docker) -> Vec<String> {
    let listed = docker.run(&["ps", "-a", "--format", "{{.Names}}"]).await;
    let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn docker_container_prune_takes_what_rests() {
    let (_node, docker) = node().await;
    docker.run(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).await;
    docker.run(&["create", "--name", "new", "-l", "keep", "-v", "/x", "busybox"]).await;
    let script = "dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null";
    docker.run(&["run", "--name", "done", "-l", "tier=db", "busybox", "sh", "-c", script]).await;

    for (filter, expected) in [
        ("until=1h", &["done", "new", "up"][..]),
        ("label=nobody", &["done", "new", "up"]),
        ("label!=keep", &["new", "up"]),
    ] {
        let said = docker.run(&["container", "prune", "-f", "--filter", filter]).await;
        assert_eq!(names(&docker).await, expected, "{filter}");
        if filter == "label!=keep" {
            assert!(said.contains("Total reclaimed space: 3."), "{said}");
        }
    }
    docker.run(&["container", "prune", "-f"]).await;
    assert_eq!(names(&docker).await, ["up"]);
    // A volume is not a container's to take.
    assert_eq!(docker.run(&["volume", "ls", "-q"]).await.lines().count(), 1);
    for filters in ["%7B%22colour%22%3A%5B%22x%22%5D%7D", "%7B%22until%22%3A%5B%22x%22%5D%7D"] {
        let reply = docker.post(&format!("/containers/prune?filters={filters}"), None).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{filters}");
    }
    docker.run(&["rm", "-f", "up"]).await;
}

#[tokio::test]
async fn docker_image_prune_takes_what_no_container_of_either_door_has() {
    let (node, docker) = node().await;
    docker.run(&["pull", "-q", "cais/plain"]).await;
    docker.run(&["pull", "-q", "cais/summed"]).await;
    docker.run(&["pull", "-q", "cais/pause"]).await;
    docker.run(&["create", "--name", "user", "cais/plain"]).await;
    let pod = node.pod("web").run().await;
    pod.container("main").shell("sleep 1000").start().await;
    let listed = async || {
        let listed = docker.run(&["images", "--format", "{{.Repository}}"]).await;
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };

    let all = ["busybox", "cais/pause", "cais/plain", "cais/summed"];
    docker.run(&["image", "prune", "-f"]).await;
    assert_eq!(listed().await, all);
    docker.run(&["image", "prune", "-f", "-a", "--filter", "label=for=nobody"]).await;
    assert_eq!(listed().await, all);
    let said = docker.run(&["image", "prune", "-f", "-a", "--filter", "label=for=sandboxes"]).await;
    assert!(said.contains("untagged: cais/pause:latest"), "{said}");
    assert_eq!(listed().await, ["busybox", "cais/plain", "cais/summed"]);
    let said = docker.run(&["image", "prune", "-f", "-a"]).await;
    assert!(said.contains("deleted: sha256:") && !said.contains("space: 0B"), "{said}");
    assert_eq!(listed().await, ["busybox", "cais/plain"]);

    pod.remove().await;
    docker.run(&["rm", "user"]).await;
    docker.run(&["image", "prune", "-f", "-a"]).await;
    assert!(listed().await.is_empty());
    let layers = std::fs::read_dir(node.home.join("root/images/layers")).unwrap();
    assert_eq!(layers.count(), 0);
}

#[tokio::test]
async fn docker_system_df_tells_where_the_room_went() {
    let (_node, docker) = node().await;
    let script = "dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; \
                  dd if=/dev/zero of=/v/big bs=1M count=2 2>/dev/null";
    let words = ["run", "--name", "one", "-v", "data:/v", "busybox", "sh", "-c", script];
    docker.run(&words).await;
    docker.run(&["volume", "create", "idle"]).await;

    let format = "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}";
    let rows = docker.run(&["system", "df", "--format", format]).await;
    let rows: Vec<&str> = rows.lines().collect();
    assert!(rows[0].starts_with("Images 1 1 "), "{rows:?}");
    assert!(rows[1].starts_with("Containers 1 0 3."), "{rows:?}");
    assert!(rows[2].starts_with("Local Volumes 2 1 2."), "{rows:?}");
    assert_eq!(rows[3], "Build Cache 0 0 0B");
    let df = docker.get("/system/df").await.json();
    let image = docker.inspect("busybox").await;
    assert_eq!(df["Images"][0]["Id"], image["Id"]);
    assert_eq!(df["Images"][0]["Containers"], 1);
    assert!(df["LayersSize"].as_u64().unwrap() > 0);
    let volumes = docker.get("/system/df?type=volume").await.json();
    assert_eq!(volumes.as_object().unwrap().len(), 1);
    assert_eq!(volumes["Volumes"][0]["UsageData"]["RefCount"], 1);
    assert_eq!(docker.get("/system/df?type=x").await.status, StatusCode::BAD_REQUEST);
    let named = docker.run(&["ps", "-aq", "-f", "volume=data"]).await;
    assert_eq!(named.lines().count(), 1);
    docker.run(&["rm", "one"]).await;
}
