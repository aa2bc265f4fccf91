//! The keys of a service.

use super::build::{BUILD, FILE_MOUNT, FILE_MOUNTS, ULIMITS};
use super::deploy::{DEPLOY, DEVELOP, DEVICE, HOOK};
use super::rules::{
    COMMAND, FLAG, FLAG_OR_TEXT, HOSTS, INTEGER_OR_TEXT, LOG_OPTIONS, NUMBER_OR_TEXT, OPTIONS,
    PAIRS, TEXT, TEXT_OR_LIST, TEXT_OR_TEXTS, UNIQUE_NUMBERS, UNIQUE_TEXTS,
};
use super::{
    Extensions, Field, Kind, Names, Print, Rule, Struct, Type, always, field, open, strict,
};

pub(crate) const SERVICE: Struct = open(&[
    field("profiles", Kind::Texts, UNIQUE_TEXTS),
    field("annotations", Kind::Mapping, PAIRS),
    field("attach", Kind::OptionalFlag, FLAG_OR_TEXT),
    field("build", Kind::One(&BUILD), Rule::Either(&[TEXT, Rule::Keys(&BUILD)])),
    field("develop", Kind::One(&DEVELOP), Rule::Either(&[NULL, Rule::Keys(&DEVELOP)])),
    field("blkio_config", Kind::One(&BLKIO), Rule::Keys(&BLKIO)),
    field("cap_add", Kind::Texts, UNIQUE_TEXTS),
    field("cap_drop", Kind::Texts, UNIQUE_TEXTS),
    field("cgroup_parent", Kind::Text, TEXT),
    field("cgroup", Kind::Text, Rule::Choice(&["host", "private"])),
    field("cpu_count", Kind::Integer, Rule::Range(0, i64::MAX)),
    field("cpu_percent", Kind::Number, Rule::Range(0, 100)),
    field("cpu_period", Kind::Integer, NUMBER_OR_TEXT),
    field("cpu_quota", Kind::Integer, NUMBER_OR_TEXT),
    field("cpu_rt_period", Kind::Integer, NUMBER_OR_TEXT),
    field("cpu_rt_runtime", Kind::Integer, NUMBER_OR_TEXT),
    field("cpus", Kind::Number, NUMBER_OR_TEXT),
    field("cpuset", Kind::Text, TEXT),
    field("cpu_shares", Kind::Integer, NUMBER_OR_TEXT),
    command("command"),
    field("configs", Kind::Many(&FILE_MOUNT), FILE_MOUNTS),
    field("container_name", Kind::Text, Rule::ContainerName),
    field("credential_spec", Kind::One(&CREDENTIALS), Rule::Keys(&CREDENTIALS)),
    field("depends_on", Kind::Named(&DEPENDENCY), Rule::Either(&[UNIQUE_TEXTS, DEPENDENCIES])),
    field("deploy", Kind::One(&DEPLOY), Rule::Either(&[NULL, Rule::Keys(&DEPLOY)])),
    field("device_cgroup_rules", Kind::Texts, UNIQUE_TEXTS),
    field(
        "devices",
        Kind::Many(&DEVICE_MAPPING),
        Rule::List(&Rule::Either(&[TEXT, Rule::Keys(&DEVICE_MAPPING)])),
    ),
    field("dns", Kind::Texts, TEXT_OR_TEXTS),
    field("dns_opt", Kind::Texts, UNIQUE_TEXTS),
    field("dns_search", Kind::Texts, TEXT_OR_TEXTS),
    field("domainname", Kind::Text, TEXT),
    command("entrypoint"),
    field("provider", Kind::One(&PROVIDER), Rule::Keys(&PROVIDER)),
    field("environment", Kind::Environment, PAIRS),
    field(
        "env_file",
        Kind::EnvFiles,
        Rule::Either(&[TEXT, Rule::List(&Rule::Either(&[TEXT, Rule::Keys(&ENV_FILE)]))]),
    ),
    field("expose", Kind::Texts, UNIQUE_NUMBERS),
    field("extends", Kind::One(&EXTENDS), Rule::Either(&[TEXT, Rule::Keys(&EXTENDS)])),
    field("external_links", Kind::Texts, UNIQUE_TEXTS),
    field("extra_hosts", Kind::Hosts, HOSTS),
    field("group_add", Kind::Texts, UNIQUE_NUMBERS),
    field(
        "gpus",
        Kind::Many(&DEVICE),
        Rule::Either(&[Rule::Choice(&["all"]), Rule::List(&Rule::Keys(&DEVICE))]),
    ),
    field("hostname", Kind::Text, TEXT),
    field("healthcheck", Kind::One(&HEALTHCHECK), Rule::Keys(&HEALTHCHECK)),
    field("image", Kind::Text, TEXT),
    field("init", Kind::OptionalFlag, FLAG_OR_TEXT),
    field("ipc", Kind::Text, TEXT),
    field("isolation", Kind::Text, TEXT),
    field("labels", Kind::Labels, PAIRS),
    field("label_file", Kind::Texts, TEXT_OR_LIST),
    field("links", Kind::Texts, UNIQUE_TEXTS),
    field("logging", Kind::One(&LOGGING), Rule::Keys(&LOGGING)),
    field("mem_limit", Kind::Bytes, NUMBER_OR_TEXT),
    field("mem_reservation", Kind::Bytes, INTEGER_OR_TEXT),
    field("memswap_limit", Kind::Bytes, NUMBER_OR_TEXT),
    field("mem_swappiness", Kind::Bytes, INTEGER_OR_TEXT),
    field("mac_address", Kind::Text, TEXT),
    field("models", Kind::NamedOrNull(&MODEL), Rule::Either(&[UNIQUE_TEXTS, MODELS])),
    field("network_mode", Kind::Text, TEXT),
    field("networks", Kind::NamedOrNull(&NETWORK), Rule::Either(&[UNIQUE_TEXTS, NETWORKS])),
    field("oom_kill_disable", Kind::Flag, FLAG_OR_TEXT),
    field("oom_score_adj", Kind::Integer, Rule::Range(-1000, 1000)),
    field("pid", Kind::Text, Rule::Types(&[Type::Text, Type::Null])),
    field("pids_limit", Kind::Integer, NUMBER_OR_TEXT),
    field("platform", Kind::Text, TEXT),
    field("ports", Kind::Many(&PORT), Rule::Unique(&PORT_FORMS)),
    field("privileged", Kind::Flag, FLAG_OR_TEXT),
    field("pull_policy", Kind::Text, PULL_POLICIES),
    field("pull_refresh_after", Kind::Dropped, TEXT),
    field("read_only", Kind::Flag, FLAG_OR_TEXT),
    field("restart", Kind::Text, TEXT),
    field("runtime", Kind::Text, TEXT),
    field("scale", Kind::OptionalInteger, INTEGER_OR_TEXT),
    field("secrets", Kind::Many(&FILE_MOUNT), FILE_MOUNTS),
    field("security_opt", Kind::Texts, UNIQUE_TEXTS),
    field("shm_size", Kind::Bytes, NUMBER_OR_TEXT),
    field("stdin_open", Kind::Flag, FLAG_OR_TEXT),
    field("stop_grace_period", Kind::OptionalDuration, TEXT),
    field("stop_signal", Kind::Text, TEXT),
    field("storage_opt", Kind::Mapping, Rule::Types(&[Type::Map])),
    field("sysctls", Kind::Mapping, PAIRS),
    field("tmpfs", Kind::Texts, TEXT_OR_TEXTS),
    field("tty", Kind::Flag, FLAG_OR_TEXT),
    field("ulimits", Kind::Ulimits, ULIMITS),
    field("use_api_socket", Kind::Flag, FLAG),
    field("user", Kind::Text, TEXT),
    field("userns_mode", Kind::Text, TEXT),
    field("uts", Kind::Text, TEXT),
    field(
        "volumes",
        Kind::Many(&VOLUME),
        Rule::Unique(&Rule::Either(&[TEXT, Rule::Keys(&VOLUME)])),
    ),
    field("volumes_from", Kind::Texts, UNIQUE_TEXTS),
    field("working_dir", Kind::Text, TEXT),
    field("post_start", Kind::Many(&HOOK), Rule::List(&Rule::Keys(&HOOK))),
    field("pre_stop", Kind::Many(&HOOK), Rule::List(&Rule::Keys(&HOOK))),
]);

const NULL: Rule = Rule::Types(&[Type::Null]);

/// No command and an empty one are different things, also in JSON.
const fn command(name: &'static str) -> Field {
    Field { name, json: name, kind: Kind::Command, rule: COMMAND, print: Print::AlwaysInJson }
}

const PULL_POLICIES: Rule = Rule::Mentions(&[
    "always",
    "never",
    "build",
    "if_not_present",
    "missing",
    "refresh",
    "daily",
    "weekly",
    "every_",
]);

const BLKIO: Struct = strict(&[
    field("weight", Kind::Integer, INTEGER_OR_TEXT),
    field("weight_device", Kind::Many(&WEIGHT), Rule::List(&Rule::Keys(&WEIGHT))),
    field("device_read_bps", Kind::Many(&RATE), RATES),
    field("device_read_iops", Kind::Many(&RATE), RATES),
    field("device_write_bps", Kind::Many(&RATE), RATES),
    field("device_write_iops", Kind::Many(&RATE), RATES),
]);

const RATES: Rule = Rule::List(&Rule::Keys(&RATE));

const WEIGHT: Struct = strict(&[
    capital("path", "Path", Kind::Text, TEXT),
    capital("weight", "Weight", Kind::Integer, INTEGER_OR_TEXT),
]);

const RATE: Struct = strict(&[
    capital("path", "Path", Kind::Text, TEXT),
    capital("rate", "Rate", Kind::Bytes, INTEGER_OR_TEXT),
]);

const fn capital(name: &'static str, json: &'static str, kind: Kind, rule: Rule) -> Field {
    Field { name, json, kind, rule, print: Print::Always }
}

const CREDENTIALS: Struct = open(&[
    field("config", Kind::Text, TEXT),
    field("file", Kind::Text, TEXT),
    field("registry", Kind::Text, TEXT),
]);

const DEPENDENCIES: Rule = Rule::Map(Names::Resources, &Rule::Keys(&DEPENDENCY));

const DEPENDENCY: Struct = Struct {
    fields: &[
        field(
            "condition",
            Kind::Text,
            Rule::Choice(&["service_started", "service_healthy", "service_completed_successfully"]),
        ),
        field("restart", Kind::Flag, FLAG_OR_TEXT),
        always("required", Kind::Flag, FLAG),
    ],
    required: &["condition"],
    extensions: Extensions::Kept,
};

const DEVICE_MAPPING: Struct = Struct {
    fields: &[
        field("source", Kind::Text, TEXT),
        field("target", Kind::Text, TEXT),
        field("permissions", Kind::Text, TEXT),
    ],
    required: &["source"],
    extensions: Extensions::Kept,
};

const PROVIDER: Struct = Struct {
    fields: &[
        field("type", Kind::Text, TEXT),
        field("options", Kind::MultiOptions, Rule::Types(&[Type::Map])),
    ],
    required: &["type"],
    extensions: Extensions::Kept,
};

const ENV_FILE: Struct = Struct {
    fields: &[
        field("path", Kind::Text, TEXT),
        always("required", Kind::Flag, FLAG_OR_TEXT),
        field("format", Kind::Text, TEXT),
    ],
    required: &["path"],
    extensions: Extensions::Refused,
};

const EXTENDS: Struct = Struct {
    fields: &[field("file", Kind::Text, TEXT), field("service", Kind::Text, TEXT)],
    required: &["service"],
    extensions: Extensions::Refused,
};

const HEALTHCHECK: Struct = open(&[
    field("test", Kind::HealthTest, TEXT_OR_LIST),
    field("timeout", Kind::OptionalDuration, TEXT),
    field("interval", Kind::OptionalDuration, TEXT),
    field("retries", Kind::OptionalInteger, NUMBER_OR_TEXT),
    field("start_period", Kind::OptionalDuration, TEXT),
    field("start_interval", Kind::OptionalDuration, TEXT),
    field("disable", Kind::Flag, FLAG_OR_TEXT),
]);

const LOGGING: Struct =
    open(&[field("driver", Kind::Text, TEXT), field("options", Kind::Mapping, LOG_OPTIONS)]);

const MODELS: Rule = Rule::Map(Names::Any, &Rule::Either(&[NULL, Rule::Keys(&MODEL)]));

const MODEL: Struct =
    open(&[field("endpoint_var", Kind::Text, TEXT), field("model_var", Kind::Text, TEXT)]);

const NETWORKS: Rule = Rule::Map(Names::Resources, &Rule::Either(&[NULL, Rule::Keys(&NETWORK)]));

const NETWORK: Struct = open(&[
    field("aliases", Kind::Texts, UNIQUE_TEXTS),
    field("driver_opts", Kind::Mapping, OPTIONS),
    field("gw_priority", Kind::Integer, Rule::Types(&[Type::Number])),
    field("interface_name", Kind::Text, TEXT),
    field("ipv4_address", Kind::Text, TEXT),
    field("ipv6_address", Kind::Text, TEXT),
    field("link_local_ips", Kind::Texts, UNIQUE_TEXTS),
    field("mac_address", Kind::Text, TEXT),
    field("priority", Kind::Integer, Rule::Types(&[Type::Number])),
]);

const PORT_FORMS: Rule = Rule::Either(&[NUMBER_OR_TEXT, Rule::Keys(&PORT)]);

const PORT: Struct = open(&[
    field("name", Kind::Text, TEXT),
    field("mode", Kind::Text, TEXT),
    field("host_ip", Kind::Text, TEXT),
    field("target", Kind::Integer, INTEGER_OR_TEXT),
    field("published", Kind::Text, INTEGER_OR_TEXT),
    field("protocol", Kind::Text, TEXT),
    field("app_protocol", Kind::Text, TEXT),
]);

const VOLUME: Struct = Struct {
    fields: &[
        field(
            "type",
            Kind::Text,
            Rule::Choice(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"]),
        ),
        field("source", Kind::Text, TEXT),
        field("target", Kind::Text, TEXT),
        field("read_only", Kind::Flag, FLAG_OR_TEXT),
        field("consistency", Kind::Text, TEXT),
        field("bind", Kind::One(&BIND), Rule::Keys(&BIND)),
        field("volume", Kind::One(&NAMED), Rule::Keys(&NAMED)),
        field("tmpfs", Kind::One(&TMPFS), Rule::Keys(&TMPFS)),
        field("image", Kind::One(&IMAGE), Rule::Keys(&IMAGE)),
    ],
    required: &["type"],
    extensions: Extensions::Kept,
};

const BIND: Struct = open(&[
    field("selinux", Kind::Text, Rule::Choice(&["z", "Z"])),
    field("propagation", Kind::Text, TEXT),
    field("create_host_path", Kind::Flag, FLAG_OR_TEXT),
    field("recursive", Kind::Text, Rule::Choice(&["enabled", "disabled", "writable", "readonly"])),
]);

const NAMED: Struct = open(&[
    field("labels", Kind::Mapping, PAIRS),
    field("nocopy", Kind::Flag, FLAG_OR_TEXT),
    field("subpath", Kind::Text, TEXT),
]);

const TMPFS: Struct = open(&[
    field("size", Kind::Bytes, Rule::Range(0, i64::MAX)),
    field("mode", Kind::Integer, NUMBER_OR_TEXT),
]);

const IMAGE: Struct = open(&[field("subpath", Kind::Text, TEXT)]);
