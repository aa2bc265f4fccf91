# The figures that a kubelet has from the runtime, for hack/kubernetes/kubelet-checks, which sources this.
# shellcheck shell=bash disable=SC2154

# Every figure that a kubelet can get of a pod and its containers from the runtime. The pods are those that stay and are
# not in the host's network, of which the kubelet tells no network figures.
figured=(web limits volumes terminal confined users)

summary() {
  local name
  for name in "${figured[@]}"; do [ "$name" = limits ] || running "$name"; done
  until_true "$patience" complete_summary
}

# `greedy` is killed again and again, and so has figures only now and then.
complete_summary() {
  local pods lacks
  pods=$(api /stats/summary) || return 1
  lacks=$(jq -r '
    def lack(what; test): if test then empty else what end;
    (.pods | map({key: .podRef.name, value: .}) | from_entries) as $pods
    | ($ARGS.positional[] + "-node1") as $name | $pods[$name] as $pod
    | lack("\($name)"; $pod != null),
      ($pod // empty
      | lack("\($name) cpu"; .cpu.usageCoreNanoSeconds > 0 and .cpu.usageNanoCores != null),
        lack("\($name) memory"; .memory.workingSetBytes > 0 and .memory.rssBytes != null and .memory.usageBytes > 0 and .memory.pageFaults != null),
        lack("\($name) network"; .network.name == "eth0" and .network.rxBytes != null and .network.txBytes != null),
        lack("\($name) processes"; .process_stats.process_count > 0),
        lack("\($name) storage"; .["ephemeral-storage"].usedBytes > 0),
        lack("\($name) containers"; .containers | length > 0),
        (.containers[] | select(.name != "greedy") | "\($name)/\(.name)" as $name
        | lack("\($name) cpu"; .cpu.usageCoreNanoSeconds > 0 and .cpu.usageNanoCores != null),
          lack("\($name) memory"; .memory.workingSetBytes > 0 and .memory.usageBytes > 0 and .memory.rssBytes != null and .memory.pageFaults != null and .memory.majorPageFaults != null),
          lack("\($name) rootfs"; .rootfs.usedBytes > 0 and .rootfs.inodesUsed > 0 and .rootfs.capacityBytes > 0),
          lack("\($name) logs"; .logs.usedBytes != null),
          lack("\($name) start"; .startTime != null)))' --args "${figured[@]}" <<<"$pods") || return 1
  same "" "$lacks"
}

# Every name of the kubelet's list of metrics that the kernel has a figure for.
cadvisor_metrics() {
  becomes limits "$(status_of modest) | .started"
  run limits modest dd if=/dev/zero of=/written bs=4k count=64 conv=fsync
  wanted=(container_cpu_{usage_seconds,user_seconds,system_seconds,cfs_periods,cfs_throttled_periods,cfs_throttled_seconds}_total
    container_memory_{usage_bytes,working_set_bytes,rss,cache,swap,mapped_file,max_usage_bytes,failcnt,kernel_usage}
    container_{memory_failures,oom_events}_total
    container_{processes,threads,threads_max,sockets,file_descriptors,ulimits_soft,start_time_seconds,last_seen}
    container_spec_{cpu_shares,cpu_period,cpu_quota,memory_limit_bytes,memory_swap_limit_bytes,memory_reservation_limit_bytes}
    container_fs_{usage_bytes,limit_bytes,inodes_free,inodes_total}
    container_network_{receive,transmit}_{bytes,packets,errors,packets_dropped}_total)
  # Which devices were written to is counted with cgroup v2, and by older kernels with v1.
  ! kernel_tells Write blkio/blkio.throttle.io_service_bytes_recursive && ! kernel_tells wbytes io.stat ||
    wanted+=(container_blkio_device_usage_total container_fs_{reads,writes}{,_bytes}_total)
  ! kernel_tells total cpu.pressure || wanted+=(container_pressure_{cpu_{stalled,waiting},io_{stalled,waiting},memory_{stalled,waiting}}_seconds_total)
  [ ! -d /sys/fs/cgroup/hugetlb ] || wanted+=(container_hugetlb_{,max_}usage_bytes)
  until_true "$patience" complete_metrics
}

# kernel_tells TEXT FILE: whether the file of the container's cgroup is there and has the text in it.
kernel_tells() { tells "$1" run limits modest cat "/sys/fs/cgroup/$2" 2>/dev/null; }

complete_metrics() {
  local metrics names name lacks=
  metrics=$(api /metrics/cadvisor) || return 1
  names=$(awk -F '{' '/pod="limits-node1"/ { print $1 }' <<<"$metrics" | sort -u)
  for name in "${wanted[@]}"; do
    grep -qx "$name" <<<"$names" || lacks+=" $name"
  done
  same "" "$lacks"
}
