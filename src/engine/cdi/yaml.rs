//! YAML as the JSON value that it stands for, read as the tools read it that write such files: they
//! keep YAML 1.1's octal numbers (`fileMode: 0666`).

use saphyr::{Mapping, Scalar, ScalarStyle, Yaml, YamlLoader};
use saphyr_parser::Parser;
use serde_json::{Map, Number, Value};

use crate::error::{Context, Error, Kind, Result};

/// Reads a file of one document.
pub(super) fn parse(text: &str) -> Result<Value> {
    let mut loader = YamlLoader::<Yaml<'_>>::default();
    // Numbers are told from text below, where it is known how they were written.
    loader.early_parse(false);
    Parser::new_from_str(text).load(&mut loader, true).kind(Kind::InvalidArgument)?;
    if let Some(error) = loader.error() {
        return Err(Error::invalid(error.to_string()));
    }
    let mut documents = loader.into_documents().into_iter();
    match (documents.next(), documents.next()) {
        (Some(document), None) => value(document),
        (None, _) => Err(Error::invalid("holds no document")),
        (Some(_), Some(_)) => Err(Error::invalid("holds more than one document")),
    }
}

fn value(node: Yaml<'_>) -> Result<Value> {
    match node {
        Yaml::Representation(text, style, tag) => {
            if let (ScalarStyle::Plain, None, Some(number)) = (style, &tag, octal(&text)) {
                return Ok(number.into());
            }
            let scalar = Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref());
            scalar.map(from_scalar).context("a value that is not what its tag says")
        }
        Yaml::Value(scalar) => Ok(from_scalar(scalar)),
        Yaml::Sequence(items) => {
            items.into_iter().map(value).collect::<Result<_>>().map(Value::Array)
        }
        Yaml::Mapping(mapping) => object(mapping),
        Yaml::Tagged(_, node) => value(*node),
        Yaml::Alias(_) | Yaml::BadValue => Err(Error::invalid("a value that cannot be read")),
    }
}

fn object(mapping: Mapping<'_>) -> Result<Value> {
    let mut object = Map::with_capacity(mapping.len());
    for (key, member) in mapping {
        let key = match value(key)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Error::invalid("a key that is no name"));
            }
        };
        object.insert(key, value(member)?);
    }
    Ok(Value::Object(object))
}

fn from_scalar(scalar: Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => value.into(),
        Scalar::Integer(number) => number.into(),
        Scalar::FloatingPoint(number) => {
            Number::from_f64(*number).map_or(Value::Null, Value::Number)
        }
        Scalar::String(text) => text.into_owned().into(),
    }
}

/// `0666`, but not `0` and not `08`.
fn octal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('0').filter(|digits| !digits.is_empty())?;
    u64::from_str_radix(digits.strip_prefix('o').unwrap_or(digits), 8).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_read_as_its_writers_mean_it() {
        let text = "a: {b: [1, -2, 0666, 0o17, \"0666\", 08, 0]}\n'c d': ~\ne: yes\nf: true\n\
                    g: |\n  two\n  lines\nh: &x {i: 1}\nj: *x\n1: k\n";
        let expected = json!({
            "a": { "b": [1, -2, 438, 15, "0666", 8, 0] }, "c d": null, "e": "yes", "f": true,
            "g": "two\nlines\n", "h": { "i": 1 }, "j": { "i": 1 }, "1": "k",
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        for text in ["", "a: [", "--- 1\n--- 2\n", "a: 1\na: 2\n", "? [a]\n: b\n", "a: !!int b"] {
            assert!(parse(text).is_err(), "{text:?} was read");
        }
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let line = vec![format!("*a{}", level - 1); 9].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{line}]\n"));
        }
        assert!(parse(&bomb).is_err());
    }
}
