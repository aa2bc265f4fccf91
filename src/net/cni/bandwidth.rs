//! The two annotations by which a pod asks for a traffic limit, as the plugin wants them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What the plugin takes for "no limit" of a burst.
const BURST: u64 = u32::MAX as u64;

/// Bits per second each way; `None` if the pod asks for no limit. An amount that cannot be read is
/// logged and left out, for annotations are not checked by whoever stores them.
pub(in crate::net) fn of(annotations: &BTreeMap<String, String>) -> Option<Value> {
    let mut limits = Map::new();
    for way in ["ingress", "egress"] {
        let Some(text) = annotations.get(&format!("kubernetes.io/{way}-bandwidth")) else {
            continue;
        };
        match quantity(text) {
            Some(bits) if bits > 0 => {
                limits.insert(format!("{way}Rate"), bits.into());
                limits.insert(format!("{way}Burst"), BURST.into());
            }
            Some(_) | None => tracing::warn!(way, text, "bandwidth annotation cannot be read"),
        }
    }
    (!limits.is_empty()).then_some(Value::Object(limits))
}

/// A whole number with one of Kubernetes' suffixes.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_writes_them() {
        for (text, bits) in [
            ("10M", Some(10_000_000)),
            ("1Ki", Some(1024)),
            ("7", Some(7)),
            ("", None),
            ("M", None),
            ("-1M", None),
            ("1.5M", None),
            ("99999999999999999999", None),
            ("99999999999T", None),
        ] {
            assert_eq!(quantity(text), bits, "{text}");
        }
    }

    #[test]
    fn only_what_can_be_read_is_passed_on() {
        let annotations = BTreeMap::from([
            ("kubernetes.io/ingress-bandwidth".to_owned(), "1M".to_owned()),
            ("kubernetes.io/egress-bandwidth".to_owned(), "much".to_owned()),
        ]);
        let limits = of(&annotations).unwrap();
        assert_eq!(limits, json!({"ingressRate": 1_000_000, "ingressBurst": u32::MAX}));
        assert_eq!(of(&BTreeMap::new()), None);
    }
}
