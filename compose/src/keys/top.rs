//! The file itself, and what stands at its top beside services.

use super::rules::{FLAG_OR_TEXT, OPTIONS, PAIRS, TEXT, TEXT_OR_TEXTS, TEXTS};
use super::service::SERVICE;
use super::{Extensions, Field, Kind, Names, Rule, Struct, Type, always, field, open, strict};

/// What a file may have.
pub(crate) const FILE: Struct = open(&[
    field("version", Kind::Dropped, TEXT),
    field("name", Kind::Text, TEXT),
    field("include", Kind::Dropped, Rule::List(&Rule::Either(&[TEXT, Rule::Keys(&INCLUDE)]))),
    resources("services", &Rule::Keys(&SERVICE)),
    resources("models", &Rule::Keys(&MODEL)),
    resources("networks", &Rule::Either(&[NULL, Rule::Keys(&NETWORK)])),
    resources("volumes", &Rule::Either(&[NULL, Rule::Keys(&VOLUME)])),
    resources("secrets", &Rule::Keys(&SECRET)),
    resources("configs", &Rule::Keys(&CONFIG)),
]);

/// What a project has, in the order in which it is printed.
pub(crate) const PROJECT: Struct = open(&[
    field("name", Kind::Text, TEXT),
    always("services", Kind::Named(&SERVICE), Rule::Any),
    field("networks", Kind::Named(&NETWORK), Rule::Any),
    field("volumes", Kind::Named(&VOLUME), Rule::Any),
    field("secrets", Kind::Named(&SECRET), Rule::Any),
    field("configs", Kind::Named(&CONFIG), Rule::Any),
    field("models", Kind::Named(&MODEL), Rule::Any),
]);

const NULL: Rule = Rule::Types(&[Type::Null]);

const fn resources(name: &'static str, rule: &'static Rule) -> Field {
    field(name, Kind::Dropped, Rule::Map(Names::Resources, rule))
}

const INCLUDE: Struct = strict(&[
    field("path", Kind::Texts, TEXT_OR_TEXTS),
    field("env_file", Kind::Texts, TEXT_OR_TEXTS),
    field("project_directory", Kind::Text, TEXT),
]);

const EXTERNAL: Rule = Rule::Either(&[FLAG_OR_TEXT, Rule::Keys(&EXTERNAL_NAME)]);
const EXTERNAL_NAME: Struct = open(&[field("name", Kind::Text, TEXT)]);

pub(crate) const NETWORK: Struct = open(&[
    field("name", Kind::Text, TEXT),
    field("driver", Kind::Text, TEXT),
    field("driver_opts", Kind::Mapping, OPTIONS),
    field("ipam", Kind::Inline(&IPAM), Rule::Keys(&IPAM)),
    field("external", Kind::Flag, EXTERNAL),
    field("internal", Kind::Flag, FLAG_OR_TEXT),
    field("attachable", Kind::Flag, FLAG_OR_TEXT),
    field("labels", Kind::Labels, PAIRS),
    field("enable_ipv4", Kind::OptionalFlag, FLAG_OR_TEXT),
    field("enable_ipv6", Kind::OptionalFlag, FLAG_OR_TEXT),
]);

const IPAM: Struct = open(&[
    field("driver", Kind::Text, TEXT),
    field("config", Kind::Many(&POOL), Rule::List(&Rule::Keys(&POOL))),
    field("options", Kind::Dropped, Rule::Map(Names::Any, &TEXT)),
]);

const POOL: Struct = Struct {
    fields: &[
        field("subnet", Kind::Text, TEXT),
        field("gateway", Kind::Text, TEXT),
        field("ip_range", Kind::Text, TEXT),
        field("aux_addresses", Kind::Mapping, Rule::Map(Names::Any, &TEXT)),
    ],
    required: &[],
    extensions: Extensions::Dropped,
};

pub(crate) const VOLUME: Struct = open(&[
    field("name", Kind::Text, TEXT),
    field("driver", Kind::Text, TEXT),
    field("driver_opts", Kind::Mapping, OPTIONS),
    field("external", Kind::Flag, EXTERNAL),
    field("labels", Kind::Labels, PAIRS),
]);

pub(crate) const SECRET: Struct = open(&[
    field("name", Kind::Text, TEXT),
    field("file", Kind::Text, TEXT),
    field("environment", Kind::Text, TEXT),
    field("content", Kind::Text, Rule::Unknown),
    field("external", Kind::Flag, EXTERNAL),
    field("labels", Kind::Labels, PAIRS),
    field("driver", Kind::Text, TEXT),
    field("driver_opts", Kind::Mapping, OPTIONS),
    field("template_driver", Kind::Text, TEXT),
]);

pub(crate) const CONFIG: Struct = open(&[
    field("name", Kind::Text, TEXT),
    field("file", Kind::Text, TEXT),
    field("environment", Kind::Text, TEXT),
    field("content", Kind::Text, TEXT),
    field("external", Kind::Flag, EXTERNAL),
    field("labels", Kind::Labels, PAIRS),
    field("driver", Kind::Text, Rule::Unknown),
    field("driver_opts", Kind::Mapping, Rule::Unknown),
    field("template_driver", Kind::Text, TEXT),
]);

const MODEL: Struct = Struct {
    fields: &[
        field("name", Kind::Text, TEXT),
        field("model", Kind::Text, TEXT),
        field("context_size", Kind::Integer, Rule::Types(&[Type::Integer])),
        field("runtime_flags", Kind::Texts, TEXTS),
    ],
    required: &["model"],
    extensions: Extensions::Kept,
};
