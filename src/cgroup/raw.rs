//! Figures as the kernel's own files name them, for those whose readers know these files.

use std::collections::BTreeMap;

use super::controller::{Controller, Version};
use super::{Cgroup, file};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Raw {
    /// Of `memory.stat`.
    pub(crate) memory: BTreeMap<String, u64>,
    /// Nanoseconds used of each CPU; only v1 tells them apart.
    pub(crate) cpu_ns: Vec<u64>,
    /// The memory controller is one of version 1.
    pub(crate) is_memory_v1: bool,
}

impl Cgroup {
    /// A group that is gone gives nothing.
    pub(crate) fn raw(&self) -> Result<Raw> {
        let mut raw = Raw::default();
        if let Some((hierarchy, dir)) = self.controller(Controller::Memory) {
            raw.memory = parse(&self.text(dir, "memory.stat")?);
            raw.is_memory_v1 = hierarchy.version == Version::V1;
        }
        if let Some((hierarchy, dir)) = self.controller(Controller::Cpuacct)
            && hierarchy.version == Version::V1
        {
            let text = self.text(dir, "cpuacct.usage_percpu")?;
            raw.cpu_ns = text.split_whitespace().filter_map(file::parse_number).collect();
        }
        Ok(raw)
    }
}

fn parse(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(key, value)| Some((key.to_owned(), file::parse_number(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_file_is_a_figure() {
        let figures = parse("anon 4096\ninactive_file 0\nnonsense\nodd x\n");
        assert!(figures.into_iter().eq([("anon".to_owned(), 4096), ("inactive_file".into(), 0)]));
    }
}
