//! Memory of an engine's processes, while it keeps a number of pods.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::usage::Usage;

/// The program that the benchmark's containers run: it is no part of an engine.
const WORKLOAD: &str = "sleep";

/// Processes of one name, in KiB.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) processes: usize,
    /// Clean and dirty pages that no other process maps.
    pub(crate) private: u64,
    /// Shared pages in equal parts to all that map them.
    pub(crate) pss: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) pods: usize,
    pub(crate) daemon: Group,
    /// What else the engine keeps, by the name of the program.
    pub(crate) helpers: BTreeMap<String, Group>,
}

impl Memory {
    pub(crate) fn private_per_pod(&self) -> f64 {
        let private: u64 = self.helpers.values().map(|group| group.private).sum();
        private as f64 / self.pods.max(1) as f64
    }
}

pub(crate) fn read(usage: &Usage, daemon: u32, pods: usize) -> Result<Memory> {
    let program = executable(daemon);
    let mut memory = Memory { pods, daemon: Group::default(), helpers: BTreeMap::new() };
    for pid in usage.processes()? {
        let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
        if name.trim_end() == WORKLOAD {
            continue;
        }
        let group = match executable(pid) == program {
            true => &mut memory.daemon,
            false => memory.helpers.entry(name.trim_end().to_owned()).or_default(),
        };
        group.add(pid);
    }
    Ok(memory)
}

impl Group {
    /// A process that just ended is left out.
    fn add(&mut self, pid: u32) {
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return };
        let field = |name: &str| {
            let line = rollup.lines().find(|line| line.split(':').next() == Some(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        self.processes += 1;
        self.private += field("Private_Clean") + field("Private_Dirty");
        self.pss += field("Pss");
    }
}

fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}
