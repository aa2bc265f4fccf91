//! Promises of groups on the machine's own hierarchies. They need root.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;

use super::*;
use crate::error::Kind;

const SECONDS_10: Duration = Duration::from_secs(10);

/// A group of its own parent, so that the tests can run side by side.
struct Fixture {
    cgroups: Cgroups,
    parent: String,
}

impl Fixture {
    /// `None` without root: cgroups cannot be made then.
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let parent = format!("/ct-conf-{test}-{}", std::process::id());
        Some(Self { cgroups: Cgroups::detect().unwrap(), parent })
    }

    fn create(&self, resources: &Resources) -> Result<Cgroup> {
        self.create_with(resources, None)
    }

    fn create_with(&self, resources: &Resources, devices: Option<&[DeviceRule]>) -> Result<Cgroup> {
        let request =
            Request { parent: &self.parent, name: "leaf", resources, devices, holder: None };
        self.cgroups.create(&request)
    }

    /// True when no hierarchy has the parent.
    fn is_clean(&self) -> bool {
        let exists = |it: &Hierarchy| file::open_dir(&it.root, &self.parent).is_ok();
        !self.cgroups.hierarchies.iter().any(exists)
    }
}

/// Runs a shell script that is in the group from its first line on.
fn run_in(cgroup: &Cgroup, script: &str) -> Child {
    let gate = std::io::pipe().unwrap();
    let child = Command::new("sh")
        .args(["-c", &format!("read line; {script}")])
        .stdin(Stdio::from(OwnedFd::from(gate.0)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for (_, dir) in cgroup.directories() {
        file::write(dir, "cgroup.procs", &child.id().to_string()).unwrap();
    }
    rustix::io::write(&gate.1, b"go\n").unwrap();
    child
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

fn text(cgroup: &Cgroup, controller: Controller, v1: &str, v2: &str) -> String {
    let (hierarchy, dir) = cgroup.controller(controller).unwrap();
    let name = if hierarchy.version == Version::V1 { v1 } else { v2 };
    file::read(dir, name).unwrap().trim().to_owned()
}

fn memory_limit(cgroup: &Cgroup) -> String {
    text(cgroup, Controller::Memory, "memory.limit_in_bytes", "memory.max")
}

fn until(mut reached: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + SECONDS_10;
    while !reached() {
        assert!(std::time::Instant::now() < deadline, "waited in vain");
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        rustix::event::poll(&mut [], Some(&pause)).unwrap();
    }
}

#[test]
fn limits_are_in_force_when_create_returns_and_nothing_is_left_after_remove() {
    let Some(fixture) = Fixture::new("life") else { return };
    let resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(20_000),
        cpu_period: Some(50_000),
        memory_limit: Some(64 << 20),
        memory_swap_limit: Some(64 << 20),
        pids_limit: Some(33),
        hugepage_limits: vec![("3MB".into(), 0)],
        ..Resources::default()
    };
    let mut cgroup = fixture.create(&resources).unwrap();
    assert_eq!(memory_limit(&cgroup), (64 << 20).to_string());
    assert_eq!(text(&cgroup, Controller::Pids, "pids.max", "pids.max"), "33");
    let quota = text(&cgroup, Controller::Cpu, "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "20000" || quota == "20000 50000", "{quota}");

    // A parent of its own for the parent, and a group that a container made for itself.
    assert_eq!(cgroup.record().made_parents, std::slice::from_ref(&fixture.parent));
    for (_, dir) in cgroup.directories() {
        rustix::fs::mkdirat(dir, "inner", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    }
    cgroup.remove().unwrap();
    assert!(fixture.is_clean());
    cgroup.remove().unwrap();
    assert!(!fixture.cgroups.open(cgroup.record()).unwrap().exists());
}

#[test]
fn a_parent_goes_with_the_last_group_in_it_whoever_made_it() {
    let Some(fixture) = Fixture::new("parents") else { return };
    let parent = format!("{}/deeper", fixture.parent);
    let resources = Resources::default();
    let make = |name| {
        let request =
            Request { parent: &parent, name, resources: &resources, devices: None, holder: None };
        fixture.cgroups.create(&request).unwrap()
    };
    let (mut first, mut second) = (make("first"), make("second"));
    assert_eq!(second.record().path, Record::planned(&parent, "second", None).unwrap().path);
    assert!(second.record().made_parents.is_empty());
    first.remove().unwrap();
    assert!(!fixture.is_clean());
    second.remove().unwrap();
    assert!(fixture.is_clean());
}

#[test]
fn who_makes_a_group_wins_against_who_removes_the_parent_that_was_empty() {
    let Some(fixture) = Fixture::new("contested") else { return };
    std::thread::scope(|scope| {
        for name in ["one", "two", "three", "four"] {
            let (cgroups, parent) = (&fixture.cgroups, &fixture.parent);
            scope.spawn(move || {
                let resources = &Resources::default();
                let request = Request { parent, name, resources, devices: None, holder: None };
                for _ in 0..100 {
                    cgroups.create(&request).unwrap().remove().unwrap();
                }
            });
        }
    });
    assert!(fixture.is_clean());
}

#[test]
fn a_parent_of_somebody_else_stays() {
    let Some(fixture) = Fixture::new("foreign") else { return };
    for hierarchy in fixture.cgroups.hierarchies.iter() {
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        let relative = fixture.parent.trim_start_matches('/');
        rustix::fs::mkdirat(&hierarchy.root, relative, mode).unwrap();
        if hierarchy.has(Controller::Cpuset) && hierarchy.version == Version::V1 {
            let parent = file::open_dir(&hierarchy.root, relative).unwrap();
            cpuset::inherit(&hierarchy.root, &parent).unwrap();
        }
    }
    fixture.create(&Resources::default()).unwrap().remove().unwrap();
    for hierarchy in fixture.cgroups.hierarchies.iter() {
        let relative = fixture.parent.trim_start_matches('/');
        rustix::fs::unlinkat(&hierarchy.root, relative, rustix::fs::AtFlags::REMOVEDIR).unwrap();
    }
}

#[test]
fn a_process_that_writes_zero_to_the_joined_descriptors_is_counted_and_killed() {
    let Some(fixture) = Fixture::new("join") else { return };
    let mut cgroup = fixture.create(&Resources::default()).unwrap();
    let join = cgroup.join().unwrap();
    let legacy = join.legacy.len();
    assert_eq!(legacy + usize::from(join.unified.is_some()), cgroup.dirs.len());

    let mut child = run_in(&cgroup, "sleep 100 & sleep 100");
    until(|| cgroup.processes().unwrap().len() == 3);
    assert!(cgroup.processes().unwrap().contains(&pid(&child)));
    assert_eq!(cgroup.remove().unwrap_err().kind(), Kind::Busy);

    let again = fixture.cgroups.open(cgroup.record()).unwrap();
    // The shell is our zombie until it is waited for, and it counts until then.
    let killer = std::thread::spawn(move || again.kill(SECONDS_10));
    assert!(!child.wait().unwrap().success());
    killer.join().unwrap().unwrap();
    cgroup.remove().unwrap();
    assert!(fixture.is_clean());
}

#[test]
fn a_single_threaded_process_moves_itself_through_tasks() {
    let Some(fixture) = Fixture::new("tasks") else { return };
    let mut cgroup = fixture.create(&Resources::default()).unwrap();
    for tasks in cgroup.join().unwrap().legacy {
        let script = "echo 0; cat /proc/self/cgroup >&2";
        let child =
            Command::new("sh").args(["-c", script]).stdout(tasks).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        let groups = String::from_utf8(output.stderr).unwrap();
        assert!(groups.contains(&cgroup.record().path), "{groups}");
    }
    cgroup.remove().unwrap();
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_and_everything_stays() {
    let Some(fixture) = Fixture::new("shrink") else { return };
    let limits = |memory: i64| Resources {
        memory_limit: Some(memory),
        memory_swap_limit: Some(memory),
        pids_limit: Some(memory >> 20),
        ..Resources::default()
    };
    let mut cgroup = fixture.create(&limits(128 << 20)).unwrap();
    // dd fills its buffer and then waits for a reader of the pipe.
    let mut child = run_in(&cgroup, "exec dd if=/dev/zero bs=48M");
    until(|| cgroup.stats().unwrap().memory.working_set > 48 << 20);

    let error = cgroup.update(&limits(16 << 20)).unwrap_err();
    assert_eq!(error.kind(), Kind::WrongState);
    assert!(error.to_string().starts_with("memory_limit: 16777216 is below"), "{error}");
    assert_eq!(memory_limit(&cgroup), (128 << 20).to_string());
    assert_eq!(text(&cgroup, Controller::Pids, "pids.max", "pids.max"), "128");

    // A refusal by the kernel in the middle puts back what was written before.
    let bad = Resources { cpuset_cpus: Some("999999".into()), ..limits(256 << 20) };
    let error = cgroup.update(&bad).unwrap_err();
    assert!(error.chain().contains("cpuset.cpus"), "{}", error.chain());
    assert_eq!(memory_limit(&cgroup), (128 << 20).to_string());

    for size in [256 << 20, 64 << 20] {
        cgroup.update(&limits(size)).unwrap();
        let memory = cgroup.stats().unwrap().memory;
        let oom_kills = cgroup.details().unwrap().memory.oom_kills;
        assert_eq!((memory.limit, oom_kills), (u64::try_from(size).ok(), 0));
        let used = memory.limit.unwrap() - memory.available.unwrap();
        assert!(memory.rss > 40 << 20 && used == memory.working_set, "{memory:?}");
    }
    cgroup.update(&limits(-1)).unwrap();
    assert_eq!(cgroup.stats().unwrap().memory.limit, None);

    child.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
    assert!(fixture.is_clean());
}

#[test]
fn a_group_that_cannot_be_made_as_asked_is_not_made_at_all() {
    let Some(fixture) = Fixture::new("refused") else { return };
    let resources = |unified: &str| Resources {
        unified: [(unified.to_owned(), "1".to_owned())].into(),
        ..Resources::default()
    };
    let error = fixture.create(&resources("nothing.here")).unwrap_err();
    assert!(error.chain().contains("nothing.here"), "{}", error.chain());
    let error = fixture.create(&resources("../x.y")).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let too_many = Resources { cpuset_cpus: Some("100000".into()), ..Resources::default() };
    assert_eq!(fixture.create(&too_many).unwrap_err().kind(), Kind::InvalidArgument);
    assert!(fixture.is_clean());
}

#[test]
fn frozen_processes_do_not_run_until_thawed() {
    let Some(fixture) = Fixture::new("freeze") else { return };
    let mut cgroup = fixture.create(&Resources::default()).unwrap();
    let mut child = run_in(&cgroup, "while :; do :; done");
    until(|| cgroup.stats().unwrap().cpu.usage_ns > 1_000_000);

    cgroup.freeze().unwrap();
    let before = cgroup.stats().unwrap().cpu.usage_ns;
    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    rustix::event::poll(&mut [], Some(&pause)).unwrap();
    assert_eq!(cgroup.stats().unwrap().cpu.usage_ns, before);
    cgroup.thaw().unwrap();
    until(|| cgroup.stats().unwrap().cpu.usage_ns > before);

    child.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove().unwrap();
}

/// Reads what it may not, and does what it may, of the rules below.
const DEVICE_SCRIPT: &str = "echo x > /dev/null && ! head -c 1 /dev/zero >&2 && \
                             head -c 1 /dev/urandom >&2 && ! echo x > /dev/urandom";

fn device_rules() -> [DeviceRule; 2] {
    let rule = |minor, write| DeviceRule {
        device: DeviceType::Character,
        major: Some(1),
        minor: Some(minor),
        access: DeviceAccess { read: true, write, mknod: false },
    };
    [rule(3, true), rule(9, false)]
}

#[test]
fn only_the_devices_of_the_rules_open() {
    let Some(fixture) = Fixture::new("devices") else { return };
    let mut cgroup = fixture.create_with(&Resources::default(), Some(&device_rules())).unwrap();
    let mut child = run_in(&cgroup, DEVICE_SCRIPT);
    assert!(child.wait().unwrap().success());
    cgroup.remove().unwrap();
}

#[test]
fn the_program_of_v2_decides_as_the_files_of_v1_do() {
    let Some(fixture) = Fixture::new("program") else { return };
    let mut cgroup = fixture.create(&Resources::default()).unwrap();
    let Some((_, dir)) = cgroup.unified() else { return };
    devices::attach(dir, &device_rules()).unwrap();
    let mut child = run_in(&cgroup, DEVICE_SCRIPT);
    assert!(child.wait().unwrap().success());
    cgroup.remove().unwrap();
}

#[test]
fn a_slice_without_systemd_is_refused_in_words() {
    if systemd::is_running() || !rustix::process::geteuid().is_root() {
        return;
    }
    let resources = Resources::default();
    let request = Request {
        parent: "/kubepods.slice/kubepods-ct_conf.slice",
        name: "leaf",
        resources: &resources,
        devices: None,
        holder: None,
    };
    let error = Cgroups::detect().unwrap().create(&request).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().starts_with("cgroup_parent: kubepods-ct_conf.slice"), "{error}");
}
