//! `deploy`, `develop` and the requests for devices.

use super::rules::{
    COMMAND, FLAG, FLAG_OR_TEXT, INTEGER_OR_TEXT, NUMBER_OR_TEXT, PAIRS, TEXT, TEXT_OR_TEXTS,
    TEXTS, UNIQUE_TEXTS,
};
use super::{Extensions, Field, Kind, Print, Rule, Struct, always, field, open};

pub(super) const DEPLOY: Struct = open(&[
    field("mode", Kind::Text, TEXT),
    field("replicas", Kind::OptionalInteger, INTEGER_OR_TEXT),
    field("labels", Kind::Labels, PAIRS),
    field("update_config", Kind::One(&UPDATE), Rule::Keys(&UPDATE)),
    field("rollback_config", Kind::One(&UPDATE), Rule::Keys(&UPDATE)),
    field("resources", Kind::Inline(&RESOURCES), Rule::Keys(&RESOURCES)),
    field("restart_policy", Kind::One(&RESTART_POLICY), Rule::Keys(&RESTART_POLICY)),
    field("placement", Kind::Inline(&PLACEMENT), Rule::Keys(&PLACEMENT)),
    field("endpoint_mode", Kind::Text, TEXT),
]);

const UPDATE: Struct = open(&[
    field("parallelism", Kind::OptionalInteger, INTEGER_OR_TEXT),
    field("delay", Kind::Duration, TEXT),
    field("failure_action", Kind::Text, TEXT),
    field("monitor", Kind::Duration, TEXT),
    field("max_failure_ratio", Kind::Number, NUMBER_OR_TEXT),
    field("order", Kind::Text, Rule::Choice(&["start-first", "stop-first"])),
]);

const RESOURCES: Struct = open(&[
    field("limits", Kind::One(&RESOURCE), Rule::Keys(&LIMITS)),
    field("reservations", Kind::One(&RESOURCE), Rule::Keys(&RESERVATIONS)),
]);

const CPUS: Field = field("cpus", Kind::Cpus, NUMBER_OR_TEXT);
const MEMORY: Field = field("memory", Kind::Bytes, TEXT);
const PIDS: Field = field("pids", Kind::Integer, INTEGER_OR_TEXT);
const DEVICES: Field =
    field("devices", Kind::Many(&DEVICE), Rule::List(&Rule::Keys(&RESERVED_DEVICE)));
const GENERIC: Field = field(
    "generic_resources",
    Kind::Many(&GENERIC_RESOURCE),
    Rule::List(&Rule::Keys(&GENERIC_RESOURCE)),
);

const RESOURCE: Struct = open(&[CPUS, MEMORY, PIDS, DEVICES, GENERIC]);
const LIMITS: Struct = open(&[CPUS, MEMORY, PIDS]);
const RESERVATIONS: Struct = open(&[CPUS, MEMORY, DEVICES, GENERIC]);

const GENERIC_RESOURCE: Struct =
    open(&[field("discrete_resource_spec", Kind::One(&DISCRETE), Rule::Keys(&DISCRETE))]);

const DISCRETE: Struct =
    open(&[always("kind", Kind::Text, TEXT), always("value", Kind::Integer, NUMBER_OR_TEXT)]);

const DEVICE_FIELDS: &[Field] = &[
    field("capabilities", Kind::Texts, UNIQUE_TEXTS),
    field("driver", Kind::Text, TEXT),
    field("count", Kind::DeviceCount, INTEGER_OR_TEXT),
    field("device_ids", Kind::Texts, UNIQUE_TEXTS),
    field("options", Kind::Mapping, PAIRS),
];

pub(super) const DEVICE: Struct =
    Struct { fields: DEVICE_FIELDS, required: &[], extensions: Extensions::Dropped };

const RESERVED_DEVICE: Struct =
    Struct { fields: DEVICE_FIELDS, required: &["capabilities"], extensions: Extensions::Dropped };

const RESTART_POLICY: Struct = open(&[
    field("condition", Kind::Text, TEXT),
    field("delay", Kind::OptionalDuration, TEXT),
    field("max_attempts", Kind::OptionalInteger, INTEGER_OR_TEXT),
    field("window", Kind::OptionalDuration, TEXT),
]);

const PLACEMENT: Struct = open(&[
    field("constraints", Kind::Texts, TEXTS),
    field("preferences", Kind::Many(&PREFERENCE), Rule::List(&Rule::Keys(&PREFERENCE))),
    field("max_replicas_per_node", Kind::Integer, INTEGER_OR_TEXT),
]);

const PREFERENCE: Struct = open(&[field("spread", Kind::Text, TEXT)]);

pub(super) const DEVELOP: Struct =
    open(&[field("watch", Kind::Many(&TRIGGER), Rule::List(&Rule::Keys(&TRIGGER)))]);

const TRIGGER: Struct = Struct {
    fields: &[
        always("path", Kind::Text, TEXT),
        always(
            "action",
            Kind::Text,
            Rule::Choice(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"]),
        ),
        field("target", Kind::Text, TEXT),
        field("exec", Kind::Inline(&HOOK), Rule::Keys(&HOOK)),
        field("include", Kind::Texts, TEXT_OR_TEXTS),
        field("ignore", Kind::Texts, TEXT_OR_TEXTS),
        field("initial_sync", Kind::Flag, FLAG),
    ],
    required: &["path", "action"],
    extensions: Extensions::Kept,
};

/// A command that is run in a container at a point of its life.
pub(super) const HOOK: Struct = Struct {
    fields: &[
        Field {
            name: "command",
            json: "command",
            kind: Kind::Command,
            rule: COMMAND,
            print: Print::AlwaysInJson,
        },
        field("user", Kind::Text, TEXT),
        field("privileged", Kind::Flag, FLAG_OR_TEXT),
        field("working_dir", Kind::Text, TEXT),
        field("environment", Kind::Environment, PAIRS),
    ],
    required: &["command"],
    extensions: Extensions::Kept,
};
