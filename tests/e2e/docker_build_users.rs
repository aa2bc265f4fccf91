//! Builds in a user namespace: who commands are, whose their files are, and what they have for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::docker_build::{Context, build, left, nothing_left, try_build};
use crate::docker_buildx;
use crate::docker_containers::node;
use crate::wait::until;

/// What the daemon gives builds when nothing is configured.
const FIRST: u32 = 0x7000_0000;
const LENGTH: u32 = 0x0ffe_0000;

/// CAP_NET_RAW, permitted and effective, without a root of its own (version 2, capabilities(7)).
const CAPABILITY: &str = "0x0100000200200000000000000000000000000000";

const OWNERS: &str = "\
FROM busybox AS base
RUN mkdir -p /opaque/in /gone && touch /opaque/a /opaque/in/b /gone/c /lower && chown 5:6 /lower \
  && chmod 4755 /lower
FROM base
RUN --mount=source=tools,target=/tools set -e; \
  echo made >/made; chown 1000:1001 /made; mkdir -m 1777 /dir; ln -s made /link; \
  chown -h 7:8 /link; echo big >/big; chown 250000000:200000 /big; \
  echo su >/su; chown 9:9 /su; chmod 6755 /su; \
  echo cap >/cap; /tools/ld.so --library-path /tools /tools/setfattr -n security.capability -v CAPABILITY /cap; \
  cp /cap /hard; ln /hard /harder; \
  rm -r /gone /opaque; mkdir /opaque; touch /opaque/z; chmod 4750 /lower; \
  mkfifo /fifo; echo x >/dev/null; echo user: $(cat /proc/self/uid_map /proc/self/gid_map)
RUN --mount=source=tools,target=/tools set -e; \
  [ \"$(ls /opaque)\" = z ]; [ ! -e /gone ]; [ $(stat -c %i /hard) = $(stat -c %i /harder) ]; chmod 700 /cap; \
  /tools/ld.so --library-path /tools /tools/getfattr --absolute-names -e hex -n security.capability /cap \
  | grep -q CAPABILITY; chown 11:12 /made; rm /link
";

const SEEN: &str = "\
/ 0:0 755
/big 250000000:200000 644
/cap 0:0 700
/dir 0:0 1777
/fifo 0:0 644
/lower 5:6 4750
/made 11:12 644
/opaque/z 0:0 644
/su 9:9 6755";

/// Everything below that belongs to one of the users of builds.
fn shifted(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let Ok(stat) = fs::symlink_metadata(entry.path()) else { continue };
        if stat.uid() >= FIRST || stat.gid() >= FIRST {
            found.push(format!("{:?} of {}:{}", entry.path(), stat.uid(), stat.gid()));
        }
        if stat.is_dir() {
            shifted(&entry.path(), found);
        }
    }
}

#[tokio::test]
async fn docker_build_has_users_of_its_own_and_its_layers_have_the_images() {
    let (node, docker) = node().await;
    let dockerfile = OWNERS.replace("CAPABILITY", CAPABILITY);
    let context = Context::new(&node, "context", &[("Dockerfile", &dockerfile)]);
    context.add_program("setfattr");
    context.add_program("getfattr");
    let words = ["--no-cache", "-t", "made", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"];
    let said = build(&docker, &context, &words).await;
    let map = format!("0 {FIRST} {LENGTH}");
    assert!(said.contains(&format!("user: {map} {map}")), "{said}");
    let id = docker.inspect("made").await["Id"].clone();

    let script = "cd /; stat -c '%n %u:%g %a' / /big /cap /dir /fifo /lower /made /opaque/z /su; \
                  [ $(stat -c %i /hard) = $(stat -c %i /harder) ] && [ ! -e /link ] && [ ! -e /gone ]";
    assert_eq!(docker.run(&["run", "--rm", "made", "sh", "-c", script]).await, SEEN);
    let images = node.home.join("root/images");
    let mut found = Vec::new();
    shifted(&images, &mut found);
    assert_eq!(found, Vec::<String>::new());
    let layers = fs::read_dir(images.join("layers")).unwrap();
    let capable = layers.map(|layer| layer.unwrap().path().join("fs/cap"));
    let capable: Vec<_> = capable.filter(|it| it.exists()).collect();
    assert_eq!(capable.len(), 2);
    for file in capable {
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(&file, "security.capability", &mut value[..]).unwrap();
        let shown: String = value[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(format!("0x{shown}"), CAPABILITY, "{file:?}");
    }

    // A cache has the same owners for everybody, and so has what is mounted besides.
    let first = "FROM busybox\nUSER 1000:1001\n\
        RUN --mount=type=cache,target=/c,uid=1000,mode=0750 --mount=type=tmpfs,target=/t \
        --mount=type=bind,target=/ctx,rw echo 1 > /c/one && echo 2 > /t/two && ls /ctx/tools && \
        stat -c '%n %u:%g %a' /c /c/one /t/two /ctx/Dockerfile\n";
    context.write("Dockerfile", first);
    let said = build(&docker, &context, &[]).await;
    for seen in ["/c 1000:0 750", "/c/one 1000:1001 644", "/t/two 1000:1001 644"] {
        assert!(said.contains(seen), "{seen}: {said}");
    }
    assert!(said.contains("/ctx/Dockerfile 0:0"), "{said}");
    let device = "FROM busybox\nRUN mknod /device c 1 3\n";
    let second = "FROM busybox\nRUN --mount=type=cache,target=/c cat /c/one && chown 2:3 /c/one && \
        stat -c '%n %u:%g' /c /c/one\n";
    context.write("Dockerfile", second);
    let said = build(&docker, &context, &[]).await;
    assert!(said.contains("/c 1000:0\n/c/one 2:3\n"), "{said}");
    // A device belongs to nobody in there.
    context.write("Dockerfile", device);
    let done = try_build(&docker, &context, &[]).await;
    assert!(done.code != 0 && done.stderr.contains("mknod /device"), "{done:?}");
    nothing_left(&node).await;

    // Without users of their own, commands make the same layers.
    node.configure("[build]\nuser_namespace = \"never\"\n");
    node.restart().await;
    context.write("Dockerfile", &dockerfile);
    let said = build(&docker, &context, &words).await;
    assert!(said.contains("user: 0 0 4294967295"), "{said}");
    assert_eq!(docker.inspect("made").await["Id"], id);
    context.write("Dockerfile", second);
    let said = build(&docker, &context, &["--no-cache"]).await;
    assert!(said.contains("/c 1000:0\n/c/one 2:3\n"), "{said}");
    context.write("Dockerfile", device);
    build(&docker, &context, &[]).await;
    nothing_left(&node).await;
}

#[tokio::test]
async fn builds_are_insecure_when_both_sides_allow_it() {
    let (node, docker) = docker_buildx::with_buildx().await;
    let dockerfile = "FROM busybox\nRUN --security=insecure mknod /device c 1 3 && \
        grep CapEff /proc/self/status && echo user: $(cat /proc/self/uid_map)\n\
        RUN stat -c '%F %t %T' /device && echo user: $(cat /proc/self/uid_map)\n";
    let context = Context::new(&node, "context", &[("Dockerfile", dockerfile)]);
    let allowed = ["--allow", "security.insecure"];
    let said = docker_buildx::refused(&docker, &context, &allowed).await;
    let granting = "granting entitlement security.insecure is not allowed by build daemon";
    assert!(said.contains(granting), "{said}");
    node.configure("[build]\nentitlements = [\"security.insecure\"]\n");
    node.restart().await;
    let said = docker_buildx::refused(&docker, &context, &[]).await;
    assert!(said.contains("security.insecure is not allowed"), "{said}");
    let said = docker_buildx::build(&docker, &context, &allowed).await;
    for seen in ["user: 0 0 4294967295", "character special file 1 3", &format!("user: 0 {FIRST} ")]
    {
        assert!(said.contains(seen), "{seen}: {said}");
    }
    docker.run(&["builder", "prune", "-af"]).await;
    until("nothing to be left of a build", async || left(&node).is_empty()).await;
}

/// A limit of the command's own group, whichever version of cgroups has the controller.
const LIMITS: &str = "\
FROM busybox
RUN g=/sys/fs/cgroup; \
  echo memory: $(cat $g/memory.max 2>/dev/null || cat $g/memory/memory.limit_in_bytes); \
  echo cpu: $(cat $g/cpu.max 2>/dev/null || cat $g/cpu/cpu.cfs_quota_us); \
  echo files: $(ulimit -n) shm: $(df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2); \
  grep Cpus_allowed_list /proc/self/status
RUN head -c 200m /dev/zero | tail
";

#[tokio::test]
async fn builds_keep_their_commands_to_the_limits() {
    let (node, docker) = node().await;
    let context = Context::new(&node, "context", &[("Dockerfile", LIMITS)]);
    let words = [
        ["--memory", "67108864"],
        ["--memory-swap", "67108864"],
        ["--cpu-period", "100000"],
        ["--cpu-quota", "50000"],
        ["--cpuset-cpus", "0"],
        ["--ulimit", "nofile=321:654"],
        ["--shm-size", "8388608"],
    ];
    let words = words.concat();
    let classic = try_build(&docker, &context, &words).await;
    let ours = [&["build", "--no-cache"][..], &words[..], &[context.path()]].concat();
    let ours = docker.try_cais(&ours).await;
    for done in [classic, ours] {
        for limit in [
            "memory: 67108864\n",
            "cpu: 50000",
            "files: 321 shm: 8192\n",
            "Cpus_allowed_list:\t0\n",
        ] {
            assert!(done.stdout.contains(limit), "{limit}: {done:?}");
        }
        // The kernel ends what takes more.
        assert!(done.code != 0, "{done:?}");
        assert!(done.stderr.contains("returned a non-zero code: 137"), "{done:?}");
    }
    nothing_left(&node).await;
}
