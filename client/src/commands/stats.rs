//! `stats`.

use clap::Args;

use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::table::{Format, Kind, Row, short_id};
use crate::{output, units};

/// Display a live stream of container(s) resource usage statistics
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    pub(crate) format: String,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

const KIND: Kind = Kind {
    type_name: "*formatter.statsContext",
    heads: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\\t{{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.MemPerc}}\\t{{.NetIO}}\\t{{.BlockIO}}\\t{{.PIDs}}",
};

impl Stats {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let format = Format::choose(&self.format, &KIND)?;
        let clears = self.format.is_empty() && output::is_terminal() && !self.no_stream;
        loop {
            let names = self.names(cais)?;
            let rows = self.rows(cais, &names)?;
            if clears {
                output::raw("\x1b[2J\x1b[H")?;
            }
            format.print(&KIND, rows)?;
            if self.no_stream {
                return Ok(());
            }
            // Each sample takes the daemon a second; without one there is nothing that sets the pace.
            if names.is_empty() {
                pause();
            }
        }
    }

    fn names(&self, cais: &Cais) -> Result<Vec<String>> {
        if !self.containers.is_empty() {
            return Ok(self.containers.clone());
        }
        let listed =
            cais.client.read(Path::new(&["containers", "json"]).with_flag("all", self.all))?;
        Ok(listed.items().iter().map(|it| it["Id"].text().to_owned()).collect())
    }

    /// All at once: a sample takes its time.
    fn rows(&self, cais: &Cais, names: &[String]) -> Result<Vec<Row>> {
        let samples: Vec<Result<Value>> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                names.iter().map(|name| scope.spawn(|| sample(cais, name))).collect();
            let joined = asking.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|it| it.unwrap_or_else(|_| Err(Failure::new("a sample was lost")))).collect()
        });
        let mut rows = Vec::new();
        for (name, sample) in names.iter().zip(samples) {
            match sample {
                Ok(sample) => rows.push(self.row(name, &sample)),
                // Of those that were not named, one may have gone meanwhile.
                Err(failure) if self.containers.is_empty() && failure.is_not_found() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(rows)
    }

    fn row(&self, name: &str, sample: &Value) -> Row {
        let id = sample["id"].text();
        let (used, limit) = memory(&sample["memory_stats"]);
        let share = if limit > 0.0 { used / limit * 100.0 } else { 0.0 };
        let (received, sent) = network(&sample["networks"]);
        let (read, written) = block(&sample["blkio_stats"]);
        vec![
            ("Container", name.into()),
            ("Name", sample["name"].text().trim_start_matches('/').into()),
            ("ID", if self.no_trunc { id.to_owned() } else { short_id(id) }.into()),
            ("CPUPerc", format!("{:.2}%", processor(sample)).into()),
            (
                "MemUsage",
                format!("{} / {}", units::binary_size(used), units::binary_size(limit)).into(),
            ),
            ("MemPerc", format!("{share:.2}%").into()),
            ("NetIO", format!("{} / {}", units::size(received, 3), units::size(sent, 3)).into()),
            ("BlockIO", format!("{} / {}", units::size(read, 3), units::size(written, 3)).into()),
            ("PIDs", sample["pids_stats"]["current"].integer().to_string().into()),
        ]
    }
}

/// Two readings, a second apart.
fn sample(cais: &Cais, name: &str) -> Result<Value> {
    cais.client.read(Path::new(&["containers", name, "stats"]).with("stream", "0"))
}

/// Per cent of one CPU, between the two readings.
fn processor(sample: &Value) -> f64 {
    let (now, before) = (&sample["cpu_stats"], &sample["precpu_stats"]);
    let used = now["cpu_usage"]["total_usage"].float() - before["cpu_usage"]["total_usage"].float();
    let system = now["system_cpu_usage"].float() - before["system_cpu_usage"].float();
    let mut count = now["online_cpus"].float();
    if count == 0.0 {
        let each = now["cpu_usage"]["percpu_usage"].items().len();
        count = f64::from(u32::try_from(each).unwrap_or(0));
    }
    if used > 0.0 && system > 0.0 { used / system * count * 100.0 } else { 0.0 }
}

/// What is used without pages that could be dropped at once, and the limit.
fn memory(stats: &Value) -> (f64, f64) {
    let usage = stats["usage"].float();
    let inactive =
        ["total_inactive_file", "inactive_file"].iter().find_map(|key| stats["stats"].member(key));
    let inactive = inactive.map(Value::float).filter(|it| *it < usage);
    (usage - inactive.unwrap_or(0.0), stats["limit"].float())
}

fn network(networks: &Value) -> (f64, f64) {
    let sum = |key: &str| networks.members().iter().map(|(_, it)| it[key].float()).sum();
    (sum("rx_bytes"), sum("tx_bytes"))
}

fn block(stats: &Value) -> (f64, f64) {
    let sum = |letter: char| {
        let records = stats["io_service_bytes_recursive"].items().iter();
        let of_kind = records.filter(|it| it["op"].text().to_lowercase().starts_with(letter));
        of_kind.map(|it| it["value"].float()).sum()
    };
    (sum('r'), sum('w'))
}

#[expect(clippy::disallowed_methods, reason = "nothing is there to wait for")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_secs(1));
}
