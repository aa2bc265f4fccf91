//! What the kernel itself says of a pod's and a container's cgroup, read from the files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::node::{Container, Pod};

/// A cgroup in all hierarchies there are.
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    pub(crate) fn of_pod(pod: &Pod<'_>) -> Self {
        Self { path: PathBuf::from(&pod.node.name).join(&pod.id) }
    }

    pub(crate) fn of_container(pod: &Pod<'_>, container: &Container<'_>) -> Self {
        Self { path: PathBuf::from(&pod.node.name).join(&pod.id).join(&container.id) }
    }

    /// That of a process, which has the same path in all hierarchies.
    pub(crate) fn of_process(pid: i64) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let line = text.lines().find(|line| line.starts_with("0::")).or(text.lines().next());
        let path = line.and_then(|line| line.splitn(3, ':').nth(2)).unwrap();
        Self { path: PathBuf::from(path.trim_start_matches('/')) }
    }

    /// The content of the v1 file in the controller's hierarchy, or of the v2 file.
    pub(crate) fn text(&self, controller: &str, v1: &str, v2: &str) -> Option<String> {
        let root = Path::new("/sys/fs/cgroup");
        let legacy = fs::read_to_string(root.join(controller).join(&self.path).join(v1));
        legacy.ok().or_else(|| self.unified(v2))
    }

    /// The content of a v2 file.
    pub(crate) fn unified(&self, name: &str) -> Option<String> {
        let root = Path::new("/sys/fs/cgroup");
        let read = |root: PathBuf| fs::read_to_string(root.join(&self.path).join(name)).ok();
        read(root.join("unified")).or_else(|| read(root.to_owned()))
    }

    /// Writes the v1 file in the controller's hierarchy, or the v2 file.
    pub(crate) fn write(&self, controller: &str, v1: &str, v2: &str, value: &str) {
        let root = Path::new("/sys/fs/cgroup");
        let legacy = root.join(controller).join(&self.path).join(v1);
        let unified =
            [root.join("unified"), root.to_owned()].map(|it| it.join(&self.path).join(v2));
        let file = std::iter::once(legacy).chain(unified).find(|file| file.exists());
        let file = file.unwrap_or_else(|| panic!("neither {v1} nor {v2} in {:?}", self.path));
        fs::write(&file, value).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    }

    /// The processes of the group, as the host numbers them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let text = self.text("pids", "cgroup.procs", "cgroup.procs").unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// As [`Self::text`]; `max` and what is no number are `None`.
    pub(crate) fn number(&self, controller: &str, v1: &str, v2: &str) -> Option<u64> {
        self.text(controller, v1, v2)?.trim().parse().ok()
    }

    /// The value behind the v1 or the v2 key of `memory.stat`.
    pub(crate) fn memory_stat(&self, v1: &str, v2: &str) -> u64 {
        let text = self.text("memory", "memory.stat", "memory.stat").expect("memory.stat");
        keyed(&text, v1).or_else(|| keyed(&text, v2)).unwrap_or_else(|| panic!("{v1}: {text}"))
    }

    pub(crate) fn cpu_nanoseconds(&self) -> u64 {
        let unified = self.unified("cpu.stat").and_then(|text| keyed(&text, "usage_usec"));
        let microseconds = unified.map(|microseconds| microseconds * 1000);
        microseconds.or_else(|| self.number("cpuacct", "cpuacct.usage", "-")).expect("CPU time")
    }

    pub(crate) fn has_pressure(&self, of: &str) -> bool {
        self.unified(&format!("{of}.pressure")).is_some_and(|text| text.starts_with("some"))
    }
}

pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Asserts that a figure is within 1 % of what the kernel said before and after it was taken.
#[track_caller]
pub(crate) fn assert_within(what: &str, figure: u64, before: u64, after: u64) {
    let (low, high) = (before.min(after), before.max(after));
    assert!(
        figure >= low - low / 100 && figure <= high + high / 100,
        "{what}: {figure}, but the kernel said {before} before and {after} after"
    );
}
