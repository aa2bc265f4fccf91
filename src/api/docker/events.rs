//! What is done, told line by line for as long as a client listens.

use bytes::Bytes;
use futures_util::stream;

use super::Door;
use super::call::Call;
use super::convert::time;
use super::query::{Filters, check_names, has_labels, wanted};
use super::reply::{self, Answer};
use super::wire::event::{Actor, Event};
use crate::engine::actions::{Action, Follower, Kind, Span};
use crate::error::{Context, Error, Result};

/// Some are of things that we do not have: nothing is done to them.
const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Names of actions that something more follows; one of them in a filter makes it match beginnings.
const LONG_NAMES: [&str; 3] = ["exec_create", "exec_start", "health_status"];

const SCOPE: &str = "local";

pub(super) fn events(door: &Door, call: &Call) -> Answer {
    let filters = call.query.filters()?;
    check_names(&filters, &FILTERS)?;
    let moment = |key: &str| match call.query.text(key) {
        None => Ok(None),
        Some(text) => match time::until(text) {
            Some(at) => Ok(Some(at)),
            None => Err(Error::invalid(format!("invalid value for {key:?}: {text:?}"))),
        },
    };
    let span = Span { since: moment("since")?, until: moment("until")? };
    if let Span { since: Some(since), until: Some(until) } = span
        && since > until
    {
        let (since, until) = (time::seconds(since), time::seconds(until));
        return Err(Error::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let following = Some((door.engine.follow_actions(span), filters));
    let lines = stream::unfold(following, |following| async {
        let (mut follower, filters) = following?;
        match next(&mut follower, &filters).await {
            Ok(Some(line)) => Some((Ok(line), Some((follower, filters)))),
            Ok(None) => None,
            // The stream breaks off: no client takes what it has for all there was.
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(reply::breakable_stream("application/json", lines))
}

/// The next line that passes.
async fn next(follower: &mut Follower, filters: &Filters) -> Result<Option<Bytes>> {
    while let Some(action) = follower.next().await? {
        if passes(&action, filters) {
            return line(&action).map(Some);
        }
    }
    Ok(None)
}

fn line(action: &Action) -> Result<Bytes> {
    let attribute = |name: &str| action.attributes.get(name).map(String::as_str);
    let is_old = matches!(action.kind, Kind::Container | Kind::Image);
    let event = Event {
        status: is_old.then_some(action.name.as_str()),
        id: is_old.then_some(action.subject.as_str()),
        from: attribute("image").filter(|_| action.kind == Kind::Container),
        kind: action.kind.as_str(),
        action: &action.name,
        actor: Actor { id: &action.subject, attributes: &action.attributes },
        scope: SCOPE,
        time: time::seconds(action.at),
        time_nano: action.at,
    };
    let mut line = serde_json::to_vec(&event).context("write an event")?;
    line.push(b'\n');
    Ok(Bytes::from(line))
}

fn passes(action: &Action, filters: &Filters) -> bool {
    let any = |name: &str, holds: &dyn Fn(&str) -> bool| {
        let values = wanted(filters, name);
        values.is_empty() || values.iter().any(|value| holds(value))
    };
    let name = action.attributes.get("name").map(String::as_str).unwrap_or_default();
    // Of things of one kind, those whose id or name begins so.
    let is_thing = |kind: &str| {
        any(kind, &|text| {
            action.kind.as_str() == kind
                && (action.subject.starts_with(text) || name.starts_with(text))
        })
    };
    let is_fuzzy =
        wanted(filters, "event").iter().any(|wanted| LONG_NAMES.contains(&wanted.as_str()));
    any("event", &|text| match is_fuzzy {
        true => action.name.starts_with(text),
        false => action.name == text,
    }) && any("type", &|text| text == action.kind.as_str())
        && any("scope", &|text| text == SCOPE)
        && ["container", "volume", "network"].into_iter().all(is_thing)
        && ["config", "daemon", "node", "plugin", "secret", "service"].into_iter().all(is_thing)
        && any("image", &|text| is_image(action, name, text))
        && has_labels(&action.attributes, wanted(filters, "label"))
}

/// An image is meant by its id or name, with or without a tag; a container's image by its name.
fn is_image(action: &Action, name: &str, text: &str) -> bool {
    let name = match action.kind {
        Kind::Image => name,
        Kind::Container | Kind::Volume | Kind::Network | Kind::Builder => {
            action.attributes.get("image").map(String::as_str).unwrap_or_default()
        }
    };
    let of_image = (action.kind == Kind::Image).then_some(action.subject.as_str());
    let mut names = of_image.into_iter().chain([name]).filter(|name| !name.is_empty());
    names.any(|name| name == text || without_tag(name) == text)
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn action(kind: Kind, name: &str, subject: &str, attributes: &[(&str, &str)]) -> Action {
        let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let attributes: BTreeMap<String, String> = attributes.collect();
        let (name, subject) = (name.to_owned(), subject.to_owned());
        Action { at: 1_500_000_000_000_000_001, kind, name, subject, attributes }
    }

    fn filters(pairs: &[(&str, &[&str])]) -> Filters {
        let list = |values: &&[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        pairs.iter().map(|(name, values)| ((*name).to_owned(), list(values))).collect()
    }

    #[test]
    fn a_line_has_the_fields_of_old_and_new_clients() {
        let started = action(Kind::Container, "start", "abc", &[("image", "busybox")]);
        let text = String::from_utf8(line(&started).unwrap().to_vec()).unwrap();
        assert_eq!(
            text,
            "{\"status\":\"start\",\"id\":\"abc\",\"from\":\"busybox\",\"Type\":\"container\",\
             \"Action\":\"start\",\"Actor\":{\"ID\":\"abc\",\"Attributes\":{\"image\":\
             \"busybox\"}},\"scope\":\"local\",\"time\":1500000000,\
             \"timeNano\":1500000000000000001}\n"
        );
        let made = action(Kind::Volume, "create", "data", &[]);
        assert!(line(&made).unwrap().starts_with(b"{\"Type\":\"volume\""));
    }

    #[test]
    fn every_filter_narrows_and_its_values_widen() {
        let about = [("image", "web:v1"), ("name", "front"), ("tier", "a")];
        let healthy = action(Kind::Container, "health_status: healthy", "abc", &about);
        let pulled = action(Kind::Image, "pull", "quay.io:5000/x:v1", &[("name", "quay.io/x")]);
        let joined = action(Kind::Network, "connect", "9f", &[("name", "net"), ("container", "a")]);
        for (filter, passing) in [
            (filters(&[]), [true, true, true]),
            (filters(&[("event", &["health_status"])]), [true, false, false]),
            (filters(&[("event", &["health_status: healthy", "pull"])]), [true, true, false]),
            (filters(&[("event", &["health"])]), [false, false, false]),
            (filters(&[("event", &["pul"])]), [false, false, false]),
            (filters(&[("type", &["image", "network"])]), [false, true, true]),
            (filters(&[("scope", &["swarm"])]), [false, false, false]),
            (filters(&[("daemon", &["x"])]), [false, false, false]),
            (filters(&[("container", &["front", "zzz"])]), [true, false, false]),
            (filters(&[("container", &["ab"])]), [true, false, false]),
            (filters(&[("network", &["net"])]), [false, false, true]),
            (filters(&[("volume", &["data"])]), [false, false, false]),
            (filters(&[("image", &["web"])]), [true, false, false]),
            (filters(&[("image", &["web:v1", "quay.io:5000/x"])]), [true, true, false]),
            (filters(&[("image", &["quay.io"])]), [false, false, false]),
            (filters(&[("label", &["tier"])]), [true, false, false]),
            (filters(&[("label", &["tier=a", "x"])]), [false, false, false]),
            (filters(&[("type", &["container"]), ("label", &["tier=a"])]), [true, false, false]),
        ] {
            let found = [&healthy, &pulled, &joined].map(|action| passes(action, &filter));
            assert_eq!(found, passing, "{filter:?}");
        }
    }
}
