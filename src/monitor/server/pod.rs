//! The pod as a whole: setting it up, and sockets in its network namespace.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};

use super::Server;
use super::clients::Caller;
use crate::executor::Fds;
use crate::executor::failure::{About, Failure, FailureKind, Fault};
use crate::executor::plan::{PodPlan, UserNamespace};
use crate::executor::pod::{self, Pod};
use crate::executor::users;
use crate::monitor::protocol::{Reply, SocketKind};

#[derive(Debug)]
pub(super) enum PodState {
    None,
    Ready(Pod),
    /// Half in the pod's namespaces: good for nothing but to be replaced.
    Failed,
}

impl Server {
    /// The pod's own, or one that is made for these mappings.
    pub(super) fn open_user_namespace(&mut self, caller: Caller, map: &UserNamespace) {
        let namespace = self.pod().and_then(|pod| match &pod.users {
            Some(users) if users.map == *map => {
                Ok(users.namespace.try_clone().map_err(|_| Errno::MFILE)?)
            }
            Some(_) | None => users::make_namespace(map, &pod.proc),
        });
        match namespace {
            Ok(fd) => self.reply_with(caller, Ok(Reply::UserNamespace), vec![fd]),
            Err(fault) => self.reply(caller, Err(fault.into_failure("open a user namespace"))),
        }
    }

    pub(super) fn open_shm(&mut self, caller: Caller) {
        match self.pod().and_then(Pod::copy_shm) {
            Ok(shm) => self.reply_with(caller, Ok(Reply::Shm), vec![shm]),
            Err(fault) => self.reply(caller, Err(fault.into_failure("open the shared memory"))),
        }
    }

    pub(super) fn set_up_pod(&mut self, caller: Caller, plan: &PodPlan, fds: &Fds) {
        let result = match self.pod {
            PodState::None => self.enter_pod(plan, fds),
            PodState::Ready(_) => Err(wrong_state("the pod is set up already")),
            PodState::Failed => Err(wrong_state("setting up the pod has failed before")),
        };
        self.reply(caller, result);
    }

    fn enter_pod(&mut self, plan: &PodPlan, fds: &Fds) -> Result<Reply, Failure> {
        self.pod = PodState::Failed;
        let pod = pod::set_up(plan, fds).map_err(|fault| fault.into_failure("set up the pod"))?;
        let init = pod.init.as_ref().map(|init| init.pid.as_raw_pid());
        self.pod = PodState::Ready(pod);
        Ok(Reply::PodReady { init })
    }

    /// The pod, for what needs it.
    pub(super) fn pod(&self) -> Result<&Pod, Fault> {
        match &self.pod {
            PodState::Ready(pod) => Ok(pod),
            PodState::None | PodState::Failed => {
                Err(Fault::new(FailureKind::WrongState, "the pod is not set up"))
            }
        }
    }

    pub(super) fn open_socket(&mut self, caller: Caller, kind: SocketKind) {
        let opened = match self.pod() {
            Ok(_) => match kind {
                SocketKind::NamesUdp => kept(&mut self.names.udp, kind),
                SocketKind::NamesTcp => kept(&mut self.names.tcp, kind),
                SocketKind::Route
                | SocketKind::Netfilter
                | SocketKind::TcpV4
                | SocketKind::TcpV6 => open(kind),
            },
            Err(fault) => Err(fault),
        };
        match opened {
            Ok(socket) => self.reply_with(caller, Ok(Reply::Socket), vec![socket]),
            Err(fault) => self.reply(caller, Err(fault.into_failure("open a socket"))),
        }
    }
}

/// The sockets at which containers ask for names, once they are opened.
#[derive(Debug, Default)]
pub(super) struct NameSockets {
    udp: Option<OwnedFd>,
    tcp: Option<OwnedFd>,
}

/// Where the sockets for names are, and how many connections wait at one.
const NAMES: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 0);
const BACKLOG: i32 = 128;

/// A duplicate of the one that is kept.
fn kept(place: &mut Option<OwnedFd>, kind: SocketKind) -> Result<OwnedFd, Fault> {
    let socket = match place.take() {
        Some(socket) => socket,
        None => {
            let socket = open(kind)?;
            let about = || format!("{kind:?} at {NAMES}");
            rustix::net::bind(&socket, &NAMES).about(&about())?;
            if kind == SocketKind::NamesTcp {
                rustix::net::listen(&socket, BACKLOG).about(&about())?;
            }
            socket
        }
    };
    let duplicate = rustix::io::fcntl_dupfd_cloexec(&socket, 0).about("duplicate a socket");
    *place = Some(socket);
    duplicate
}

/// This process is in the pod's network namespace, so the socket is as well.
fn open(kind: SocketKind) -> Result<OwnedFd, Fault> {
    // No protocol is NETLINK_ROUTE, TCP for a stream, UDP for datagrams.
    let (family, socket_type, protocol) = match kind {
        SocketKind::Route => (AddressFamily::NETLINK, SocketType::RAW, None),
        SocketKind::Netfilter => {
            (AddressFamily::NETLINK, SocketType::RAW, Some(netlink::NETFILTER))
        }
        SocketKind::TcpV4 | SocketKind::NamesTcp => (AddressFamily::INET, SocketType::STREAM, None),
        SocketKind::TcpV6 => (AddressFamily::INET6, SocketType::STREAM, None),
        SocketKind::NamesUdp => (AddressFamily::INET, SocketType::DGRAM, None),
    };
    rustix::net::socket_with(family, socket_type, SocketFlags::CLOEXEC, protocol)
        .about(&format!("{kind:?}"))
}

pub(super) fn wrong_state(detail: &str) -> Failure {
    Fault::new(FailureKind::WrongState, detail).into_failure("check the state")
}
