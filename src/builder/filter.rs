//! Which rows of the build cache clients mean, in containerd's language: `field==value`, `field!=value`,
//! `field~=regular expression` or `field` alone, joined by commas.

use regex::Regex;

use super::cached::Cached;
use crate::error::{Error, Result};

/// All of these hold; none: whatever row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter(Vec<Term>);

#[derive(Debug, Clone)]
struct Term {
    field: Field,
    test: Test,
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Id,
    Type,
    Description,
    InUse,
    Shared,
    Private,
    Mutable,
    Immutable,
}

#[derive(Debug, Clone)]
enum Test {
    /// For those that are true or not.
    Holds,
    Is(String),
    IsNot(String),
    Matches(Regex),
}

impl Filter {
    /// # Errors
    /// `InvalidArgument` for what is no filter, or of a field that rows do not have.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let terms = text.split(',').filter(|term| !term.is_empty());
        terms.map(Term::parse).collect::<Result<_>>().map(Self)
    }

    /// One more that must hold.
    ///
    /// # Errors
    /// `InvalidArgument` for a field that rows do not have.
    pub(crate) fn add(&mut self, field: &str, value: &str) -> Result<()> {
        let test = match field {
            // The beginning of it is enough.
            "id" => Test::Matches(regex(&format!("^{}", regex::escape(value)))?),
            _ => Test::Is(value.to_owned()),
        };
        self.0.push(Term { field: Field::parse(field)?, test });
        Ok(())
    }

    pub(crate) fn takes_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn takes(&self, row: &Cached) -> bool {
        self.0.iter().all(|term| term.takes(row))
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self> {
        let place = text.find(['=', '!', '~']).unwrap_or(text.len());
        let (field, rest) = text.split_at(place);
        let value = |sign: &str| rest.strip_prefix(sign).map(|value| value.trim_matches('"'));
        let test = match (value("=="), value("!="), value("~=")) {
            _ if rest.is_empty() => Test::Holds,
            (Some(value), ..) => Test::Is(value.to_owned()),
            (_, Some(value), _) => Test::IsNot(value.to_owned()),
            (.., Some(value)) => Test::Matches(regex(value)?),
            _ => return Err(Error::invalid(format!("invalid filter {text:?}"))),
        };
        Ok(Self { field: Field::parse(field)?, test })
    }

    fn takes(&self, row: &Cached) -> bool {
        let truth = |it: bool| if it { "true" } else { "false" };
        let value = match self.field {
            Field::Id => row.id.as_str(),
            Field::Type => row.kind.name(),
            Field::Description => &row.description,
            Field::InUse => truth(row.in_use),
            Field::Shared => truth(row.is_shared),
            Field::Private => truth(!row.is_shared),
            Field::Mutable => truth(row.kind.is_mutable()),
            Field::Immutable => truth(!row.kind.is_mutable()),
        };
        match &self.test {
            Test::Holds => !value.is_empty() && value != "false",
            // Go's ways to write it.
            Test::Is(wanted) if wanted == "1" => value == "1" || value == "true",
            Test::Is(wanted) if wanted == "0" => value == "0" || value == "false",
            Test::Is(wanted) => value == wanted,
            Test::IsNot(wanted) => value != wanted,
            Test::Matches(pattern) => pattern.is_match(value),
        }
    }
}

impl Field {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "id" => Self::Id,
            "type" => Self::Type,
            "description" => Self::Description,
            "inuse" => Self::InUse,
            "shared" => Self::Shared,
            "private" => Self::Private,
            "mutable" => Self::Mutable,
            "immutable" => Self::Immutable,
            other => return Err(Error::invalid(format!("invalid filter '{other}'"))),
        })
    }
}

fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|_| Error::invalid(format!("invalid filter pattern {pattern:?}")))
}

#[cfg(test)]
mod tests {
    use super::super::cached::CachedKind;
    use super::*;

    #[test]
    fn rows_are_taken_by_all_terms() {
        let row = Cached {
            id: "abcdef".to_owned(),
            kind: CachedKind::Mount,
            description: "cached mount /c".to_owned(),
            size: 1,
            created_at: 0,
            used_at: 0,
            uses: 0,
            in_use: false,
            is_shared: false,
        };
        let takes = |text: &str| Filter::parse(text).unwrap().takes(&row);
        for text in [
            "",
            "type==exec.cachemount",
            "type==exec.cachemount,id~=^abc",
            "mutable,private,description~=/c$",
            "inuse!=true",
            "shared==0",
        ] {
            assert!(takes(text), "{text}");
        }
        for text in ["type==regular", "inuse", "id==abc", "type==exec.cachemount,shared==true"] {
            assert!(!takes(text), "{text}");
        }
        for text in ["parents==x", "id=abc", "id~=("] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
        let mut filter = Filter::default();
        filter.add("id", "abc").unwrap();
        filter.add("type", "exec.cachemount").unwrap();
        assert!(filter.takes(&row));
        filter.add("id", "bc").unwrap();
        assert!(!filter.takes(&row) && filter.add("label", "x").is_err());
    }
}
