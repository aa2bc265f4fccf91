//! The HTTP side: finds the session behind a token, agrees on a protocol, upgrades.
//!
//! Every session runs in a task of its own, so that a fault in one ends that one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::backend::{Attach, Backend, Exec, PortForward};
use super::protocol::{
    self, PORT_FORWARD, PORT_FORWARD_TUNNEL, REMOTE_COMMAND, RemoteCommand, WEB_SOCKET,
    WebSocketProtocol,
};
use super::spdy::Session;
use super::tokens::Tokens;
use super::{port_forward, serve};
use crate::error::Result;

pub(crate) const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
const HEADERS: Duration = Duration::from_secs(30);
const CONNECTIONS_LIMIT: usize = 4096;
const SPDY: &str = "SPDY/3.1";
static VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
static ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Registered {
    Exec(Exec),
    Attach(Attach),
    PortForward(PortForward),
}

impl Registered {
    /// The first part of the path under which the session is served.
    pub(crate) fn route(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) tokens: Tokens<Registered>,
    pub(crate) backend: Arc<dyn Backend>,
    /// Counts the sessions that are open.
    pub(crate) sessions: TaskTracker,
}

impl Shared {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Arc<Self> {
        let (tokens, sessions) = (Tokens::default(), TaskTracker::new());
        Arc::new(Self { tokens, backend, sessions })
    }
}

/// Serves connections for ever.
pub(crate) async fn run(listener: TcpListener, shared: Arc<Shared>) -> Result<Infallible> {
    let router = axum::Router::new().route("/{route}/{token}", any(open)).with_state(shared);
    let service = TowerToHyperService::new(router);
    let places = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.ok();
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                // Out of descriptors, or a client that left at once: others may still be served.
                tracing::warn!("accept a streaming connection: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let _ = connection.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            let _place = place;
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(connection), service)
                .with_upgrades()
                .await;
            if let Err(error) = served {
                tracing::debug!("streaming connection: {error}");
            }
        });
    }
}

async fn open(
    State(shared): State<Arc<Shared>>,
    Path((route, token)): Path<(String, String)>,
    request: Request,
) -> Response {
    if request.method() != Method::GET && request.method() != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Some(registered) = shared.tokens.redeem(&token).filter(|found| found.route() == route)
    else {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    };
    if names(request.headers(), &header::UPGRADE).any(|name| name.eq_ignore_ascii_case("websocket"))
    {
        over_websocket(registered, &shared, request).await
    } else {
        over_spdy(registered, &shared, request)
    }
}

fn over_spdy(registered: Registered, shared: &Shared, request: Request) -> Response {
    let headers = request.headers();
    let upgrades = names(headers, &header::CONNECTION).any(|n| n.eq_ignore_ascii_case("upgrade"))
        && names(headers, &header::UPGRADE).any(|name| name.eq_ignore_ascii_case(SPDY));
    if !upgrades {
        return refuse("unable to upgrade: the request asks for neither SPDY/3.1 nor WebSocket");
    }
    let (chosen, remote) = match choose_spdy(&registered, headers) {
        Ok(chosen) => chosen,
        Err(response) => return *response,
    };
    let upgrade = hyper::upgrade::on(request);
    let backend = Arc::clone(&shared.backend);
    shared.sessions.spawn(async move {
        let Some((connection, early)) = upgraded(upgrade).await else { return };
        let (read, write) = connection.into_split();
        let session = Session::start(read, write, &early, IDLE);
        serve::over_spdy(session, registered, remote, backend).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(&VERSION, HeaderValue::from_static(chosen));
    response
}

/// The protocol's name, and for exec and attach what it means.
fn choose_spdy(
    registered: &Registered,
    headers: &HeaderMap,
) -> Result<(&'static str, RemoteCommand), Box<Response>> {
    if !headers.contains_key(&VERSION) {
        return Err(Box::new(refuse("unable to upgrade: no stream protocol version is named")));
    }
    let offered = || names(headers, &VERSION);
    let (chosen, accepted): (_, Vec<&'static str>) = match registered {
        Registered::PortForward(_) => {
            let only = protocol::choose(offered(), &[PORT_FORWARD], |known| known);
            (only.map(|name| (name, REMOTE_COMMAND[0])), vec![PORT_FORWARD])
        }
        Registered::Exec(_) | Registered::Attach(_) => {
            let version = protocol::choose(offered(), &REMOTE_COMMAND, |known| known.name);
            let known = REMOTE_COMMAND.iter().map(|known| known.name).collect();
            (version.map(|version| (version.name, version)), known)
        }
    };
    chosen.ok_or_else(|| {
        let offered: Vec<_> = offered().collect();
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, \
             server accepts {accepted:?}\n"
        );
        let mut response = (StatusCode::FORBIDDEN, text).into_response();
        for name in accepted {
            response.headers_mut().append(&ACCEPTED, HeaderValue::from_static(name));
        }
        Box::new(response)
    })
}

async fn upgraded(upgrade: hyper::upgrade::OnUpgrade) -> Option<(TcpStream, bytes::Bytes)> {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!("the client left during the upgrade: {error}");
            return None;
        }
    };
    // `run` serves nothing but TCP connections.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

async fn over_websocket(registered: Registered, shared: &Shared, request: Request) -> Response {
    let registered = match with_query_ports(registered, request.uri().query()) {
        Ok(registered) => registered,
        Err(text) => return refuse(text),
    };
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .max_message_size(super::websocket::MESSAGE_LIMIT)
            .max_frame_size(super::websocket::MESSAGE_LIMIT),
        Err(rejection) => return rejection.into_response(),
    };
    let offered: Vec<&str> = names(&parts.headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let Some(chosen) = choose_websocket(&registered, &offered) else {
        let text = format!("requested protocols are not supported: {offered:?}\n");
        return (StatusCode::FORBIDDEN, text).into_response();
    };
    let upgrade = match chosen.name() {
        Some(name) => upgrade.protocols([name]),
        None => upgrade,
    };
    let (backend, sessions) = (Arc::clone(&shared.backend), shared.sessions.clone());
    let serve = move |socket| async move {
        match chosen {
            WebSocketChoice::Tunnel => {
                let session = super::tunnel::start(socket, IDLE);
                serve::over_spdy(session, registered, REMOTE_COMMAND[0], backend).await;
            }
            WebSocketChoice::Channels(protocol, _) => {
                serve::over_websocket(socket, registered, protocol, backend).await;
            }
        }
    };
    upgrade.on_upgrade(move |socket| sessions.track_future(serve(socket)))
}

enum WebSocketChoice {
    /// The client named the protocol, or named none and takes the oldest.
    Channels(WebSocketProtocol, Named),
    /// SPDY inside WebSocket messages.
    Tunnel,
}

enum Named {
    Yes,
    No,
}

impl WebSocketChoice {
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Channels(protocol, Named::Yes) => Some(protocol.name),
            Self::Channels(_, Named::No) => None,
            Self::Tunnel => Some(PORT_FORWARD_TUNNEL),
        }
    }
}

fn choose_websocket(registered: &Registered, offered: &[&str]) -> Option<WebSocketChoice> {
    let oldest = WEB_SOCKET.iter().find(|known| known.name == "channel.k8s.io").copied();
    if offered.is_empty() {
        return oldest.map(|oldest| WebSocketChoice::Channels(oldest, Named::No));
    }
    let is_port_forward = matches!(registered, Registered::PortForward(_));
    offered.iter().find_map(|offer| {
        if is_port_forward && *offer == PORT_FORWARD_TUNNEL {
            return Some(WebSocketChoice::Tunnel);
        }
        let known = WEB_SOCKET.iter().find(|known| known.name == *offer).copied()?;
        // Port-forward knows version 4 only.
        let fits = !is_port_forward || known.name.starts_with("v4.");
        fits.then_some(WebSocketChoice::Channels(known, Named::Yes))
    })
}

/// A client may name the ports in the query instead of in the CRI request.
fn with_query_ports(
    registered: Registered,
    query: Option<&str>,
) -> Result<Registered, &'static str> {
    let mut pod = match registered {
        Registered::PortForward(pod) => pod,
        other @ (Registered::Exec(_) | Registered::Attach(_)) => return Ok(other),
    };
    if pod.ports.is_empty() {
        for value in query.into_iter().flat_map(|query| query.split('&')) {
            let Some(ports) = value.strip_prefix("port=") else { continue };
            for port in ports.split(',') {
                match port.parse::<u16>() {
                    Ok(port) if port > 0 => pod.ports.push(port),
                    _ => return Err("a port in the query is not a number from 1 to 65535"),
                }
            }
        }
    }
    if pod.ports.len() > port_forward::PORTS_LIMIT {
        return Err("more than 100 ports");
    }
    Ok(Registered::PortForward(pod))
}

/// The values of a header that may be repeated and may hold several, separated by commas.
fn names<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

fn refuse(text: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response()
}
