//! `update`.

use clap::Args;

use crate::Cais;
use crate::client::Path;
use crate::create::{Members, host, values};
use crate::error::{Failure, Result};
use crate::{output, units};

/// Update configuration of one or more containers
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long)]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long)]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_parser = values::cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, default_value = "")]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, default_value = "")]
    cpuset_mems: String,
    /// Memory limit
    #[arg(short, long, value_parser = units::parse_bytes)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_parser = units::parse_bytes)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_parser = values::swap)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long)]
    restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Update {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let body = self.body()?;
        if body.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(Failure::new("you must provide one or more flags when using this command"));
        }
        let (mut warnings, mut failures) = (Vec::new(), Vec::new());
        for name in &self.containers {
            match cais.client.post_json(Path::new(&["containers", name, "update"]), &body) {
                Ok(reply) => {
                    output::line(name)?;
                    warnings
                        .extend(reply["Warnings"].items().iter().map(|it| it.text().to_owned()));
                }
                Err(failure) => failures.push(failure.message),
            }
        }
        if !warnings.is_empty() {
            output::notice(&warnings.join("\n"));
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n"))) }
    }

    fn body(&self) -> Result<serde_json::Value> {
        let mut body = Members::default();
        body.set("BlkioWeight", self.blkio_weight);
        body.set("CpuPeriod", self.cpu_period);
        body.set("CpuQuota", self.cpu_quota);
        body.set("CpuRealtimePeriod", self.cpu_rt_period);
        body.set("CpuRealtimeRuntime", self.cpu_rt_runtime);
        body.set("CpuShares", self.cpu_shares);
        body.set("NanoCpus", self.cpus);
        body.set("CpusetCpus", self.cpuset_cpus.as_str());
        body.set("CpusetMems", self.cpuset_mems.as_str());
        body.set("Memory", self.memory);
        body.set("MemoryReservation", self.memory_reservation);
        body.set("MemorySwap", self.memory_swap);
        body.set("PidsLimit", self.pids_limit);
        if let Some(restart) = &self.restart {
            let mut policy = host::restart_policy(restart).map_err(Failure::new)?;
            // Here "no" is a change, and an empty name would be none.
            if policy.get("Name").is_none() {
                policy["Name"] = "no".into();
            }
            body.set("RestartPolicy", policy);
        }
        Ok(body.into_value())
    }
}
