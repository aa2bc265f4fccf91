//! Connections that change hands and carry BuildKit's calls from then on.

use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use tracing::Instrument;

use super::Door;
use super::call::Call;
use super::reply::{self, Answer, Body};
use crate::api::buildkit::Offer;
use crate::error::{Error, Result};

/// What the client speaks then (RFC 7540, 3.2).
const PROTOCOL: &str = "h2c";

/// The daemon answers calls.
pub(super) fn grpc(door: &Door, call: Call) -> Answer {
    let upgrade = asked(call)?.0;
    let kit = door.buildkit.clone();
    Ok(changing_hands(upgrade, async move |io| kit.serve(io).await))
}

/// The client answers calls.
pub(super) fn session(door: &Door, call: Call) -> Answer {
    let (upgrade, call) = asked(call)?;
    let offer = Offer::of(&call.headers)?;
    let kit = door.buildkit.clone();
    Ok(changing_hands(upgrade, async move |io| {
        if let Err(error) = kit.keep_session(offer, io).await {
            tracing::info!(error = error.chain(), "a build client's session");
        }
    }))
}

fn asked(call: Call) -> Result<(OnUpgrade, Call)> {
    let is_it = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes());
    let is_asked = call.headers.get(header::UPGRADE).is_some_and(is_it);
    match call.split_upgrade() {
        (Some(upgrade), call) if is_asked => Ok((upgrade, call)),
        _ => Err(Error::invalid(format!("this needs an upgrade to {PROTOCOL}"))),
    }
}

fn changing_hands<F>(
    upgrade: OnUpgrade,
    carry: impl FnOnce(Upgraded) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send,
{
    let carrying = async move {
        match upgrade.await {
            Ok(io) => carry(io).await,
            Err(error) => tracing::debug!(%error, "a connection did not change hands"),
        }
    };
    tokio::spawn(carrying.in_current_span());
    let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}
