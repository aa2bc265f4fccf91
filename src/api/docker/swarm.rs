//! Swarm, which this is no part of. Clients ask to find out, and to leave before they begin.

use http::{Method, StatusCode};
use serde_json::json;

use super::reply::{self, Answer};
use crate::error::{Error, Kind};

const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \
                          \"docker swarm join\" to connect this node to swarm and try again.";

pub(super) fn route(method: &Method, path: &[&str]) -> Answer {
    let message = match (method, path) {
        (&Method::POST, ["swarm", "init" | "join"]) => {
            return Err(Error::new(Kind::Unsupported, "swarm is not supported"));
        }
        (&Method::POST, ["swarm", "leave"]) => "This node is not part of a swarm",
        _ => NO_MANAGER,
    };
    reply::with_status(StatusCode::SERVICE_UNAVAILABLE, &json!({ "message": message }))
}
