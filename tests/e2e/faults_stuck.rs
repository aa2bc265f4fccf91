//! A process that not even SIGKILL reaches: calls say so in time, nothing else waits for it, and it goes when the kernel
//! lets go of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cais_proto::runtime::v1::Mount;
use tonic::{Code, Status};

use crate::cgroup_files::Group;
use crate::node::Node;
use crate::wait::until;

/// A file system on which writers can be made to wait, uninterruptibly.
struct Disk {
    directory: PathBuf,
}

impl Disk {
    fn mounted(node: &Node) -> Self {
        let (image, directory) = (node.home.join("disk.ext4"), node.home.join("disk"));
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(&directory).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), directory.to_str().unwrap()]);
        Self { directory }
    }

    fn freeze(&self) {
        run("fsfreeze", &["--freeze", self.directory.to_str().unwrap()]);
    }

    fn thaw(&self) {
        run("fsfreeze", &["--unfreeze", self.directory.to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure it may still be frozen; what waits there must go before it can be unmounted.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.directory).output();
        let _ = Command::new("umount").arg("--lazy").arg(&self.directory).output();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

fn is_uninterruptible(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'))
}

fn assert_late(call: &str, refused: Result<(), Status>) {
    let refused = refused.expect_err(call);
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{call}: {refused:?}");
}

#[tokio::test]
async fn who_waits_uninterruptibly_is_reported_in_time_and_goes_when_the_wait_ends() {
    let node = Node::boot().await;
    let disk = Disk::mounted(&node);
    let pod = node.pod("stuck").run().await;
    let script = "while :; do echo x > /disk/file; sleep 0.01; done";
    let container = pod.container("main").shell(script).with(|config| {
        config.mounts = vec![Mount {
            container_path: "/disk".to_owned(),
            host_path: disk.directory.to_str().unwrap().to_owned(),
            ..Default::default()
        }];
    });
    let container = container.start().await;
    let group = Group::of_container(&pod, &container);
    until("the first write", async || disk.directory.join("file").exists()).await;
    disk.freeze();
    until("the writer to wait", async || {
        group.processes().first().is_some_and(|first| is_uninterruptible(*first))
    })
    .await;

    let before = Instant::now();
    let others = async {
        // While all of these wait, nobody else does.
        for number in 0..3 {
            let other = node.pod(&format!("other-{number}")).run().await;
            assert!(container.try_status().await.is_ok());
            assert!(node.pod_ids().await.contains(&pod.id));
            other.remove().await;
        }
        before.elapsed()
    };
    let (stop, remove, stop_pod, remove_pod, others) = tokio::join!(
        container.try_stop(0),
        container.try_remove(),
        pod.try_stop(),
        node.remove_pod(pod.id.clone()),
        others
    );
    let waited = before.elapsed();
    assert!(waited < Duration::from_secs(25), "{waited:?}");
    assert!(others < waited, "the others waited, too: {others:?} of {waited:?}");
    assert_late("StopContainer", stop);
    assert_late("RemoveContainer", remove);
    assert_late("StopPodSandbox", stop_pod);
    assert_late("RemovePodSandbox", remove_pod);

    disk.thaw();
    container.stop(0).await;
    assert_eq!(container.status().await.exit_code, 137);
    container.remove().await;
    pod.remove().await;
}
