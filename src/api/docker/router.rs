//! From method and path to the function that answers.

use http::{Method, Request};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::call::Call;
use super::reply::{self, Answer};
use super::{
    Door, archive, attach, build, buildkit, containers, events, execs, images, lent, logs, making,
    networks, prune, ps, pull, push, stats, swarm, system, volumes,
};
use crate::error::{Error, Kind, Result};

/// The table of routes. Names of images may have slashes in them.
pub(super) async fn route(door: &Door, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let path = segments(request.uri().path())?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let call = Call::of(request).await?;
    match (&method, path.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => Ok(system::ping(&method, &call.headers)),
        (&Method::GET, ["version"]) => system::version(),
        (&Method::GET, ["info"]) => system::info(door),
        (&Method::GET, ["events"]) => events::events(door, &call),
        (&Method::GET, ["system", "df"]) => prune::usage(door, &call).await,
        (&Method::POST, ["build"]) => build::build(door, call).await,
        (&Method::POST, ["build", "agent"]) => lent::lend(door, call),
        (&Method::POST, ["build", "secret"]) => lent::give_secret(door, call).await,
        (&Method::POST, ["build", "context"]) => lent::give_context(door, call).await,
        (&Method::POST, ["grpc"]) => buildkit::grpc(door, call),
        (&Method::POST, ["session"]) => buildkit::session(door, call),
        (&Method::GET, ["build", "cache"]) => build::export_cache(door, &call).await,
        (&Method::PUT, ["build", "cache"]) => build::import_cache(door, call).await,
        (&Method::POST, ["build", "prune"]) => build::prune(door, &call).await,
        (&Method::POST, ["images", "prune"]) => prune::images(door, &call).await,
        (&Method::POST, ["containers", ..] | ["exec", ..]) => post(door, call, &path).await,
        (&Method::GET, ["containers", "json"]) => ps::list(door, &call).await,
        (&Method::GET, ["containers", id, "attach", "ws"]) => {
            attach::attach_websocket(door, id, call).await
        }
        (&Method::GET, ["containers", id, "json"]) => containers::inspect(door, id),
        (&Method::GET, ["containers", id, "logs"]) => logs::logs(door, id, &call).await,
        (&Method::GET, ["containers", id, "top"]) => containers::top(door, id, &call).await,
        (method @ (&Method::GET | &Method::HEAD | &Method::PUT), ["containers", id, "archive"]) => {
            archive::route(door, method, id, call).await
        }
        (&Method::GET, ["containers", id, "stats"]) => stats::stats(door, id, &call).await,
        (&Method::GET, ["containers", id, "changes"]) => archive::changes(door, id).await,
        (&Method::GET, ["containers", id, "export"]) => archive::export(door, id),
        (&Method::DELETE, ["containers", id]) => containers::remove(door, id, &call).await,
        (&Method::GET, ["exec", id, "json"]) => execs::inspect(door, id),
        (&Method::GET, ["images", "json"]) => images::list(door, &call),
        (&Method::POST, ["commit"]) => making::commit(door, call).await,
        (&Method::POST, ["images", "create"]) if call.query.text("fromSrc").is_some() => {
            making::import(door, call).await
        }
        (&Method::POST, ["images", "create"]) => pull::pull(door, &call),
        (&Method::POST, ["images", "load"]) => making::load(door, call).await,
        (&Method::GET, ["images", "get"]) => making::save(door, &call, &call.query.owned("names")),
        (&Method::GET, ["images", name @ .., "get"]) => {
            making::save(door, &call, &[name.join("/")])
        }
        (&Method::GET, ["images", "search"]) => {
            Err(Error::new(Kind::Unsupported, "searching a registry is not supported"))
        }
        (&Method::GET, ["images", name @ .., "json"]) => {
            images::inspect(door, &name.join("/"), &call)
        }
        (&Method::GET, ["images", name @ .., "history"]) => images::history(door, &name.join("/")),
        (&Method::POST, ["auth"]) => push::login(door, call).await,
        (&Method::GET, ["distribution", name @ .., "json"]) => {
            push::offered(door, &name.join("/"), &call).await
        }
        (&Method::POST, ["images", name @ .., "push"]) => push::push(door, &name.join("/"), &call),
        (&Method::POST, ["images", name @ .., "tag"]) => {
            images::tag(door, &name.join("/"), &call).await
        }
        (&Method::DELETE, ["images", name @ ..]) => {
            images::remove(door, &name.join("/"), &call).await
        }
        (method, ["volumes", rest @ ..]) => volumes::route(door, method, rest, call).await,
        (method, ["configs" | "nodes" | "secrets" | "services" | "swarm" | "tasks", ..]) => {
            swarm::route(method, &path)
        }
        (method, ["plugins", rest @ ..]) => plugins(method, rest),
        (_, ["networks", rest @ ..]) => network(door, call, &method, rest).await,
        _ => Err(unknown()),
    }
}

async fn network(door: &Door, call: Call, method: &Method, path: &[&str]) -> Answer {
    match (method, path) {
        (&Method::GET, [] | [""]) => networks::list(door, &call),
        (&Method::POST, ["create"]) => networks::create(door, call).await,
        (&Method::POST, ["prune"]) => networks::prune(door, &call).await,
        (&Method::POST, [name, "connect"]) => networks::connect(door, name, call).await,
        (&Method::POST, [name, "disconnect"]) => networks::disconnect(door, name, call).await,
        (&Method::GET, [name]) => networks::inspect(door, name),
        (&Method::DELETE, [name]) => networks::remove(door, name).await,
        _ => Err(unknown()),
    }
}

/// There are none, and none can be had.
fn plugins(method: &Method, path: &[&str]) -> Answer {
    match (method, path) {
        (&Method::GET, []) => reply::json(&[(); 0]),
        (&Method::GET, [name, "json"]) => {
            Err(Error::not_found(format!("plugin {name:?} not found")))
        }
        _ => Err(Error::new(Kind::Unsupported, "plugins are not supported")),
    }
}

/// What changes a container.
async fn post(door: &Door, call: Call, path: &[&str]) -> Answer {
    match path {
        ["containers", "create"] => containers::create(door, call).await,
        ["containers", "prune"] => prune::containers(door, &call).await,
        ["containers", id, "start"] => containers::start(door, id, &call).await,
        ["containers", id, "takeover"] => containers::take_over(door, id, &call).await,
        ["containers", id, "stop"] => containers::stop(door, id, &call).await,
        ["containers", id, "restart"] => containers::restart(door, id, &call).await,
        ["containers", id, "kill"] => containers::kill(door, id, &call).await,
        ["containers", id, "pause"] => containers::pause(door, id).await,
        ["containers", id, "unpause"] => containers::unpause(door, id).await,
        ["containers", id, "rename"] => containers::rename(door, id, &call).await,
        ["containers", id, "update"] => containers::update(door, id, call).await,
        ["containers", id, "wait"] => containers::wait(door, id, &call),
        ["containers", id, "attach"] => attach::attach(door, id, call).await,
        ["containers", id, "resize"] => attach::resize(door, id, &call).await,
        ["containers", id, "exec"] => execs::create(door, id, call).await,
        ["exec", id, "start"] => execs::start(door, id, call).await,
        ["exec", id, "resize"] => execs::resize(door, id, &call).await,
        _ => Err(unknown()),
    }
}

pub(super) fn unknown() -> Error {
    Error::not_found("page not found")
}

/// The parts of a path, decoded, without the version in front.
fn segments(path: &str) -> Result<Vec<String>> {
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    parts.next_if(|first| is_version(first));
    parts
        .map(|part| {
            let decoded = percent_decode_str(part).decode_utf8();
            decoded.map(|text| text.into_owned()).map_err(|_| unknown())
        })
        .collect()
}

/// `v1.51`, or any other number.
fn is_version(text: &str) -> bool {
    text.strip_prefix('v').is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_front_makes_no_difference() {
        for path in ["/images/json", "/v1.24/images/json", "/v1.99/images/json", "/v2/images/json"]
        {
            assert_eq!(segments(path).unwrap(), ["images", "json"], "{path}");
        }
        assert_eq!(segments("/version").unwrap(), ["version"]);
        assert_eq!(segments("/v1.51/volumes/v1.51").unwrap(), ["volumes", "v1.51"]);
    }

    #[test]
    fn names_are_decoded_after_the_path_is_taken_apart() {
        assert_eq!(segments("/volumes/a%2Fb%3A1").unwrap(), ["volumes", "a/b:1"]);
        assert_eq!(segments("/images/a/b:1/json").unwrap(), ["images", "a", "b:1", "json"]);
        assert!(segments("/volumes/%ff").is_err());
    }
}
