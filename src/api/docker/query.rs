//! The query of a request: switches, numbers and filters in every spelling that clients have.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Context, Error, Kind, Result};

/// Keys and values, decoded, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

/// What a list is narrowed by: values by name. Values of one name are alternatives, except for
/// labels, which must all be there.
pub(super) type Filters = BTreeMap<String, Vec<String>>;

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of the key; an empty one counts as none.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of the key.
    pub(super) fn texts(&self, key: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()).collect()
    }

    /// As [`Self::texts`]; one value may hold several with commas between them.
    pub(super) fn owned(&self, key: &str) -> Vec<String> {
        let all = self.texts(key).into_iter().flat_map(|text| text.split(','));
        all.filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// As Docker reads a switch: everything but these words is true, `True` of Python too.
    pub(super) fn switch(&self, key: &str) -> bool {
        let value = self.text(key).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// # Errors
    /// `InvalidArgument` for a value that is not such a number.
    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                Error::invalid(format!("invalid value for {key:?}: {text:?} is not a valid number"))
            })
        };
        self.text(key).map(parse).transpose()
    }

    /// `{"label":{"a=b":true}}` as Go writes it, `{"label":["a=b"]}` as all others do, or nothing.
    pub(super) fn filters(&self) -> Result<Filters> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            Set(BTreeMap<String, bool>),
            List(Vec<String>),
        }
        let Some(text) = self.text("filters") else { return Ok(Filters::default()) };
        let raw: BTreeMap<String, Values> =
            serde_json::from_str(text).context("invalid filter").kind(Kind::InvalidArgument)?;
        let values = |values: Values| match values {
            Values::Set(set) => set.into_iter().filter(|(_, is)| *is).map(|(it, _)| it).collect(),
            Values::List(list) => list,
        };
        Ok(raw.into_iter().map(|(name, found)| (name, values(found))).collect())
    }
}

/// # Errors
/// `InvalidArgument` for a filter that the list does not know.
pub(super) fn check_names(filters: &Filters, known: &[&str]) -> Result<()> {
    match filters.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Error::invalid(format!("invalid filter '{name}'"))),
        None => Ok(()),
    }
}

/// The values of a filter; none means that everything passes.
pub(super) fn wanted<'a>(filters: &'a Filters, name: &str) -> &'a [String] {
    filters.get(name).map(Vec::as_slice).unwrap_or_default()
}

/// Whether every wanted `key` or `key=value` is among the labels.
pub(super) fn has_labels(labels: &BTreeMap<String, String>, wanted: &[String]) -> bool {
    wanted.iter().all(|label| match label.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(label),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn a_switch_is_on_for_all_but_five_words() {
        for on in ["1", "true", "True", "yes", "anything"] {
            assert!(query(&[("all", on)]).switch("all"), "{on}");
        }
        for off in ["", "0", "no", "false", "False", " none "] {
            assert!(!query(&[("all", off)]).switch("all"), "{off}");
        }
        assert!(!query(&[]).switch("all"));
    }

    #[test]
    fn filters_are_read_in_every_spelling() {
        let expected = Filters::from([("label".to_owned(), vec!["a=b".to_owned()])]);
        for text in [
            r#"{"label":{"a=b":true}}"#,
            r#"{"label":["a=b"]}"#,
            r#"{"label":{"a=b":true,"c":false}}"#,
        ] {
            assert_eq!(query(&[("filters", text)]).filters().unwrap(), expected, "{text}");
        }
        for nothing in ["", "{}"] {
            assert!(query(&[("filters", nothing)]).filters().unwrap().is_empty());
        }
        for wrong in ["[", "[]", r#"{"label":1}"#] {
            let error = query(&[("filters", wrong)]).filters().unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn escapes_are_undone_and_numbers_are_checked() {
        let query = Query::parse("t=5&names=a%2Fb%3A1&names=c&tail=all");
        assert_eq!(query.number::<i64>("t").unwrap(), Some(5));
        assert_eq!(query.text("names"), Some("a/b:1"));
        assert!(query.number::<i64>("tail").is_err());
    }
}
