//! `events`.

use clap::Args;

use super::{filters, logs::point};
use crate::client::{Path, documents};
use crate::error::Result;
use crate::json::Value;
use crate::{Cais, output, table, units};

/// Get real time events from the server
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_parser = super::filter)]
    filter: Vec<String>,
    /// Format output using 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Show all events created since timestamp
    #[arg(long, default_value = "")]
    since: String,
    /// Stream events until this timestamp
    #[arg(long, default_value = "")]
    until: String,
}

impl Events {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let path = Path::new(&["events"])
            .with_text("since", &point("since", &self.since)?)
            .with_text("until", &point("until", &self.until)?)
            .with_text("filters", &filters(&self.filter)?);
        let reply = cais.client.get(path)?;
        for event in documents(reply.body) {
            let event = event?;
            output::line(&if self.format.is_empty() {
                line(&event)
            } else {
                table::object(&self.format, &event)?
            })?;
        }
        Ok(())
    }
}

/// `2026-11-26T15:12:15.000000000Z container start ID (image=busybox, name=web)`
fn line(event: &Value) -> String {
    let nanos = match event["timeNano"].integer() {
        0 => event["time"].integer().saturating_mul(1_000_000_000),
        nanos => nanos,
    };
    let actor = &event["Actor"];
    let mut attributes: Vec<_> = actor["Attributes"]
        .members()
        .iter()
        .map(|(key, value)| format!("{key}={}", value.text()))
        .collect();
    attributes.sort_unstable();
    let shown =
        if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    let [kind, action, id] = [&event["Type"], &event["Action"], &actor["ID"]].map(Value::text);
    format!("{} {kind} {action} {id}{shown}", units::local_nanos(nanos))
}
