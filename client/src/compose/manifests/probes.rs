//! Healthchecks as probes.
//!
//! An unhealthy container of compose is not ended, and neither is a pod that is not ready: a healthcheck is a readiness probe. With
//! `restart: on-unhealthy` it is one of liveness as well, which begins when the container was once healthy or its start
//! period is over.

use cais_compose::Node;
use serde_json::{Value as Json, json};

use super::super::resources::text;
use super::Service;

const SECOND: i64 = 1_000_000_000;

/// So many of `unit` that all of it is in them.
fn rounded_up(amount: i64, unit: i64) -> i64 {
    amount.div_euclid(unit) + i64::from(amount % unit > 0)
}

/// Kubernetes counts in whole seconds; nought would be another thing than a little.
pub(super) fn seconds(nanos: i64) -> i64 {
    rounded_up(nanos, SECOND)
}

impl Service<'_> {
    pub(super) fn probes(&self, container: &mut Json) {
        let Some(check) = self.node.get("healthcheck") else { return };
        let Some(command) = command(check).filter(|_| check.get("disable").is_none()) else {
            return;
        };
        let period_of = |key: &str, default: i64| {
            let nanos = check.get(key).and_then(Node::as_int).filter(|it| *it > 0);
            nanos.map_or(default, seconds)
        };
        let (period, start) = (period_of("interval", 30), period_of("start_period", 0));
        let retries = check.get("retries").and_then(Node::as_int).filter(|it| *it > 0).unwrap_or(3);
        let probe = |failures: i64| {
            json!({
                "exec": { "command": command },
                "periodSeconds": period,
                "timeoutSeconds": period_of("timeout", 30),
                "failureThreshold": failures,
            })
        };
        container["readinessProbe"] = probe(retries);
        if text(self.node, "restart").starts_with("on-unhealthy") {
            container["livenessProbe"] = probe(retries);
            // Failures in the start period do not count, and those after it do as ever.
            container["startupProbe"] = probe(rounded_up(start, period) + retries);
        }
    }
}

/// Nothing for `NONE`, or where the image's own would be asked, which Kubernetes does not know.
fn command(check: &Node) -> Option<Vec<String>> {
    let test = check.get("test")?.as_list()?;
    let words: Vec<&str> = test.iter().filter_map(Node::as_text).collect();
    match words.as_slice() {
        ["CMD", words @ ..] if !words.is_empty() => {
            Some(words.iter().map(|it| (*it).to_owned()).collect())
        }
        ["CMD-SHELL", script] => Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::converted;
    use super::*;

    #[test]
    fn a_healthcheck_says_when_a_pod_is_ready() {
        let (all, _) = converted(
            "
services:
  a: {image: a, healthcheck: {test: [CMD, check, it], interval: 1500ms, timeout: 2s, retries: 4, start_period: 1m}}
  b: {image: a, healthcheck: {test: check it, interval: 10s, start_period: 25s}, restart: 'on-unhealthy'}
  c: {image: a, healthcheck: {disable: true}}
  d: {image: a, healthcheck: {test: [NONE]}}
",
        )
        .unwrap();
        let container = |name: &str| {
            all[&format!("Deployment/{name}")]["spec"]["template"]["spec"]["containers"][0].clone()
        };
        let expected = json!({
            "exec": { "command": ["check", "it"] }, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 4,
        });
        assert_eq!(container("a")["readinessProbe"], expected);
        assert!(container("a").get("livenessProbe").is_none());
        let b = container("b");
        assert_eq!(b["livenessProbe"]["exec"]["command"], json!(["/bin/sh", "-c", "check it"]));
        assert_eq!(
            (&b["livenessProbe"]["failureThreshold"], &b["startupProbe"]["failureThreshold"]),
            (&json!(3), &json!(6))
        );
        for name in ["c", "d"] {
            assert!(container(name).get("readinessProbe").is_none(), "{name}");
        }
    }
}
