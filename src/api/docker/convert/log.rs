//! Log drivers and their options.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::create::unsupported;
use crate::api::docker::wire::container::{HostConfig, LogConfig};
use crate::engine::standalone::config::LogLimit;
use crate::error::{Error, Result};

/// The log driver of a container that keeps no log.
pub(crate) const NO_LOG: &str = "none";

/// Docker's, for the driver `local`.
const LOCAL: LogLimit = LogLimit { bytes: 20 << 20, files: 5 };

/// Options that the log itself has nothing of: how files are packed, what is told beside each line, and that a
/// full pipe does not hold up who writes.
const WITHOUT_EFFECT: [&str; 8] =
    ["compress", "env", "env-regex", "labels", "labels-regex", "max-buffer-size", "mode", "tag"];

pub(crate) fn driver(host: &HostConfig) -> &str {
    host.log_config.as_ref().map(|log| log.driver.as_str()).unwrap_or_default()
}

/// How long the log may become; `None`: it grows.
///
/// # Errors
/// For a driver or an option that we do not have, in Docker's words if it does not have it either.
pub(crate) fn limit(host: &HostConfig) -> Result<Option<LogLimit>> {
    let default = LogConfig::default();
    let LogConfig { driver, options } = host.log_config.as_ref().unwrap_or(&default);
    // Two names for files here, whose form is nobody's business.
    let (driver, of_driver) = match driver.as_str() {
        "" | "json-file" => ("json-file", None),
        "local" => ("local", Some(LOCAL)),
        NO_LOG => return Ok(None),
        driver
        @ ("journald" | "syslog" | "gelf" | "fluentd" | "awslogs" | "gcplogs" | "splunk") => {
            return unsupported(format!("--log-driver {driver}"));
        }
        other => {
            let text = format!("logger: no log driver named '{other}' is registered");
            return Err(Error::invalid(text));
        }
    };
    let (mut bytes, mut files) = (of_driver.map(|it| it.bytes), of_driver.map(|it| it.files));
    for (name, value) in options {
        match name.as_str() {
            "max-size" if value == "-1" => bytes = None,
            "max-size" => {
                bytes = Some(size(value).ok_or_else(|| {
                    Error::invalid(format!("invalid value for max-size: {value:?}"))
                })?);
            }
            "max-file" => {
                files = Some(value.parse().ok().filter(|files| *files > 0).ok_or_else(|| {
                    Error::invalid(format!("max-file cannot be less than 1: {value:?}"))
                })?);
            }
            name if WITHOUT_EFFECT.contains(&name) => {}
            other => {
                let text = format!("unknown log opt '{other}' for {driver} log driver");
                return Err(Error::invalid(text));
            }
        }
    }
    Ok(bytes.map(|bytes| LogLimit { bytes, files: files.unwrap_or(1) }))
}

/// What `docker logs --details` has in front of each line: the labels and the variables of the container that its log
/// options name, as `a=b,c=d`, escaped.
pub(crate) fn details(request: &Value) -> String {
    let option = |name: &str| request["HostConfig"]["LogConfig"]["Config"][name].as_str();
    let names = |option: Option<&str>| -> BTreeSet<String> {
        option.into_iter().flat_map(|all| all.split(',')).map(str::to_owned).collect()
    };
    let mut all = BTreeMap::new();
    let labels = names(option("labels"));
    for (name, value) in request["Config"]["Labels"].as_object().into_iter().flatten() {
        all.extend(value.as_str().filter(|_| labels.contains(name)).map(|it| (name.as_str(), it)));
    }
    let variables = names(option("env"));
    for variable in request["Config"]["Env"].as_array().into_iter().flatten() {
        let pair = variable.as_str().and_then(|it| it.split_once('='));
        all.extend(pair.filter(|(name, _)| variables.contains(*name)));
    }
    let escaped = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pairs = all.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// `10m`: bytes with a unit of 1024, as Docker reads it.
fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match lower.get(number.len()..)?.trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    let number: u64 = number.trim_end().parse().ok()?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(driver: &str, options: &[(&str, &str)]) -> Result<Option<LogLimit>> {
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let log = LogConfig { driver: driver.to_owned(), options: options.collect() };
        limit(&HostConfig { log_config: Some(log), ..HostConfig::default() })
    }

    #[test]
    fn details_are_the_labels_and_variables_that_options_name() {
        let request = serde_json::json!({
            "Config": { "Labels": { "b": "x y", "c": "no" }, "Env": ["A=1=2", "PATH=/bin"] },
            "HostConfig": { "LogConfig": { "Config": { "labels": "b,none", "env": "A" } } },
        });
        assert_eq!(details(&request), "A=1%3D2,b=x+y");
        assert_eq!(details(&serde_json::json!({ "HostConfig": null })), "");
    }

    #[test]
    fn a_limit_is_read_as_docker_reads_it() {
        assert_eq!(asked("", &[]).unwrap(), None);
        assert_eq!(
            asked("json-file", &[("max-file", "3"), ("mode", "non-blocking")]).unwrap(),
            None
        );
        let limit = |bytes, files| Some(LogLimit { bytes, files });
        assert_eq!(asked("", &[("max-size", "10m")]).unwrap(), limit(10 << 20, 1));
        assert_eq!(
            asked("", &[("max-size", "1KB"), ("max-file", "2")]).unwrap(),
            limit(1 << 10, 2)
        );
        assert_eq!(asked("local", &[("max-file", "2")]).unwrap(), limit(20 << 20, 2));
        for (options, text) in [
            (("max-size", "0"), "max-size"),
            (("max-size", "10x"), "max-size"),
            (("max-file", "0"), "max-file cannot be less than 1"),
            (("max-sise", "1m"), "unknown log opt 'max-sise' for json-file log driver"),
        ] {
            let refused = asked("json-file", &[options]).unwrap_err();
            assert!(refused.chain().contains(text), "{options:?}: {}", refused.chain());
        }
        assert!(asked("syslog", &[]).is_err());
        assert!(asked("nolog", &[]).is_err());
    }
}
