//! What some clients send as `null`: those in Python for what was not given, those in Go for what is
//! empty.

use serde::{Deserialize, Deserializer};

/// For a field that is as if it were not there when it is `null`.
pub(crate) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_as_if_it_were_not_there() {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Shape {
            #[serde(deserialize_with = "or_default")]
            text: String,
        }
        let of = |json| serde_json::from_str::<Shape>(json).map(|shape| shape.text).ok();
        assert_eq!(of(r#"{"text":null}"#).as_deref(), Some(""));
        assert_eq!(of(r#"{}"#).as_deref(), Some(""));
        assert_eq!(of(r#"{"text":"x"}"#).as_deref(), Some("x"));
        assert_eq!(of(r#"{"text":7}"#), None);
    }
}
