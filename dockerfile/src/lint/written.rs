//! What the text of an instruction alone shows.

use crate::dockerfile::Event;
use crate::instruction::{Command, Understood};
use crate::syntax::Node;

use super::rules;
use super::{Linter, line};

pub(super) fn check(linter: &mut Linter, event: &Event<'_>) {
    match event {
        Event::EmptyContinuation(last) => {
            let message = "Empty continuation line".to_owned();
            linter.warn(&rules::NO_EMPTY_CONTINUATION, line(*last), &[], message);
        }
        Event::Instruction(node) => check_node(linter, node),
        Event::Understood(node, understood) => check_description(linter, node, understood),
    }
}

fn check_node(linter: &mut Linter, node: &Node) {
    let Node { keyword, arguments, range, comments, .. } = node;
    match keyword.to_lowercase().as_str() {
        "maintainer" => {
            let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
            linter.warn(&rules::MAINTAINER_DEPRECATED, *range, comments, message);
        }
        "from" => {
            if let [_, _, name] = arguments.as_slice()
                && *name != name.to_lowercase()
            {
                let message = format!("Stage name '{name}' should be lowercase");
                linter.warn(&rules::STAGE_NAME_CASING, *range, comments, message);
            }
            if let [_, word, _, ..] = arguments.as_slice()
                && !has_letters_of(word, keyword)
            {
                let message = format!("'{word}' and '{keyword}' keywords' casing do not match");
                linter.warn(&rules::FROM_AS_CASING, *range, comments, message);
            }
        }
        _ => {}
    }
}

/// A keyword in mixed letters is another rule's business.
fn has_letters_of(word: &str, keyword: &str) -> bool {
    if keyword == keyword.to_lowercase() {
        word == word.to_lowercase()
    } else {
        keyword != keyword.to_uppercase() || word == word.to_uppercase()
    }
}

/// A comment directly above a definition is taken for its description.
fn check_description(linter: &mut Linter, node: &Node, understood: &Understood) {
    let (instruction, names): (_, Vec<&str>) = match understood {
        Understood::From(from) => ("FROM", from.name.as_deref().into_iter().collect()),
        Understood::Command(Command::Arg(args)) => {
            ("ARG", args.iter().map(|arg| arg.name.as_str()).collect())
        }
        Understood::Command(_) => return,
    };
    let (Some(comment), Some(first)) = (node.comments.last(), names.first()) else { return };
    let described = comment.split(' ').next().unwrap_or_default();
    if names.contains(&described) {
        return;
    }
    let name = if names.len() > 1 { "<arg_key>" } else { first };
    let message =
        format!("Comment for {instruction} should follow the format: `# {name} <description>`");
    linter.warn(&rules::INVALID_DEFINITION_DESCRIPTION, node.range, &node.comments, message);
}
