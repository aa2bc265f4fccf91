//! What a container uses: now, or once a second for as long as a client listens.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Door;
use super::call::Call;
use super::containers::{self, Found};
use super::convert::stats as convert;
use super::reply::{self, Answer};
use crate::engine::stats::usage::Usage;
use crate::error::{Context, Error, Result};

/// Between two looks: rates are told by both.
const PERIOD: Duration = Duration::from_secs(1);

pub(super) async fn stats(door: &Door, id: &str, call: &Call) -> Answer {
    let is_streaming = call.query.text("stream").is_none() || call.query.switch("stream");
    let is_one_shot = call.query.switch("one-shot");
    if is_streaming && is_one_shot {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    // The first tick is at once.
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch { door: door.clone(), id: subject(door, id)?.0, before: None, ticks };
    if is_streaming {
        let lines = stream::unfold(Some(watch), |watching| async {
            let mut watch = watching?;
            watch.ticks.tick().await;
            match watch.line().await {
                Ok(Some(line)) => Some((Ok(line), Some(watch))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        return Ok(reply::breakable_stream("application/json", lines));
    }
    watch.ticks.tick().await;
    if !is_one_shot && watch.look().await?.is_some() {
        watch.ticks.tick().await;
    }
    let line = watch.line().await?;
    let line = line.ok_or_else(|| Error::not_found(format!("No such container: {id}")))?;
    let mut response = http::Response::new(reply::full(line));
    reply::set_type(&mut response, "application/json");
    Ok(response)
}

/// The id and name of a container of either door.
fn subject(door: &Door, text: &str) -> Result<(String, String)> {
    Ok(match containers::find(door, text)? {
        Found::Standalone(found) => (found.record().id.to_string(), found.record().name.clone()),
        Found::Pod(found) => {
            (found.id.to_string(), door.engine.pod_container_name(&found).unwrap_or_default())
        }
    })
}

struct Watch {
    door: Door,
    id: String,
    before: Option<Usage>,
    ticks: Interval,
}

impl Watch {
    /// The first of two looks.
    async fn look(&mut self) -> Result<Option<&Usage>> {
        self.before = self.door.engine.usage(&self.id).await?;
        Ok(self.before.as_ref())
    }

    /// What is to be told now; nothing once the container is gone.
    async fn line(&mut self) -> Result<Option<Bytes>> {
        let Ok((id, name)) = subject(&self.door, &self.id) else { return Ok(None) };
        let now = self.door.engine.usage(&self.id).await?;
        let stats = convert::stats((&id, &name), now.as_ref(), self.before.as_ref());
        let mut line = serde_json::to_vec(&stats).context("write the figures")?;
        line.push(b'\n');
        self.before = now;
        Ok(Some(Bytes::from(line)))
    }
}
