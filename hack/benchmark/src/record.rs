//! What a measurement leaves: a JSON file with the machine, the parameters, the table and every raw sample.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::statistics::{Ratio, median, percentile, ratio_of_medians};
use crate::{Doing, Result};

#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) title: String,
    pub(crate) at: String,
    pub(crate) machine: Machine,
    /// The names of the two columns.
    pub(crate) sides: [String; 2],
    pub(crate) parameters: BTreeMap<String, String>,
    /// What a reader must know to judge the numbers.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Side, then what was measured.
    pub(crate) samples: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: String,
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    pub(crate) ratio: f64,
    /// Bounds of the 95 % interval, for ratios of medians.
    pub(crate) interval: Option<(f64, f64)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory_gib: u64,
    pub(crate) cgroup: String,
    /// The load when the measurement began: others on the machine disturb it.
    pub(crate) load: String,
    /// Of the switches that would make pods start faster for any engine.
    pub(crate) rcu_expedited: String,
    pub(crate) favordynmods: bool,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let cpuinfo = read("/proc/cpuinfo");
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let mounts = read("/proc/self/mountinfo");
        let cgroup = match (mounts.contains(" - cgroup "), mounts.contains(" - cgroup2 ")) {
            (true, true) => "v1 with an empty v2 beside it (hybrid)",
            (true, false) => "v1",
            (false, _) => "v2",
        };
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&cpuinfo, "model name"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib.div_ceil(1 << 20),
            cgroup: cgroup.to_owned(),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            rcu_expedited: read("/sys/kernel/rcu_expedited").trim().to_owned(),
            favordynmods: mounts.contains("favordynmods"),
        }
    }
}

impl Record {
    pub(crate) fn new(title: &str, sides: [String; 2], notes: Vec<String>) -> Self {
        Self {
            title: title.to_owned(),
            at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            machine: Machine::here(),
            sides,
            parameters: BTreeMap::new(),
            notes,
            rows: Vec::new(),
            samples: BTreeMap::new(),
        }
    }

    pub(crate) fn parameter(&mut self, name: &str, value: impl ToString) {
        self.parameters.insert(name.to_owned(), value.to_string());
    }

    /// Adds rows for the median and the 99th percentile of samples that both sides have.
    pub(crate) fn compare(&mut self, what: &str, unit: &str, sample: &str) {
        let (ours, peer) = (self.sample(0, sample), self.sample(1, sample));
        let Ratio { value, low, high } = ratio_of_medians(&ours, &peer);
        let interval = Some((low, high));
        self.rows.push(Row {
            what: format!("{what}, median"),
            unit: unit.to_owned(),
            ours: median(&ours),
            peer: median(&peer),
            ratio: value,
            interval,
        });
        // Of a few samples the 99th percentile is the largest: no statement.
        if ours.len() >= 20 {
            self.row(format!("{what}, p99"), unit, percentile(&ours, 99), percentile(&peer, 99));
        }
    }

    pub(crate) fn row(&mut self, what: String, unit: &str, ours: f64, peer: f64) {
        let ratio = ours / peer;
        self.rows.push(Row { what, unit: unit.to_owned(), ours, peer, ratio, interval: None });
    }

    pub(crate) fn sample(&self, side: usize, sample: &str) -> Vec<f64> {
        let samples = self.samples.get(&self.sides[side]);
        samples.and_then(|samples| samples.get(sample)).cloned().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, side: usize, sample: &str, value: f64) {
        let samples = self.samples.entry(self.sides[side].clone()).or_default();
        samples.entry(sample.to_owned()).or_default().push(value);
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).doing(path.display())?;
        serde_json::from_str(&text).doing(path.display())
    }

    #[expect(clippy::disallowed_methods, reason = "a report; nothing depends on it after a crash")]
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).doing(directory.display())?;
        }
        fs::write(path, serde_json::to_vec_pretty(self)?).doing(path.display())
    }

    pub(crate) fn print(&self) {
        println!("{} ({})", self.title, self.at);
        let [ours, peer] = &self.sides;
        println!("{:<44} {ours:>14} {peer:>14} {:>8}  95 % interval", "", "ratio");
        for Row { what, unit, ours, peer, ratio, interval } in &self.rows {
            let interval =
                interval.map_or(String::new(), |(low, high)| format!("{low:.3} to {high:.3}"));
            let what = if unit.is_empty() { what.clone() } else { format!("{what} [{unit}]") };
            println!("{what:<44} {ours:>14.2} {peer:>14.2} {ratio:>8.3}  {interval}");
        }
    }
}
