//! Metrics under cAdvisor's names are what the kernel says.

use std::collections::BTreeMap;
use std::fs;

use cais_proto::runtime::v1::{
    ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, Metric, MetricType,
    PodSandboxMetrics, StreamPodSandboxMetricsRequest,
};

use crate::cgroup_files::{Group, assert_within, keyed};
use crate::node::Node;
use crate::stats::idle;

/// The label keys of each metric.
async fn described(node: &Node) -> BTreeMap<String, Vec<String>> {
    let listed = node.runtime().list_metric_descriptors(ListMetricDescriptorsRequest {}).await;
    let descriptors = listed.unwrap().into_inner().descriptors;
    descriptors.into_iter().map(|it| (it.name, it.label_keys)).collect()
}

async fn listed(node: &Node) -> Vec<PodSandboxMetrics> {
    let listed = node.runtime().list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await;
    listed.unwrap().into_inner().pod_metrics
}

/// The value of the only sample, or of the first with such a label value.
#[track_caller]
fn value(metrics: &[Metric], name: &str, label: &str) -> u64 {
    let of_name = metrics.iter().filter(|it| it.name == name);
    let mut found =
        of_name.filter(|it| label.is_empty() || it.label_values.iter().any(|it| it == label));
    found.next().unwrap_or_else(|| panic!("no {name}")).value.unwrap().value
}

#[tokio::test]
async fn every_sample_is_described_and_has_a_value_for_each_label() {
    let node = Node::boot().await;
    let pod = node.pod("labels").run().await;
    let container = idle(&pod).await;
    let described = described(&node).await;
    assert_eq!(described.len(), 56);
    let [metrics] = listed(&node).await.try_into().unwrap();
    assert_eq!(metrics.pod_sandbox_id, pod.id);
    let [of_container] = metrics.container_metrics.try_into().unwrap();
    assert_eq!(of_container.container_id, container.id);
    for metric in metrics.metrics.iter().chain(&of_container.metrics) {
        let keys = described.get(&metric.name).unwrap_or_else(|| panic!("{}", metric.name));
        assert_eq!(metric.label_values.len(), keys.len(), "{}", metric.name);
        let is_counter = metric.metric_type() == MetricType::Counter;
        let says_so = metric.name.ends_with("_total") && !metric.name.ends_with("inodes_total");
        let says_so = says_so || metric.name.ends_with("failcnt");
        assert_eq!(is_counter, says_so, "{}", metric.name);
    }
    let memory = of_container.metrics.iter().find(|it| it.name == "container_memory_rss").unwrap();
    let keys = &described["container_memory_rss"];
    let labels: BTreeMap<_, _> = keys.iter().zip(&memory.label_values).collect();
    let label = |key: &str| labels[&key.to_owned()].as_str();
    assert_eq!((label("container"), label("pod"), label("namespace")), ("main", "labels", "e2e"));
    assert_eq!(label("name"), container.id);
    assert_eq!(label("id"), format!("/{}/{}/{}", node.name, pod.id, container.id));

    let request = StreamPodSandboxMetricsRequest {};
    let mut stream = node.runtime().stream_pod_sandbox_metrics(request).await.unwrap().into_inner();
    let part = stream.message().await.unwrap().expect("a part").pod_sandbox_metrics;
    let names = |metrics: &[Metric]| metrics.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(part.len(), 1);
    assert_eq!(names(&part[0].container_metrics[0].metrics), names(&of_container.metrics));
    assert_eq!(stream.message().await.unwrap(), None);
}

#[tokio::test]
async fn values_are_those_of_the_cgroup_files() {
    let node = Node::boot().await;
    let pod = node.pod("values").run().await;
    let container = idle(&pod).await;
    let group = Group::of_container(&pod, &container);
    let stat = |v1: &'static str, v2: &'static str| group.memory_stat(v1, v2);
    let number = |controller: &str, v1: &str, v2: &str| group.number(controller, v1, v2);
    let figures = || {
        let cpu = group.text("cpu", "cpu.stat", "cpu.stat").unwrap();
        BTreeMap::from([
            ("container_cpu_cfs_periods_total", keyed(&cpu, "nr_periods").unwrap()),
            (
                "container_memory_usage_bytes",
                number("memory", "memory.usage_in_bytes", "memory.current").unwrap(),
            ),
            ("container_memory_rss", stat("total_rss", "anon")),
            ("container_memory_cache", stat("total_cache", "file")),
            ("container_memory_mapped_file", stat("total_mapped_file", "file_mapped")),
            ("container_memory_failures_total", stat("pgfault", "pgfault")),
            (
                "container_memory_max_usage_bytes",
                number("memory", "memory.max_usage_in_bytes", "memory.peak").unwrap(),
            ),
            ("container_cpu_usage_seconds_total", group.cpu_nanoseconds() / 1_000_000_000),
            ("container_threads", number("pids", "pids.current", "pids.current").unwrap()),
            ("container_threads_max", number("pids", "pids.max", "pids.max").unwrap_or(0)),
            ("container_spec_memory_limit_bytes", 128 << 20),
        ])
    };
    let before = figures();
    let [metrics] = listed(&node).await.try_into().unwrap();
    let after = figures();
    let metrics = &metrics.container_metrics[0].metrics;
    for (name, before) in before {
        assert_within(name, value(metrics, name, ""), before, after[name]);
    }
    for (name, expected) in [
        ("container_spec_cpu_period", 100_000),
        ("container_spec_cpu_quota", 90_000),
        ("container_memory_swap", 0),
        ("container_oom_events_total", 0),
        ("container_processes", 1),
        ("container_ulimits_soft", container.shell("ulimit -n").await.parse().unwrap()),
    ] {
        assert_eq!(value(metrics, name, ""), expected, "{name}");
    }
    // A weight is not as fine as shares are.
    assert_within("shares", value(metrics, "container_spec_cpu_shares", ""), 512, 512);
    let status = container.status().await;
    let started = u64::try_from(status.started_at / 1_000_000_000).unwrap();
    assert_eq!(value(metrics, "container_start_time_seconds", ""), started);
    assert!((20_000_000..20_500_000).contains(&value(metrics, "container_fs_usage_bytes", "")));
    for of in ["cpu", "memory", "io"] {
        let name = format!("container_pressure_{of}_waiting_seconds_total");
        assert_eq!(metrics.iter().any(|it| it.name == name), group.has_pressure(of), "{name}");
    }
}

#[tokio::test]
async fn open_files_sockets_and_the_network_are_counted() {
    let node = Node::boot().await;
    let pod = node.pod("open").run().await;
    let script = "exec 7</etc/passwd 8</etc/passwd; echo idle; exec nc -l -p 80";
    let container = pod.container("main").shell(script).start().await;
    container.wait_output("idle").await;
    let container_pids = || {
        let group = Group::of_container(&pod, &container);
        let text = group.text("pids", "cgroup.procs", "cgroup.procs").unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let count = || {
        let (mut descriptors, mut sockets) = (0, 0);
        for pid in container_pids() {
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
                descriptors += 1;
                let target = fs::read_link(entry.path()).unwrap();
                sockets += u64::from(target.to_str().unwrap().starts_with("socket:"));
            }
        }
        (descriptors, sockets)
    };
    crate::wait::until("the socket", async || count().1 == 1).await;
    let expected = count();
    let interface = async || {
        let line = container.shell("grep eth0 /proc/net/dev").await;
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u64>>()
    };
    let before = interface().await;
    let [metrics] = listed(&node).await.try_into().unwrap();
    let after = interface().await;
    let of_container = &metrics.container_metrics[0].metrics;
    let counted = (
        value(of_container, "container_file_descriptors", ""),
        value(of_container, "container_sockets", ""),
    );
    assert_eq!(counted, expected);
    for (name, column) in [
        ("container_network_receive_bytes_total", 0),
        ("container_network_receive_packets_total", 1),
        ("container_network_transmit_bytes_total", 8),
        ("container_network_transmit_packets_total", 9),
    ] {
        let found = value(&metrics.metrics, name, "eth0");
        assert_within(name, found, before[column], after[column]);
    }
}
