//! What else than its result a Dockerfile wants looked at for packages: its context and other stages.
//!
//! Two arguments say so (BuildKit's `docs/attestations/sbom.md`), for all stages before the first FROM or in a stage for that: `true`,
//! `false`, or the names of stages. The context counts if the target has it so; of the other stages each that is built.

use std::sync::Arc;

use cais_dockerfile::instruction::boolean;

use super::Built;

const CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";
const STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";

pub(crate) struct Scanned {
    pub(crate) has_context: bool,
    /// By their names, in the order of the file.
    pub(crate) stages: Vec<(String, Arc<Built>)>,
}

impl Built {
    pub(crate) fn scanned(&self) -> Scanned {
        let target = self.target();
        let all = self.stages();
        let wants = |(_, name, built): &(usize, String, Built), argument| {
            let value = built.argument(argument).or_else(|| self.global(argument));
            value.is_some_and(|value| is_enabled(value, name))
        };
        let has_context = all.iter().any(|stage| stage.0 == target && wants(stage, CONTEXT));
        let others = all.into_iter().filter(|stage| stage.0 != target && wants(stage, STAGE));
        let stages = others.map(|(_, name, built)| (name, Arc::new(built))).collect();
        Scanned { has_context, stages }
    }
}

fn is_enabled(value: &str, stage: &str) -> bool {
    boolean(value).unwrap_or_else(|| value.split(',').any(|name| name == stage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stages_none_or_those_that_are_named() {
        assert!(is_enabled("true", "a") && is_enabled("1", "a") && is_enabled("b,a", "a"));
        assert!(!is_enabled("false", "a") && !is_enabled("", "a") && !is_enabled("ab", "a"));
    }
}
