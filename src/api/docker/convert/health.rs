//! Healthchecks: what an image and a request ask for together, and what is said of them.

use std::time::Duration;

use serde_json::Value;

use super::time;
use crate::api::docker::wire::container::{CreateRequest, Healthcheck};
use crate::api::docker::wire::details::{Health, HealthResult};
use crate::engine::Engine;
use crate::engine::standalone::health::{Check, Status};
use crate::engine::standalone::record::{Record, State};
use crate::error::{Context, Error, Kind, Result};

/// Of every healthcheck that says nothing else, as Docker has them.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

const SHORTEST_NANOS: i64 = 1_000_000;

/// The request's healthcheck over the image's; `image` is the `config` of its document.
///
/// # Errors
/// In Docker's words, for times under a millisecond and a negative number of retries.
pub(crate) fn merged(request: &CreateRequest, image: &Value) -> Result<Option<Healthcheck>> {
    let of_image = image.get("Healthcheck").filter(|it| !it.is_null()).cloned();
    let of_image: Option<Healthcheck> = of_image
        .map(serde_json::from_value)
        .transpose()
        .context("read the image's healthcheck")
        .kind(Kind::InvalidArgument)?;
    let merged = match (request.healthcheck.clone(), of_image) {
        (None, of_image) => of_image,
        (own, None) => own,
        (Some(own), Some(image)) => Some(Healthcheck {
            test: own.test.filter(|test| !test.is_empty()).or(image.test),
            interval: first(own.interval, image.interval),
            timeout: first(own.timeout, image.timeout),
            start_period: first(own.start_period, image.start_period),
            start_interval: first(own.start_interval, image.start_interval),
            retries: first(own.retries, image.retries),
        }),
    };
    merged.as_ref().map(validate).transpose()?;
    Ok(merged)
}

fn first(own: i64, other: i64) -> i64 {
    if own == 0 { other } else { own }
}

fn validate(it: &Healthcheck) -> Result<()> {
    for (name, nanos) in [
        ("Interval", it.interval),
        ("Timeout", it.timeout),
        ("StartPeriod", it.start_period),
        ("StartInterval", it.start_interval),
    ] {
        if nanos != 0 && nanos < SHORTEST_NANOS {
            let text = format!("{name} in Healthcheck cannot be less than 1ms");
            return Err(Error::invalid(text));
        }
    }
    if it.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// What is to be asked; nothing with `NONE`, without a test, and with one of a kind that is not known.
pub(crate) fn check(
    healthcheck: &Healthcheck,
    request: &CreateRequest,
    image: &Value,
) -> Option<Check> {
    let (kind, words) = healthcheck.test.as_deref()?.split_first()?;
    let command = match kind.as_str() {
        "CMD" => words.to_vec(),
        "CMD-SHELL" => [shell(request, image), words.to_vec()].concat(),
        _ => return None,
    };
    let or = |nanos: i64, default: Duration| match u64::try_from(nanos) {
        Ok(0) | Err(_) => default,
        Ok(nanos) => Duration::from_nanos(nanos),
    };
    Some(Check {
        command,
        interval: or(healthcheck.interval, INTERVAL),
        timeout: or(healthcheck.timeout, TIMEOUT),
        start_period: or(healthcheck.start_period, Duration::ZERO),
        start_interval: or(healthcheck.start_interval, START_INTERVAL),
        retries: u32::try_from(healthcheck.retries).ok().filter(|it| *it > 0).unwrap_or(RETRIES),
    })
}

fn shell(request: &CreateRequest, image: &Value) -> Vec<String> {
    let of_image = image.get("Shell").cloned();
    let of_image = of_image.and_then(|shell| serde_json::from_value(shell).ok());
    let own = request.shell.clone().filter(|shell| !shell.is_empty());
    let found: Option<Vec<String>> = own.or(of_image).filter(|shell| !shell.is_empty());
    found.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
}

/// Of one that never ran nothing is known, and one that does not run is not well.
fn status(record: &Record) -> Option<Status> {
    record.config.health.as_ref()?;
    match &record.state {
        State::Created { .. } => None,
        State::Running(run) => run.health,
        State::Restarting(_) | State::Exited { .. } => Some(Status::Unhealthy),
    }
}

/// As the `health` filter of a list calls it.
pub(crate) fn name(record: &Record) -> &'static str {
    status(record).map_or("none", Status::as_str)
}

/// What stands behind `Up 5 minutes`.
pub(crate) fn suffix(status: Option<Status>) -> &'static str {
    match status {
        None => "",
        Some(Status::Starting) => " (health: starting)",
        Some(Status::Healthy) => " (healthy)",
        Some(Status::Unhealthy) => " (unhealthy)",
    }
}

pub(crate) fn shown(engine: &Engine, record: &Record) -> Option<Health> {
    let status = status(record)?.as_str();
    let results = engine.health_results(&record.id);
    let result = |probe: crate::engine::standalone::health::Probe| HealthResult {
        start: time::text(probe.began_at),
        end: time::text(probe.ended_at),
        exit_code: probe.code,
        output: probe.output,
    };
    Some(Health {
        status,
        failing_streak: results.failing_streak,
        log: results.last.into_iter().map(result).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(body: Value) -> CreateRequest {
        serde_json::from_value(body).unwrap()
    }

    fn checked(body: Value, image: &Value) -> Option<Check> {
        let request = request(body);
        let merged = merged(&request, image).unwrap()?;
        check(&merged, &request, image)
    }

    #[test]
    fn what_a_request_does_not_say_the_image_says_and_then_docker() {
        let image = json!({ "Healthcheck": { "Test": ["CMD", "a", "b"], "Retries": 7 } });
        let plain = checked(json!({}), &image).unwrap();
        assert_eq!((plain.command, plain.retries), (vec!["a".to_owned(), "b".into()], 7));
        assert_eq!((plain.interval, plain.timeout), (INTERVAL, TIMEOUT));
        assert_eq!((plain.start_period, plain.start_interval), (Duration::ZERO, START_INTERVAL));

        let own = json!({ "Healthcheck": { "Interval": 2_000_000_000_u64, "Retries": 1 } });
        let own = checked(own, &image).unwrap();
        assert_eq!((own.command.len(), own.retries), (2, 1));
        assert_eq!(own.interval, Duration::from_secs(2));
    }

    #[test]
    fn a_line_goes_to_the_shell_of_the_image() {
        let body = || json!({ "Healthcheck": { "Test": ["CMD-SHELL", "a && b"] } });
        assert_eq!(checked(body(), &json!({})).unwrap().command, ["/bin/sh", "-c", "a && b"]);
        let image = json!({ "Shell": ["/bin/bash", "-ec"] });
        assert_eq!(checked(body(), &image).unwrap().command, ["/bin/bash", "-ec", "a && b"]);
    }

    #[test]
    fn none_takes_the_images_away() {
        let image = json!({ "Healthcheck": { "Test": ["CMD", "a"] } });
        assert_eq!(checked(json!({ "Healthcheck": { "Test": ["NONE"] } }), &image), None);
        assert_eq!(checked(json!({}), &json!({ "Healthcheck": null })), None);
        assert_eq!(checked(json!({ "Healthcheck": { "Retries": 2 } }), &json!({})), None);
    }

    #[test]
    fn times_that_are_too_short_are_refused() {
        for body in [
            json!({ "Interval": 999_999 }),
            json!({ "Timeout": -1 }),
            json!({ "StartPeriod": 1 }),
            json!({ "StartInterval": 1 }),
            json!({ "Retries": -1 }),
        ] {
            let request = request(json!({ "Healthcheck": body }));
            assert!(merged(&request, &json!({})).is_err(), "{request:?}");
        }
    }
}
