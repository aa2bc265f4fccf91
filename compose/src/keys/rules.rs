//! Rules that many keys share.

use super::{Names, Rule, Type};

pub(super) const TEXT: Rule = Rule::Types(&[Type::Text]);
pub(super) const FLAG: Rule = Rule::Types(&[Type::Flag]);
pub(super) const FLAG_OR_TEXT: Rule = Rule::Types(&[Type::Flag, Type::Text]);
pub(super) const NUMBER_OR_TEXT: Rule = Rule::Types(&[Type::Number, Type::Text]);
pub(super) const INTEGER_OR_TEXT: Rule = Rule::Types(&[Type::Integer, Type::Text]);
pub(super) const TEXTS: Rule = Rule::List(&TEXT);
pub(super) const UNIQUE_TEXTS: Rule = Rule::Unique(&TEXT);
pub(super) const UNIQUE_NUMBERS: Rule = Rule::Unique(&NUMBER_OR_TEXT);
pub(super) const TEXT_OR_TEXTS: Rule = Rule::Either(&[TEXT, UNIQUE_TEXTS]);
pub(super) const TEXT_OR_LIST: Rule = Rule::Either(&[TEXT, TEXTS]);
pub(super) const COMMAND: Rule = Rule::Either(&[Rule::Types(&[Type::Null, Type::Text]), TEXTS]);
/// `KEY=VALUE` in a list, or a mapping of scalars.
pub(super) const PAIRS: Rule = Rule::Either(&[
    Rule::Map(Names::Any, &Rule::Types(&[Type::Text, Type::Number, Type::Flag, Type::Null])),
    UNIQUE_TEXTS,
]);
pub(super) const OPTIONS: Rule = Rule::Map(Names::Any, &NUMBER_OR_TEXT);
pub(super) const LOG_OPTIONS: Rule =
    Rule::Map(Names::Any, &Rule::Types(&[Type::Text, Type::Number, Type::Null]));
pub(super) const HOSTS: Rule = Rule::Either(&[Rule::Map(Names::Any, &TEXT_OR_LIST), UNIQUE_TEXTS]);
