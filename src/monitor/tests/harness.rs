//! Starting a monitor and describing containers for it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use crate::executor::plan::{
    Capabilities, CgroupJoin, ContainerPid, ContainerPlan, Device, DeviceKind, Fd, LogFormat,
    Mount, MountAttributes, MountSource, Namespace, PodPid, PodPlan, Process, Propagation, Stdin,
    User,
};
use crate::id::{ContainerId, ExecId};
use crate::monitor::client::{Client, Reports};
use crate::monitor::protocol::{Exit, ExitStatus, Reply, Report, Request};
use crate::monitor::spawn;

pub(super) const MARK: &str = "CAIS_TEST_MONITOR";
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod of one monitor with a BusyBox root that its containers share. Dropping it kills all.
pub(super) struct Pod {
    pub(super) directory: tempfile::TempDir,
    pub(super) process: Child,
    pub(super) client: Client,
    pub(super) reports: Reports,
    cgroups: Vec<PathBuf>,
}

impl Pod {
    /// `None`, with a note, where the machine cannot do it: not root, or no BusyBox.
    pub(super) async fn boot() -> Option<Self> {
        Self::boot_with(|_| {}).await
    }

    pub(super) async fn boot_with(change: impl FnOnce(&mut PodPlan)) -> Option<Self> {
        let mut pod = Self::boot_bare().await?;
        pod.set_up(change).await;
        Some(pod)
    }

    pub(super) async fn set_up(&mut self, change: impl FnOnce(&mut PodPlan)) {
        let exits = self.directory.path().join("exits");
        std::fs::create_dir_all(&exits).unwrap();
        let mut plan = PodPlan {
            network: Namespace::New,
            ipc: Namespace::New,
            uts: Namespace::New,
            pid: PodPid::PerContainer,
            user: None,
            hostname: Some("quay".to_owned()),
            domainname: None,
            sysctls: vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())],
            shm_size: Some(1 << 20),
            shm: None,
            exits: Fd(0),
        };
        change(&mut plan);
        let exits = open(&exits);
        self.client.call(Request::SetUpPod(Box::new(plan)), vec![exits]).await.unwrap();
        self.client.call(Request::Subscribe, vec![]).await.unwrap();
        while self.reports.try_recv().is_ok() {}
    }

    /// A monitor that was told nothing yet.
    pub(super) async fn boot_bare() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped("not root");
            return None;
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"];
        let Some(busybox) = busybox.iter().map(Path::new).find(|path| path.exists()) else {
            skipped("no busybox (install busybox-static)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        make_root(&directory.path().join("root"), busybox);
        let socket = directory.path().join("monitor.sock");
        let listener = spawn::listen(&socket).unwrap();
        let errors = std::fs::File::create(directory.path().join("monitor.err")).unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "monitor::tests::monitor_process", "--test-threads=1", "--nocapture"])
            .env(MARK, "1")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::from(errors))
            .spawn()
            .unwrap();
        let (client, reports) = Client::connect(&socket).await.unwrap();
        Some(Self { directory, process, client, reports, cgroups: Vec::new() })
    }

    /// The monitor in proc. The process that was started is the test program, and the monitor a
    /// fork of it.
    pub(super) fn monitor(&self) -> PathBuf {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.process.id()));
        let children: String = std::fs::read_dir(tasks)
            .unwrap()
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap())
            .collect();
        Path::new("/proc").join(children.trim())
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(super) fn log_path(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// A container that runs `script` in a shell and logs to `name`.
    pub(super) fn container(&self, name: &str, script: &str) -> Planned {
        let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let rootfs = rustix::mount::open_tree(CWD, self.root(), tree).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let log = rustix::fs::open(self.log_path(name), flags, mode).unwrap();
        Planned {
            id: ContainerId::generate().unwrap(),
            fds: vec![rootfs, log],
            plan: ContainerPlan {
                process: shell(script),
                rootfs: Fd(0),
                readonly_rootfs: false,
                mounts: usual_mounts(),
                devices: usual_devices(),
                links: vec![
                    (b"/dev/fd".to_vec().into(), b"/proc/self/fd".to_vec().into()),
                    (b"/dev/stdout".to_vec().into(), b"/proc/self/fd/1".to_vec().into()),
                    (b"/dev/ptmx".to_vec().into(), b"pts/ptmx".to_vec().into()),
                ],
                masked_paths: vec![],
                readonly_paths: vec![],
                pid: ContainerPid::Own,
                cgroup_namespace: true,
                cgroup: CgroupJoin::default(),
                stdio: crate::executor::plan::Stdio {
                    stdin: Stdin::Closed,
                    log: Some(Fd(1)),
                    log_format: LogFormat::Cri,
                },
                rootfs_propagation: Propagation::Private,
            },
        }
    }

    /// Makes a memory cgroup of v1 for the test and puts the container into it.
    pub(super) fn limit_memory(&mut self, planned: &mut Planned, bytes: u64) -> bool {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ct-exec-{}-{number}", std::process::id());
        let path = Path::new("/sys/fs/cgroup/memory").join(name);
        if std::fs::create_dir(&path).is_err() {
            skipped("no v1 memory controller");
            return false;
        }
        let limit = path.join("memory.limit_in_bytes");
        #[expect(clippy::disallowed_methods, reason = "a cgroup file")]
        std::fs::write(limit, bytes.to_string()).unwrap();
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let tasks = rustix::fs::open(path.join("tasks"), flags, Mode::empty()).unwrap();
        let tasks = planned.add_fd(tasks);
        planned.plan.cgroup.legacy.push(tasks);
        let counter = open(&path.join("memory.oom_control"));
        planned.plan.cgroup.oom_counter = Some(planned.add_fd(counter));
        self.cgroups.push(path);
        true
    }

    pub(super) async fn create(&self, planned: Planned) -> (ContainerId, i32) {
        let id = planned.id.clone();
        let reply = self.try_create(planned).await.unwrap();
        let Reply::Created { pid } = reply else { panic!("{reply:?}") };
        (id, pid)
    }

    pub(super) async fn try_create(&self, planned: Planned) -> crate::error::Result<Reply> {
        let Planned { id, plan, fds } = planned;
        let request = Request::Create { container: id, plan: Box::new(plan) };
        within(self.client.call(request, fds)).await.map(|(reply, _)| reply)
    }

    pub(super) async fn start(&self, container: &ContainerId) {
        let request = Request::Start { container: container.clone() };
        let (reply, _) = within(self.client.call(request, vec![])).await.unwrap();
        assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
    }

    /// Creates, starts and waits for the exit.
    pub(super) async fn run(&mut self, planned: Planned) -> Exit {
        let (id, _) = self.create(planned).await;
        self.start(&id).await;
        self.wait_exit(&id).await
    }

    pub(super) async fn wait_exit(&mut self, id: &ContainerId) -> Exit {
        loop {
            let report = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
            let Ok(report) = report else { panic!("no exit; logs: {}", self.all_logs()) };
            match report.expect("the monitor lives") {
                Report::Exited { container, exit } if container == *id => return exit,
                Report::Exited { .. } | Report::ExecExited { .. } => {}
            }
        }
    }

    pub(super) async fn wait_exec(&mut self, id: &ExecId) -> ExitStatus {
        loop {
            match within(self.reports.recv()).await.expect("the monitor lives") {
                Report::ExecExited { exec, status } if exec == *id => return status,
                Report::Exited { .. } | Report::ExecExited { .. } => {}
            }
        }
    }

    pub(super) async fn call(&self, request: Request) -> crate::error::Result<Reply> {
        within(self.client.call(request, vec![])).await.map(|(reply, _)| reply)
    }

    /// The log's lines without time: `stdout F text`.
    pub(super) fn log(&self, name: &str) -> Vec<String> {
        let text = std::fs::read(self.log_path(name)).unwrap();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<&str> = text.lines().collect();
        // The last one may be in the middle of being written.
        if !text.ends_with('\n') {
            lines.pop_if(|line| !line.contains(' '));
        }
        lines.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn all_logs(&self) -> String {
        std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "log" || end == "err"))
            .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
            .collect()
    }

    /// Runs and gives what was printed on standard output.
    pub(super) async fn output_of(&mut self, name: &str, planned: Planned) -> Vec<String> {
        self.run(planned).await;
        self.log(name)
            .into_iter()
            .map(|line| line.trim_start_matches("stdout F ").to_owned())
            .collect()
    }

    /// Waits until the log holds a line that ends so.
    pub(super) async fn wait_log(&self, name: &str, end: &str) {
        within(async {
            while !self.log(name).iter().any(|line| line.ends_with(end)) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for cgroup in &self.cgroups {
            // What a killed monitor could not kill any more, and a moment for the kernel to empty it.
            let until = std::time::Instant::now() + Duration::from_secs(5);
            while std::fs::remove_dir(cgroup).is_err() && std::time::Instant::now() < until {
                let pids = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
                for pid in pids.lines().filter_map(|line| line.parse().ok()) {
                    let pid = rustix::process::Pid::from_raw(pid).unwrap();
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                std::thread::yield_now();
            }
        }
    }
}

pub(super) struct Planned {
    pub(super) id: ContainerId,
    pub(super) plan: ContainerPlan,
    pub(super) fds: Vec<OwnedFd>,
}

impl Planned {
    pub(super) fn add_fd(&mut self, fd: OwnedFd) -> Fd {
        self.fds.push(fd);
        Fd(u32::try_from(self.fds.len() - 1).unwrap())
    }
}

/// What a run on a smaller machine shows of a test that it could not do.
fn skipped(why: &str) {
    let line = format!("skipped: {why}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

pub(super) fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// As the daemon reads it.
pub(super) fn exit_record(path: &Path) -> Exit {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(super) fn shell(script: &str) -> Process {
    const CHOWN_KILL_SETGID_SETUID: u64 = 1 | 1 << 5 | 1 << 6 | 1 << 7;
    let bytes = |text: &str| serde_bytes::ByteBuf::from(text.as_bytes().to_vec());
    Process {
        args: vec![bytes("sh"), bytes("-c"), bytes(script)],
        env: vec![bytes("PATH=/bin"), bytes("HOME=/")],
        cwd: bytes("/"),
        user: User { uid: 0, gid: 0, groups: vec![], umask: None },
        capabilities: Capabilities {
            bounding: CHOWN_KILL_SETGID_SETUID,
            effective: CHOWN_KILL_SETGID_SETUID,
            permitted: CHOWN_KILL_SETGID_SETUID,
            inheritable: 0,
            ambient: 0,
        },
        rlimits: vec![],
        no_new_privileges: true,
        seccomp: None,
        apparmor: None,
        selinux: None,
        oom_score_adj: None,
        terminal: None,
    }
}

fn new_mount(target: &str, fstype: &str, options: &[(&str, &str)]) -> Mount {
    let options = options
        .iter()
        .map(|(key, value)| {
            ((*key).to_owned(), Some((*value).to_owned()).filter(|value| !value.is_empty()))
        })
        .collect();
    let attributes = MountAttributes { no_suid: true, ..MountAttributes::default() };
    Mount {
        target: target.as_bytes().to_vec().into(),
        source: MountSource::New { fstype: fstype.to_owned(), options, attributes },
    }
}

fn usual_mounts() -> Vec<Mount> {
    vec![
        new_mount("/proc", "proc", &[]),
        new_mount("/dev", "tmpfs", &[("mode", "755"), ("size", "65536k")]),
        new_mount(
            "/dev/pts",
            "devpts",
            &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
        ),
        Mount { target: b"/dev/shm".to_vec().into(), source: MountSource::PodShm },
        new_mount("/dev/mqueue", "mqueue", &[]),
        new_mount("/sys", "sysfs", &[]),
        Mount {
            target: b"/sys/fs/cgroup".to_vec().into(),
            source: MountSource::Cgroup { hierarchies: vec!["memory".to_owned()], read_only: true },
        },
    ]
}

fn usual_devices() -> Vec<Device> {
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)]
        .map(|(name, minor)| Device {
            path: format!("/dev/{name}").into_bytes().into(),
            kind: DeviceKind::Character,
            major: 1,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .to_vec()
}

fn make_root(root: &Path, busybox: &Path) {
    for directory in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "echo", "id", "sleep", "ls", "stat", "hostname", "head", "tail", "grep", "dd",
        "stty", "tr", "kill", "ps", "setsid", "mkdir", "touch", "readlink", "tty", "wc", "seq",
        "umask", "chmod", "mount", "printf", "true", "yes", "pwd", "test", "mknod", "chown",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    // World-readable, whatever the umask of the tests is.
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::chmod(root, mode).unwrap();
}
