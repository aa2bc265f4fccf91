//! `build`, and the files that a service is given.

use super::rules::{FLAG_OR_TEXT, HOSTS, INTEGER_OR_TEXT, NUMBER_OR_TEXT, PAIRS, TEXT, TEXTS};
use super::{Extensions, Field, Kind, Names, Print, Rule, Struct, field, open};

pub(super) const BUILD: Struct = open(&[
    field("context", Kind::Text, TEXT),
    field("dockerfile", Kind::Text, TEXT),
    field("dockerfile_inline", Kind::Text, TEXT),
    field("entitlements", Kind::Texts, TEXTS),
    field("args", Kind::Environment, PAIRS),
    field("provenance", Kind::Text, FLAG_OR_TEXT),
    field("sbom", Kind::Text, FLAG_OR_TEXT),
    field("ssh", Kind::Ssh, PAIRS),
    field("labels", Kind::Labels, PAIRS),
    field("cache_from", Kind::Texts, TEXTS),
    field("cache_to", Kind::Texts, TEXTS),
    field("no_cache", Kind::Flag, FLAG_OR_TEXT),
    field("additional_contexts", Kind::Mapping, PAIRS),
    field("pull", Kind::Flag, FLAG_OR_TEXT),
    field("extra_hosts", Kind::Hosts, HOSTS),
    field("isolation", Kind::Text, TEXT),
    field("network", Kind::Text, TEXT),
    field("target", Kind::Text, TEXT),
    field("secrets", Kind::Many(&FILE_MOUNT), FILE_MOUNTS),
    field("shm_size", Kind::Bytes, INTEGER_OR_TEXT),
    field("tags", Kind::Texts, TEXTS),
    field("ulimits", Kind::Ulimits, ULIMITS),
    field("platforms", Kind::Texts, TEXTS),
    field("privileged", Kind::Flag, FLAG_OR_TEXT),
]);

/// A secret or configuration in a container.
pub(super) const FILE_MOUNT: Struct = open(&[
    field("source", Kind::Text, TEXT),
    field("target", Kind::Text, TEXT),
    field("uid", Kind::Text, TEXT),
    field("gid", Kind::Text, TEXT),
    field("mode", Kind::Mode, NUMBER_OR_TEXT),
]);

pub(super) const FILE_MOUNTS: Rule = Rule::List(&Rule::Either(&[TEXT, Rule::Keys(&FILE_MOUNT)]));

pub(super) const ULIMITS: Rule =
    Rule::Map(Names::Any, &Rule::Either(&[INTEGER_OR_TEXT, Rule::Keys(&ULIMIT)]));

pub(crate) const ULIMIT: Struct = Struct {
    fields: &[limit("soft"), limit("hard")],
    required: &["soft", "hard"],
    extensions: Extensions::Dropped,
};

const fn limit(name: &'static str) -> Field {
    Field {
        name,
        json: name,
        kind: Kind::Integer,
        rule: INTEGER_OR_TEXT,
        print: Print::AlwaysInYaml,
    }
}
