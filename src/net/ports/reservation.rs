//! Ports of the host, chosen before the pod that publishes them is made.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FIRST_FREE, Ports, Table, host_addresses};
use crate::error::{Error, Kind, Result};
use crate::net::{Builtin, Network, PortMapping, Protocol, host_ports};

/// A port that is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortRequest {
    pub(crate) protocol: Protocol,
    pub(crate) container_port: u16,
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host_port: HostPort,
}

/// Which ports of the host will do. One that has to be chosen is chosen anew for each pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HostPort {
    This(u16),
    /// The first that is free of these, both ends included.
    Among(u16, u16),
    /// One of the dynamic ports.
    Any,
}

/// Ports that nobody else is given as long as this is held.
pub(crate) struct Reservation {
    pub(crate) mappings: Vec<PortMapping>,
    builtin: Option<Arc<Builtin>>,
    held: Vec<(Protocol, u16)>,
}

impl Network {
    /// Chooses a port of the host for each request. What is asked for by number is not looked at: it is
    /// refused when it is published.
    ///
    /// # Errors
    /// `AlreadyExists` when every port of a range is in use, `Exhausted` when all dynamic ones are.
    pub(crate) async fn reserve(&self, requests: Vec<PortRequest>) -> Result<Reservation> {
        if requests.is_empty() {
            return Ok(Reservation { mappings: Vec::new(), builtin: None, held: Vec::new() });
        }
        self.blocking(move |shared| {
            let builtin = shared.builtin()?;
            let mappings = builtin.ports.reserve(&requests)?;
            let held = reserved(&requests, &mappings);
            Ok(Reservation { mappings, builtin: Some(builtin), held })
        })
        .await
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(builtin) = &self.builtin {
            builtin.ports.release(&self.held);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("mappings", &self.mappings).finish_non_exhaustive()
    }
}

impl Ports {
    /// Chooses ports for all of these, or for none. Nobody else is given those chosen from several
    /// until they are released, so that they can be published without being in each other's way.
    pub(crate) fn reserve(&self, requests: &[PortRequest]) -> Result<Vec<PortMapping>> {
        let mut table = self.lock();
        let mut chosen = Vec::with_capacity(requests.len());
        let result = requests.iter().try_for_each(|request| {
            let host_port = table.choose(request, requests)?;
            chosen.push(PortMapping {
                protocol: request.protocol,
                host_port,
                container_port: request.container_port,
                host_ip: request.host_ip,
            });
            Ok(())
        });
        if result.is_err() {
            table.release(&reserved(requests, &chosen));
        }
        result.map(|()| chosen)
    }

    /// Those that [`Ports::reserve`] chose are published by now, or never will be.
    pub(crate) fn release(&self, ports: &[(Protocol, u16)]) {
        self.lock().release(ports);
    }
}

impl Table {
    fn choose(&mut self, request: &PortRequest, all: &[PortRequest]) -> Result<u16> {
        let addresses = host_addresses(request.host_ip);
        let is_wished = |port| {
            all.iter()
                .any(|it| (it.protocol, it.host_port) == (request.protocol, HostPort::This(port)))
        };
        let is_free = |table: &Self, port| {
            !table.reserved.contains(&(request.protocol, port))
                && !is_wished(port)
                && table.held.holder(&addresses, request.protocol, port, None).is_none()
                && !addresses.iter().any(|it| host_ports::is_taken(request.protocol, *it, port))
        };
        let found = match request.host_port {
            // Whether it is free is seen when it is published.
            HostPort::This(port) => return Ok(port),
            HostPort::Among(first, last) => (first..=last).find(|port| is_free(self, *port)),
            HostPort::Any => (FIRST_FREE..=u16::MAX).find_map(|_| {
                let port = self.next_free;
                self.next_free = port.checked_add(1).unwrap_or(FIRST_FREE);
                is_free(self, port).then_some(port)
            }),
        };
        let port = found.ok_or_else(|| match request.host_port {
            HostPort::Among(first, last) => {
                let host = request.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                let message = format!(
                    "Bind for {host}:{first}-{last} failed: port is already allocated: each of \
                     these ports is in use"
                );
                Error::new(Kind::AlreadyExists, message)
            }
            HostPort::This(_) | HostPort::Any => {
                Error::new(Kind::Exhausted, "all dynamic ports of the host are in use")
            }
        })?;
        self.reserved.insert((request.protocol, port));
        Ok(port)
    }

    fn release(&mut self, ports: &[(Protocol, u16)]) {
        for port in ports {
            self.reserved.remove(port);
        }
    }
}

/// Which of these a reservation holds: the ports that were chosen from several.
fn reserved(requests: &[PortRequest], chosen: &[PortMapping]) -> Vec<(Protocol, u16)> {
    let pairs = requests.iter().zip(chosen);
    let held = pairs.filter(|(request, _)| !matches!(request.host_port, HostPort::This(_)));
    held.map(|(_, mapping)| (mapping.protocol, mapping.host_port)).collect()
}
