//! `HostConfig`: what the machine gives to a container, and what it holds back.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Flags, Members, Refused, Surroundings, mounts, values};

impl Flags {
    pub(super) fn host_config(
        &self,
        ports: Value,
        binds: Vec<String>,
        network_mode: &str,
        around: Surroundings,
    ) -> Result<Value, Refused> {
        let mut host = Members::default();
        host.set("Binds", binds);
        host.set("PortBindings", ports);
        host.set("NetworkMode", network_mode);
        host.set("ContainerIDFile", self.cidfile.as_str());
        host.set("RestartPolicy", self.restart_policy()?);
        host.set("AutoRemove", self.rm);
        host.set("PublishAllPorts", self.publish_all);
        host.set("Links", self.link.clone());
        host.set("Mounts", mounts::mounts(&self.mount)?);
        host.set("Tmpfs", values::tmpfs(&self.tmpfs));
        host.set("VolumesFrom", self.volumes_from.clone());
        host.set("VolumeDriver", self.volume_driver.as_str());
        host.set("ReadonlyRootfs", self.read_only);
        host.set("LogConfig", self.log_config()?);
        host.set("Dns", self.dns.clone());
        host.set("DnsOptions", self.dns_option.clone());
        host.set("DnsSearch", self.dns_search.clone());
        host.set("ExtraHosts", values::extra_hosts(&self.add_host)?);
        host.set("StorageOpt", values::pairs(&self.storage_opt));
        host.set("Annotations", values::pairs(&self.annotation));
        host.set("Runtime", self.runtime.as_str());
        host.set("Isolation", self.isolation.as_str());
        if self.init {
            host.set("Init", true);
        }
        if let (true, Some((rows, columns))) = (self.tty, around.console) {
            host.set("ConsoleSize", json!([rows, columns]));
        }
        self.namespaces(&mut host);
        self.confinement(&mut host)?;
        self.limits(&mut host)?;
        self.devices(&mut host)?;
        Ok(host.into_value())
    }

    fn namespaces(&self, host: &mut Members) {
        host.set("IpcMode", self.ipc.as_str());
        host.set("PidMode", self.pid.as_str());
        host.set("UTSMode", self.uts.as_str());
        host.set("UsernsMode", self.userns.as_str());
        host.set("CgroupnsMode", self.cgroupns.as_str());
        host.set("CgroupParent", self.cgroup_parent.as_str());
        host.set("Sysctls", values::pairs(&self.sysctl));
    }

    fn confinement(&self, host: &mut Members) -> Result<(), Refused> {
        host.set("Privileged", self.privileged);
        let (add, drop) = values::capabilities(&self.cap_add, &self.cap_drop);
        host.set("CapAdd", add);
        host.set("CapDrop", drop);
        host.set("GroupAdd", self.group_add.clone());
        let mut options = Vec::new();
        for option in &self.security_opt {
            if option == "systempaths=unconfined" {
                // Empty lists, which are not the same as none.
                host.0.insert("MaskedPaths".to_owned(), json!([]));
                host.0.insert("ReadonlyPaths".to_owned(), json!([]));
                continue;
            }
            options.push(security_option(option)?);
        }
        host.set("SecurityOpt", options);
        Ok(())
    }

    fn limits(&self, host: &mut Members) -> Result<(), Refused> {
        host.set("Memory", self.memory);
        host.set("MemoryReservation", self.memory_reservation);
        host.set("MemorySwap", self.memory_swap);
        host.set("MemorySwappiness", self.memory_swappiness.filter(|it| *it != -1));
        host.set("OomKillDisable", self.oom_kill_disable);
        host.set("OomScoreAdj", self.oom_score_adj);
        host.set("NanoCpus", self.cpus);
        host.set("CpuShares", self.cpu_shares);
        host.set("CpuPeriod", self.cpu_period);
        host.set("CpuQuota", self.cpu_quota);
        host.set("CpuRealtimePeriod", self.cpu_rt_period);
        host.set("CpuRealtimeRuntime", self.cpu_rt_runtime);
        host.set("CpusetCpus", self.cpuset_cpus.as_str());
        host.set("CpusetMems", self.cpuset_mems.as_str());
        host.set("PidsLimit", self.pids_limit);
        host.set("ShmSize", self.shm_size);
        host.set("BlkioWeight", self.blkio_weight);
        let ulimits: Result<Vec<_>, _> = self.ulimit.iter().map(|it| values::ulimit(it)).collect();
        host.set("Ulimits", ulimits?);
        for (key, flag, texts, rate) in [
            (
                "BlkioWeightDevice",
                "blkio-weight-device",
                &self.blkio_weight_device,
                values::Rate::Weight,
            ),
            ("BlkioDeviceReadBps", "device-read-bps", &self.device_read_bps, values::Rate::Bytes),
            (
                "BlkioDeviceWriteBps",
                "device-write-bps",
                &self.device_write_bps,
                values::Rate::Bytes,
            ),
            (
                "BlkioDeviceReadIOps",
                "device-read-iops",
                &self.device_read_iops,
                values::Rate::Count,
            ),
            (
                "BlkioDeviceWriteIOps",
                "device-write-iops",
                &self.device_write_iops,
                values::Rate::Count,
            ),
        ] {
            let parsed: Result<Vec<_>, _> = texts
                .iter()
                .map(|text| {
                    values::device_rate(text, rate).map_err(|what| {
                        format!("invalid argument {text:?} for \"--{flag}\" flag: {what}")
                    })
                })
                .collect();
            host.set(key, parsed?);
        }
        Ok(())
    }

    fn devices(&self, host: &mut Members) -> Result<(), Refused> {
        let (mut nodes, mut requests) = (Vec::new(), Vec::new());
        let mut cdi = Vec::new();
        for text in &self.device {
            match values::device(text)? {
                values::Device::Node(node) => nodes.push(node),
                values::Device::Cdi(name) => cdi.push(name),
            }
        }
        for text in &self.gpus {
            requests.push(values::gpus(text)?);
        }
        if !cdi.is_empty() {
            requests.push(json!({ "Driver": "cdi", "DeviceIDs": cdi }));
        }
        host.set("Devices", nodes);
        host.set("DeviceRequests", requests);
        host.set("DeviceCgroupRules", self.device_cgroup_rule.clone());
        Ok(())
    }

    fn restart_policy(&self) -> Result<Value, Refused> {
        let policy = restart_policy(&self.restart)?;
        if self.rm && policy.as_object().is_some_and(|it| !it.is_empty()) {
            return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
        }
        Ok(policy)
    }

    fn log_config(&self) -> Result<Value, Refused> {
        if self.log_driver == "none" && !self.log_opt.is_empty() {
            return Err("invalid logging opts for driver none".to_owned());
        }
        let mut log = Members::default();
        log.set("Type", self.log_driver.as_str());
        log.set("Config", values::pairs(&self.log_opt));
        Ok(log.into_value())
    }
}

/// `no`, `always`, `unless-stopped`, `on-failure[:N]`; nothing for `no`.
pub(crate) fn restart_policy(text: &str) -> Result<Value, Refused> {
    let (name, most) = match text.split_once(':') {
        Some((name, most)) => (name, Some(most)),
        None => (text, None),
    };
    if name.is_empty() && most.is_some() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let mut policy = Map::new();
    if let Some(most) = most {
        let most: i64 = most.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?;
        policy.insert("MaximumRetryCount".to_owned(), most.into());
    }
    if !matches!(name, "" | "no") {
        policy.insert("Name".to_owned(), name.into());
    }
    Ok(Value::Object(policy))
}

/// A seccomp profile is a file here, and goes to the daemon as what stands in it.
fn security_option(option: &str) -> Result<String, Refused> {
    let (name, value) = match option.split_once(['=', ':']) {
        Some(pair) => pair,
        None if option == "no-new-privileges" => return Ok(option.to_owned()),
        None => return Err(format!("invalid --security-opt: {option:?}")),
    };
    if name != "seccomp" || matches!(value, "unconfined" | "builtin") {
        return Ok(option.to_owned());
    }
    let path = Path::new(value);
    let text = fs::read_to_string(path)
        .map_err(|it| format!("opening seccomp profile ({value}) failed: {it}"))?;
    let profile: Value = serde_json::from_str(&text)
        .map_err(|it| format!("compacting json for seccomp profile ({value}) failed: {it}"))?;
    Ok(format!("seccomp={profile}"))
}
