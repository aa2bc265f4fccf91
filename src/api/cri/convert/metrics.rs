//! Metrics, under the names, labels and units that cAdvisor gave them: kubelet passes them on as they
//! are, and dashboards know them so.
//!
//! A row of [`FAMILIES`] is one metric: its name, what it is, and where its figures come from. The
//! interface has whole numbers only, so seconds are cut. A figure that the kernel does not give is
//! absent: the metric is described all the same.

use std::slice::Iter;

use cais_proto::runtime::v1::{
    ContainerMetrics as CriContainerMetrics, Metric, MetricDescriptor, MetricType,
    PodSandboxMetrics, UInt64Value,
};

use crate::cgroup::{Details, Io, Pressure, Stats};
use crate::engine::container::phase::Phase;
use crate::engine::stats::metrics::{ContainerMetrics, FileSystem, PodMetrics, block_device};
use crate::net::stats::{Counters, InterfaceStats};

/// The labels that every metric has, in the order of [`Labels::values`].
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// What a pod's own network is called where containers are counted.
const POD_NETWORK: &str = "POD";

pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    let describe = |family: &Family| MetricDescriptor {
        name: family.name.to_owned(),
        help: family.help.to_owned(),
        label_keys: LABELS.iter().chain(family.labels).map(|key| (*key).to_owned()).collect(),
    };
    FAMILIES.iter().map(describe).collect()
}

pub(crate) fn pod(metrics: &PodMetrics, file_system: &FileSystem) -> PodSandboxMetrics {
    let PodMetrics { stats, details, containers } = metrics;
    let config = &stats.pod.config;
    let labels = Labels {
        container: "",
        id: &stats.pod.cgroup.path,
        image: "",
        name: "",
        namespace: &config.namespace,
        pod: &config.name,
    };
    let network = Labels { container: POD_NETWORK, name: stats.pod.id.as_str(), ..labels };
    let mut own = Vec::new();
    for family in FAMILIES {
        match (family.of, &stats.cgroup) {
            (Of::Group(read), Some(cgroup)) => {
                own.extend(family.metrics(&labels, read(cgroup, details)));
            }
            (Of::Interface(read), _) => {
                let of_one = |InterfaceStats { name, counters }: &InterfaceStats| {
                    Sample::labelled([name.as_str()], read(counters))
                };
                own.extend(family.metrics(&network, stats.network.iter().map(of_one).collect()));
            }
            (Of::Group(_), None) | (Of::Container(_), _) => {}
        }
    }
    let of_containers = containers.iter().map(|it| container(it, &labels, file_system));
    PodSandboxMetrics {
        pod_sandbox_id: stats.pod.id.to_string(),
        metrics: own,
        container_metrics: of_containers.collect(),
    }
}

fn container(
    metrics: &ContainerMetrics,
    of_pod: &Labels<'_>,
    file_system: &FileSystem,
) -> CriContainerMetrics {
    let container = &metrics.stats.container;
    let config = &container.config;
    let named_by_user = Some(&config.user_specified_image).filter(|image| !image.is_empty());
    let labels = Labels {
        container: &config.name,
        id: &container.cgroup.path,
        image: named_by_user.unwrap_or(&config.image),
        name: container.id.as_str(),
        ..*of_pod
    };
    let mut all = Vec::new();
    for family in FAMILIES {
        let samples = match (family.of, &metrics.stats.cgroup) {
            (Of::Group(read), Some(cgroup)) => read(cgroup, &metrics.details),
            (Of::Container(read), _) => read(metrics, file_system),
            (Of::Group(_), None) | (Of::Interface(_), _) => Vec::new(),
        };
        all.extend(family.metrics(&labels, samples));
    }
    CriContainerMetrics { container_id: container.id.to_string(), metrics: all }
}

#[derive(Debug, Clone, Copy)]
struct Labels<'a> {
    container: &'a str,
    /// The cgroup.
    id: &'a str,
    image: &'a str,
    /// The container's id.
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
}

impl Labels<'_> {
    fn values(&self) -> [&str; LABELS.len()] {
        let Self { container, id, image, name, namespace, pod } = *self;
        [container, id, image, name, namespace, pod]
    }
}

/// One metric and all its samples.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    /// Beside those that every metric has.
    labels: &'static [&'static str],
    of: Of,
}

/// Where the figures of a family come from.
#[derive(Clone, Copy)]
enum Of {
    /// A cgroup: a container's, and the pod's own, which counts all that is below it.
    Group(fn(&Stats, &Details) -> Vec<Sample>),
    Container(fn(&ContainerMetrics, &FileSystem) -> Vec<Sample>),
    /// An interface of the pod's network.
    Interface(fn(&Counters) -> u64),
}

struct Sample {
    /// Values of the family's own labels.
    labels: Vec<String>,
    value: u64,
    /// When it was read, if that was not just now.
    at: i64,
}

impl Sample {
    fn labelled<const N: usize>(labels: [&str; N], value: u64) -> Self {
        Self { labels: labels.map(str::to_owned).to_vec(), value, at: 0 }
    }
}

impl Family {
    const fn new(name: &'static str, help: &'static str, kind: MetricType, of: Of) -> Self {
        Self { name, help, kind, labels: &[], of }
    }

    const fn with(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    fn metrics(&self, labels: &Labels<'_>, samples: Vec<Sample>) -> impl Iterator<Item = Metric> {
        samples.into_iter().map(|sample| Metric {
            name: self.name.to_owned(),
            timestamp: sample.at,
            metric_type: self.kind as i32,
            label_values: labels
                .values()
                .map(str::to_owned)
                .into_iter()
                .chain(sample.labels)
                .collect(),
            value: Some(UInt64Value { value: sample.value }),
        })
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    read: fn(&Stats, &Details) -> Vec<Sample>,
) -> Family {
    Family::new(name, help, MetricType::Counter, Of::Group(read))
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    read: fn(&Stats, &Details) -> Vec<Sample>,
) -> Family {
    Family::new(name, help, MetricType::Gauge, Of::Group(read))
}

const fn container_gauge(
    name: &'static str,
    help: &'static str,
    read: fn(&ContainerMetrics, &FileSystem) -> Vec<Sample>,
) -> Family {
    Family::new(name, help, MetricType::Gauge, Of::Container(read))
}

const fn interface(name: &'static str, help: &'static str, read: fn(&Counters) -> u64) -> Family {
    Family::new(name, help, MetricType::Counter, Of::Interface(read)).with(&["interface"])
}

const FAMILIES: &[Family] = &[
    counter(
        "container_cpu_user_seconds_total",
        "Seconds of CPU time spent in user mode.",
        |stats, _| one(seconds(stats.cpu.user_ns)),
    ),
    counter(
        "container_cpu_system_seconds_total",
        "Seconds of CPU time spent in the kernel.",
        |stats, _| one(seconds(stats.cpu.system_ns)),
    ),
    counter("container_cpu_usage_seconds_total", "Seconds of CPU time used.", |stats, _| {
        vec![Sample::labelled(["total"], seconds(stats.cpu.usage_ns))]
    })
    .with(&["cpu"]),
    counter(
        "container_cpu_cfs_periods_total",
        "Periods of the CPU quota that have passed.",
        |_, details| under_quota(details, details.throttling.periods),
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the CPU quota was used up.",
        |_, details| under_quota(details, details.throttling.throttled_periods),
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Seconds during which the CPU quota was used up.",
        |_, details| under_quota(details, seconds(details.throttling.throttled_ns)),
    ),
    gauge("container_memory_cache", "Bytes of page cache.", |stats, _| one(stats.memory.cache)),
    gauge("container_memory_rss", "Bytes of anonymous memory.", |stats, _| one(stats.memory.rss)),
    gauge("container_memory_kernel_usage", "Bytes of kernel memory.", |_, details| {
        one(details.memory.kernel)
    }),
    gauge("container_memory_mapped_file", "Bytes of mapped files.", |stats, _| {
        one(stats.memory.mapped_file)
    }),
    gauge("container_memory_swap", "Bytes of swap used.", |stats, _| {
        one(stats.memory.swap_usage.unwrap_or(0))
    }),
    counter("container_memory_failcnt", "How often the memory limit was hit.", |_, details| {
        one(details.memory.failures)
    }),
    gauge(
        "container_memory_usage_bytes",
        "Bytes of memory in use, page cache included.",
        |stats, _| one(stats.memory.usage),
    ),
    gauge(
        "container_memory_max_usage_bytes",
        "The most bytes of memory ever in use.",
        |_, details| one(details.memory.max_usage),
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Bytes of memory in use that the kernel cannot simply drop.",
        |stats, _| one(stats.memory.working_set),
    ),
    counter("container_memory_failures_total", "Page faults.", |stats, _| {
        let (own, all) = (stats.memory.own_faults, stats.memory.faults);
        vec![
            Sample::labelled(["pgfault", "container"], own.all),
            Sample::labelled(["pgmajfault", "container"], own.major),
            Sample::labelled(["pgfault", "hierarchy"], all.all),
            Sample::labelled(["pgmajfault", "hierarchy"], all.major),
        ]
    })
    .with(&["failure_type", "scope"]),
    gauge("container_hugetlb_usage_bytes", "Bytes of huge pages in use.", |_, details| {
        let each = details.hugetlb.iter();
        each.map(|it| Sample::labelled([it.size.as_str()], it.usage)).collect()
    })
    .with(&["pagesize"]),
    gauge(
        "container_hugetlb_max_usage_bytes",
        "The most bytes of huge pages ever in use.",
        |_, details| {
            let peak = details.hugetlb.iter().filter_map(|it| Some((&it.size, it.max_usage?)));
            peak.map(|(size, bytes)| Sample::labelled([size.as_str()], bytes)).collect()
        },
    )
    .with(&["pagesize"]),
    counter("container_fs_reads_bytes_total", "Bytes read from block devices.", |_, details| {
        by_device(details.io.iter(), |io| io.read_bytes)
    })
    .with(&["device"]),
    counter("container_fs_reads_total", "Reads from block devices.", |_, details| {
        by_device(details.io.iter(), |io| io.reads)
    })
    .with(&["device"]),
    counter("container_fs_writes_bytes_total", "Bytes written to block devices.", |_, details| {
        by_device(details.io.iter(), |io| io.write_bytes)
    })
    .with(&["device"]),
    counter("container_fs_writes_total", "Writes to block devices.", |_, details| {
        by_device(details.io.iter(), |io| io.writes)
    })
    .with(&["device"]),
    counter(
        "container_blkio_device_usage_total",
        "Bytes read from and written to block devices.",
        |_, details| details.io.iter().flat_map(read_and_written).collect(),
    )
    .with(&["device", "major", "minor", "operation"]),
    gauge("container_threads", "Processes and threads.", |stats, _| one(stats.tasks)),
    gauge(
        "container_threads_max",
        "Processes and threads that there may be; 0 is no limit.",
        |_, details| one(details.limits.tasks.unwrap_or(0)),
    ),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Seconds during which no task could go on for want of CPU time.",
        |stats, _| stalled(stats.cpu.pressure.as_ref()),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Seconds during which some task waited for CPU time.",
        |stats, _| waiting(stats.cpu.pressure.as_ref()),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Seconds during which no task could go on for want of memory.",
        |stats, _| stalled(stats.memory.pressure.as_ref()),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Seconds during which some task waited for memory.",
        |stats, _| waiting(stats.memory.pressure.as_ref()),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Seconds during which no task could go on for want of block I/O.",
        |stats, _| stalled(stats.io_pressure.as_ref()),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Seconds during which some task waited for block I/O.",
        |stats, _| waiting(stats.io_pressure.as_ref()),
    ),
    gauge(
        "container_spec_cpu_period",
        "Microseconds of a period of the CPU quota.",
        |_, details| details.limits.cpu_period_us.map_or_else(Vec::new, one),
    ),
    gauge(
        "container_spec_cpu_quota",
        "Microseconds of CPU time that may be used in a period.",
        |_, details| details.limits.cpu_quota_us.map_or_else(Vec::new, one),
    ),
    gauge("container_spec_cpu_shares", "The share of CPU time beside others.", |_, details| {
        details.limits.cpu_shares.map_or_else(Vec::new, one)
    }),
    gauge(
        "container_spec_memory_limit_bytes",
        "Bytes of memory that may be used; 0 is no limit.",
        |stats, _| one(stats.memory.limit.unwrap_or(0)),
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Bytes of swap that may be used, with memory on cgroup v1; 0 is no limit.",
        |_, details| one(details.limits.swap.unwrap_or(0)),
    ),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Bytes of memory that are kept for it under pressure; 0 is none.",
        |_, details| one(details.limits.reservation.unwrap_or(0)),
    ),
    interface("container_network_receive_bytes_total", "Bytes received.", |it| it.rx_bytes),
    interface("container_network_receive_packets_total", "Packets received.", |it| it.rx_packets),
    interface(
        "container_network_receive_packets_dropped_total",
        "Packets dropped that were received.",
        |it| it.rx_dropped,
    ),
    interface("container_network_receive_errors_total", "Errors while receiving.", |it| {
        it.rx_errors
    }),
    interface("container_network_transmit_bytes_total", "Bytes sent.", |it| it.tx_bytes),
    interface("container_network_transmit_packets_total", "Packets sent.", |it| it.tx_packets),
    interface(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped that were to be sent.",
        |it| it.tx_dropped,
    ),
    interface("container_network_transmit_errors_total", "Errors while sending.", |it| {
        it.tx_errors
    }),
    Family::new(
        "container_oom_events_total",
        "Processes killed for want of memory.",
        MetricType::Counter,
        Of::Container(|it, _| one(it.details.memory.oom_kills)),
    ),
    container_gauge("container_processes", "Processes.", |it, _| one(it.processes.count)),
    container_gauge("container_file_descriptors", "Open file descriptors.", |it, _| {
        one(it.processes.descriptors)
    }),
    container_gauge("container_sockets", "Open sockets.", |it, _| one(it.processes.sockets)),
    container_gauge("container_ulimits_soft", "Soft limits of the first process.", |it, _| {
        let limit = it.processes.open_files_limit;
        limit.map(|limit| Sample::labelled(["max_open_files"], limit)).into_iter().collect()
    })
    .with(&["ulimit"]),
    container_gauge("container_last_seen", "When it was last seen, in seconds.", |it, _| {
        one(seconds(it.stats.at.unsigned_abs()))
    }),
    container_gauge("container_start_time_seconds", "When it started, in seconds.", |it, _| {
        one(seconds(started_at(it).unsigned_abs()))
    }),
    container_gauge("container_fs_inodes_free", "Free inodes of the file system.", |_, fs| {
        vec![Sample::labelled([fs.device.as_str()], fs.free_inodes)]
    })
    .with(&["device"]),
    container_gauge("container_fs_inodes_total", "Inodes of the file system.", |_, fs| {
        vec![Sample::labelled([fs.device.as_str()], fs.inodes)]
    })
    .with(&["device"]),
    container_gauge("container_fs_limit_bytes", "Size of the file system in bytes.", |_, fs| {
        vec![Sample::labelled([fs.device.as_str()], fs.bytes)]
    })
    .with(&["device"]),
    container_gauge("container_fs_usage_bytes", "Bytes of the writable layer.", |it, fs| {
        let usage = it.stats.writable.iter();
        let sample = |at, bytes| Sample { at, ..Sample::labelled([fs.device.as_str()], bytes) };
        usage.map(|usage| sample(usage.at, usage.bytes)).collect()
    })
    .with(&["device"]),
];

fn one(value: u64) -> Vec<Sample> {
    vec![Sample::labelled([], value)]
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000_000_000
}

/// Without a quota there is nothing to be counted.
fn under_quota(details: &Details, value: u64) -> Vec<Sample> {
    details.limits.cpu_quota_us.map_or_else(Vec::new, |_| one(value))
}

fn stalled(pressure: Option<&Pressure>) -> Vec<Sample> {
    pressure.map_or_else(Vec::new, |it| one(it.full.total_us / 1_000_000))
}

fn waiting(pressure: Option<&Pressure>) -> Vec<Sample> {
    pressure.map_or_else(Vec::new, |it| one(it.some.total_us / 1_000_000))
}

fn by_device(all: Iter<'_, Io>, value: fn(&Io) -> u64) -> Vec<Sample> {
    let of_one = |io: &Io| Sample::labelled([block_device(io.major, io.minor).as_str()], value(io));
    all.map(of_one).collect()
}

fn read_and_written(io: &Io) -> [Sample; 2] {
    let device = block_device(io.major, io.minor);
    let (major, minor) = (io.major.to_string(), io.minor.to_string());
    [("Read", io.read_bytes), ("Write", io.write_bytes)].map(|(operation, bytes)| {
        Sample::labelled([device.as_str(), major.as_str(), minor.as_str(), operation], bytes)
    })
}

/// A container that has not started yet: when it was made.
fn started_at(metrics: &ContainerMetrics) -> i64 {
    let container = &metrics.stats.container;
    match container.phase {
        Phase::Running { started_at, .. } => started_at,
        Phase::Created { .. } | Phase::Exited(_) => container.created_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Stall;

    /// What critest of Kubernetes 1.37 wants described, without `container_`.
    const EXPECTED: &str = "
        blkio_device_usage_total cpu_cfs_periods_total cpu_cfs_throttled_periods_total
        cpu_cfs_throttled_seconds_total cpu_system_seconds_total cpu_usage_seconds_total
        cpu_user_seconds_total file_descriptors fs_inodes_free fs_inodes_total fs_limit_bytes
        fs_reads_bytes_total fs_reads_total fs_usage_bytes fs_writes_bytes_total
        fs_writes_total hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen memory_cache
        memory_failcnt memory_failures_total memory_kernel_usage memory_mapped_file
        memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes
        memory_working_set_bytes network_receive_bytes_total network_receive_errors_total
        network_receive_packets_dropped_total network_receive_packets_total
        network_transmit_bytes_total network_transmit_errors_total
        network_transmit_packets_dropped_total network_transmit_packets_total oom_events_total
        pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total
        pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total
        pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total processes
        sockets spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes
        spec_memory_reservation_limit_bytes spec_memory_swap_limit_bytes start_time_seconds
        threads threads_max ulimits_soft";

    /// A cgroup of which every figure is there.
    fn group() -> (Stats, Details) {
        let pressure = Pressure {
            some: Stall { total_us: 3_999_999, ..Stall::default() },
            full: Stall { total_us: 1_000_000, ..Stall::default() },
        };
        let mut stats = Stats::default();
        stats.cpu.usage_ns = 7_900_000_000;
        stats.cpu.pressure = Some(pressure.clone());
        stats.memory.pressure = Some(pressure.clone());
        stats.io_pressure = Some(pressure);
        let mut details = Details::default();
        details.limits.cpu_quota_us = Some(20_000);
        details.limits.cpu_period_us = Some(100_000);
        details.limits.cpu_shares = Some(1024);
        details.hugetlb.push(crate::cgroup::Hugetlb {
            size: "2MB".into(),
            usage: 1,
            max_usage: Some(2),
        });
        details.io.push(Io { major: 4095, minor: 7, read_bytes: 9, ..Io::default() });
        (stats, details)
    }

    fn of_group(name: &str, stats: &Stats, details: &Details) -> Vec<Sample> {
        let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
        let Of::Group(read) = family.of else { panic!("{name} is not of a cgroup") };
        read(stats, details)
    }

    #[test]
    fn every_metric_that_critest_expects_is_described_once() {
        let mut described: Vec<_> = descriptors().into_iter().map(|it| it.name).collect();
        described.sort();
        let mut expected: Vec<_> =
            EXPECTED.split_whitespace().map(|name| format!("container_{name}")).collect();
        expected.sort();
        assert_eq!(expected.len(), 56);
        assert_eq!(described, expected);
        assert!(descriptors().iter().all(|it| !it.help.is_empty()));
    }

    #[test]
    fn a_sample_has_a_value_for_each_label_of_its_family() {
        let (stats, details) = group();
        for family in FAMILIES {
            let Of::Group(read) = family.of else { continue };
            let samples = read(&stats, &details);
            assert!(!samples.is_empty(), "{}", family.name);
            for sample in samples {
                assert_eq!(sample.labels.len(), family.labels.len(), "{}", family.name);
            }
        }
    }

    #[test]
    fn what_the_kernel_does_not_count_has_no_sample() {
        let (stats, details) = (Stats::default(), Details::default());
        for name in [
            "container_pressure_cpu_waiting_seconds_total",
            "container_hugetlb_max_usage_bytes",
            "container_spec_cpu_quota",
            "container_cpu_cfs_periods_total",
            "container_fs_reads_total",
        ] {
            assert!(of_group(name, &stats, &details).is_empty(), "{name}");
        }
    }

    #[test]
    fn values_have_the_units_of_cadvisor() {
        let (stats, details) = group();
        let value = |name: &str| of_group(name, &stats, &details)[0].value;
        assert_eq!(value("container_cpu_usage_seconds_total"), 7);
        assert_eq!(value("container_pressure_io_waiting_seconds_total"), 3);
        assert_eq!(value("container_pressure_io_stalled_seconds_total"), 1);
        assert_eq!(value("container_spec_memory_limit_bytes"), 0);
        let usage = of_group("container_blkio_device_usage_total", &stats, &details);
        assert_eq!(usage[0].labels, ["4095:7", "4095", "7", "Read"]);
        assert_eq!((usage[0].value, usage[1].labels[3].as_str()), (9, "Write"));
    }
}
