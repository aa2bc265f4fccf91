//! Results of one build that another is made from: a target of bake in the place of a context of another's.
//!
//! A client knows a result by its name, and by LLB, which it passes on unread as an input of the other build. There is no LLB
//! here, so what it gets is a source of our own, which names the result; it is in the job of the build that made it.
//!
//! ```text
//!   one build:    Solve ─▶ Ref { id, def: source cais-result://ID }
//!   the other's:  Solve(context:base = input:KEY, inputs { KEY: that def }) ─▶ the job that has ID ─▶ Named::Built
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_proto::buildkit::control::{Definition, Input, Op, OpMetadata, SourceOp};
use prost::Message;

use super::job::{Jobs, Made};
use crate::api::docker::convert::create::unsupported;
use crate::error::{Error, Result};
use crate::image::digest::Digest;

const SCHEME: &str = "cais-result://";

/// By the names that the client has for them.
pub(super) type Inputs = BTreeMap<String, Arc<Made>>;

/// What stands for a result at the client's.
pub(super) fn definition(result: &str) -> Definition {
    let identifier = format!("{SCHEME}{result}");
    let source = Op { inputs: Vec::new(), source: Some(SourceOp { identifier }) }.encode_to_vec();
    let digest = Digest::of(&source).to_string();
    let input = Input { digest: digest.clone(), index: 0 };
    let end = Op { inputs: vec![input], source: None }.encode_to_vec();
    // A client takes no operation without some.
    let metadata = BTreeMap::from([(digest, OpMetadata {})]);
    Definition { def: vec![source, end], metadata }
}

/// The result that a definition of ours stands for.
fn result_of(definition: &Definition) -> Option<String> {
    let mut sources = definition.def.iter().filter_map(|op| {
        let source = Op::decode(op.as_slice()).ok()?.source?;
        source.identifier.strip_prefix(SCHEME).map(str::to_owned)
    });
    match (sources.next(), definition.def.len()) {
        // Nothing may be done to it on the way.
        (Some(result), 2) => Some(result),
        _ => None,
    }
}

/// # Errors
/// `Unsupported` for LLB that is not ours; `NotFound` for the result of a build that is over.
pub(super) fn inputs(jobs: &Jobs, given: &BTreeMap<String, Definition>) -> Result<Inputs> {
    let mut inputs = Inputs::new();
    for (key, definition) in given {
        let Some(result) = result_of(definition) else {
            return unsupported(format!("the build input {key:?}, which is LLB,"));
        };
        let made = jobs.made(&result);
        let made = made.ok_or_else(|| Error::not_found(format!("no such build input: {key}")))?;
        inputs.insert(key.clone(), made);
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_definition_stands_for_one_result_and_other_llb_for_none() {
        let definition = definition("abc:0");
        assert_eq!(result_of(&definition).as_deref(), Some("abc:0"));
        // Both are found by what comes last.
        let last = Op::decode(definition.def[1].as_slice()).unwrap();
        assert!(definition.metadata.contains_key(&last.inputs[0].digest));
        let mut more = definition.clone();
        more.def.push(definition.def[1].clone());
        let image = SourceOp { identifier: "docker-image://x".to_owned() };
        let image = Op { inputs: Vec::new(), source: Some(image) }.encode_to_vec();
        let other = Definition { def: vec![image, Vec::new()], ..Definition::default() };
        for foreign in [more, other, Definition::default()] {
            assert_eq!(result_of(&foreign), None);
            let given = BTreeMap::from([("base".to_owned(), foreign)]);
            let refused = inputs(&Jobs::default(), &given).err().unwrap();
            assert_eq!(refused.kind(), Kind::Unsupported);
        }
        let given = BTreeMap::from([("base".to_owned(), definition)]);
        assert_eq!(inputs(&Jobs::default(), &given).err().unwrap().kind(), Kind::NotFound);
    }
}
