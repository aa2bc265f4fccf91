//! Networks: made, seen, removed, and containers put into them.

use http::StatusCode;
use regex::Regex;

use super::call::Call;
use super::convert::{network, network_object as convert, time};
use super::query::{Filters, check_names, has_labels, wanted};
use super::reply::{self, Answer};
use super::wire::network::{ConnectRequest, CreateRequest, Created, DisconnectRequest, Pruned};
use super::{Door, containers};
use crate::engine::networks::Found;
use crate::error::{Error, Kind, Result};

const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

pub(super) async fn create(door: &Door, call: Call) -> Answer {
    let body: CreateRequest = call.json().await?;
    let made = door.engine.create_network(convert::request(body)?).await?;
    reply::created(&Created { id: made.id.to_string(), warning: "" })
}

pub(super) fn list(door: &Door, call: &Call) -> Answer {
    let filters = call.query.filters()?;
    check_names(&filters, &FILTERS)?;
    let names = wanted(&filters, "name").iter().map(|name| {
        Regex::new(name).map_err(|_| Error::invalid(format!("invalid filter 'name={name}'")))
    });
    let names = names.collect::<Result<Vec<_>>>()?;
    for kind in wanted(&filters, "type") {
        if !matches!(kind.as_str(), "custom" | "builtin") {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    let mut all = vec![Found::Node, Found::Host, Found::Nothing];
    all.extend(door.engine.networks().into_iter().map(Found::Custom));
    all.retain(|found| keeps(door, found, &filters, &names));
    reply::json(&all.iter().map(|it| convert::shown(&door.engine, it)).collect::<Vec<_>>())
}

fn keeps(door: &Door, found: &Found, filters: &Filters, names: &[Regex]) -> bool {
    let shown = convert::shown(&door.engine, found);
    let any = |name: &str, holds: &dyn Fn(&str) -> bool| {
        let values = wanted(filters, name);
        values.is_empty() || values.iter().any(|value| holds(value))
    };
    let is_custom = matches!(found, Found::Custom(_));
    let is_used =
        || convert::reference(found).is_none_or(|of| !door.engine.network_members(&of).is_empty());
    (names.is_empty() || names.iter().any(|name| name.is_match(&shown.name)))
        && any("id", &|id| shown.id.contains(id))
        && any("driver", &|driver| driver == shown.driver)
        && any("scope", &|scope| scope == shown.scope)
        && any("type", &|kind| (kind == "custom") == is_custom)
        && any("dangling", &|text| matches!(text, "1" | "true") == (is_custom && !is_used()))
        && has_labels(&shown.labels, wanted(filters, "label"))
}

pub(super) fn inspect(door: &Door, name: &str) -> Answer {
    let found = door.engine.find_network(name)?;
    reply::json(&convert::with_containers(&door.engine, &found))
}

pub(super) async fn remove(door: &Door, name: &str) -> Answer {
    match door.engine.find_network(name)? {
        Found::Custom(record) => door.engine.remove_network(record).await?,
        found @ (Found::Node | Found::Host | Found::Nothing) => {
            let name = found.name();
            let message = format!("{name} is a pre-defined network and cannot be removed");
            return Err(Error::new(Kind::Forbidden, message));
        }
    }
    reply::nothing()
}

/// Those that no running container is in.
pub(super) async fn prune(door: &Door, call: &Call) -> Answer {
    let filters = call.query.filters()?;
    check_names(&filters, &PRUNE_FILTERS)?;
    let until = wanted(&filters, "until").first().map(|text| {
        time::until(text).ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}'")))
    });
    let until = until.transpose()?;
    let mut networks_deleted = Vec::new();
    for record in door.engine.networks() {
        let unwanted = wanted(&filters, "label!");
        if !has_labels(&record.labels, wanted(&filters, "label"))
            || unwanted.iter().any(|it| has_labels(&record.labels, std::slice::from_ref(it)))
            || until.is_some_and(|until| record.created_at >= until)
        {
            continue;
        }
        let name = record.name.clone();
        match door.engine.remove_network(record).await {
            Ok(()) => networks_deleted.push(name),
            // Containers are in it.
            Err(error) if error.kind() == Kind::Forbidden => {}
            Err(error) => return Err(error),
        }
    }
    door.engine.networks_pruned();
    reply::json(&Pruned { networks_deleted })
}

pub(super) async fn connect(door: &Door, name: &str, call: Call) -> Answer {
    let body: ConnectRequest = call.json().await?;
    let found = door.engine.find_network(name)?;
    let container = containers::standalone(door, &body.container)?;
    let wanted = network::wanted(body.endpoint_config)?;
    door.engine.connect_network(found, &container, wanted).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(super) async fn disconnect(door: &Door, name: &str, call: Call) -> Answer {
    let body: DisconnectRequest = call.json().await?;
    let found = door.engine.find_network(name)?;
    let container = containers::standalone(door, &body.container)?;
    door.engine.disconnect_network(found, &container).await?;
    Ok(reply::empty(StatusCode::OK))
}
