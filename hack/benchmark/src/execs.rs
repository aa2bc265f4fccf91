//! Counts the programs that an engine executes, with the kernel's own trace.
//!
//! Forks and executions of the whole machine are recorded; those that descend from a process of the engine count.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Doing, Result};

pub(crate) struct Trace {
    /// A trace instance of our own: others may trace at the same time.
    instance: PathBuf,
    /// Thread numbers that belong to the engine.
    family: HashSet<u32>,
}

impl Trace {
    pub(crate) fn of(tracefs: &Path, processes: &[u32]) -> Result<Self> {
        let family = processes.iter().flat_map(|&pid| threads(pid)).collect();
        let name = format!("cais-bench-{}", std::process::id());
        let trace = Self { instance: tracefs.join("instances").join(name), family };
        fs::create_dir(&trace.instance).doing(trace.instance.display())?;
        trace.set("buffer_size_kb", "8192")?;
        trace.set("events/sched/sched_process_fork/enable", "1")?;
        trace.set("events/sched/sched_process_exec/enable", "1")?;
        Ok(trace)
    }

    /// Programs executed since the beginning, by name.
    pub(crate) fn count(mut self) -> Result<BTreeMap<String, usize>> {
        self.set("tracing_on", "0")?;
        let text = fs::read_to_string(self.instance.join("trace")).doing("read the trace")?;
        let mut programs = BTreeMap::new();
        for line in text.lines() {
            if let Some((_, fork)) = line.split_once(" sched_process_fork: ") {
                let parent = number(fork, " pid=");
                if let (Some(parent), Some(child)) = (parent, number(fork, " child_pid="))
                    && self.family.contains(&parent)
                {
                    self.family.insert(child);
                }
            } else if let Some((_, exec)) = line.split_once(" sched_process_exec: ") {
                // A thread that executes takes the number of its process; `old_pid` is what it had.
                let thread = number(exec, " old_pid=");
                if thread.is_some_and(|thread| self.family.contains(&thread)) {
                    let path = exec.split_once("filename=").map_or("", |(_, rest)| rest);
                    let path = path.split(" pid=").next().unwrap_or_default();
                    *programs.entry(path.to_owned()).or_insert(0) += 1;
                }
            }
        }
        Ok(programs)
    }

    #[expect(clippy::disallowed_methods, reason = "a kernel file, written in place")]
    fn set(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.instance.join(file), value).doing(file)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.instance);
    }
}

fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn number(line: &str, field: &str) -> Option<u32> {
    let (_, rest) = line.split_once(field)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
