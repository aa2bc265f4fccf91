//! The few rtnetlink messages that a pod's network needs, written by hand.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use crate::{Doing, Result};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const CREATE: u16 = 0x400 | 0x200;
const UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const NESTED: u16 = 0x8000;

/// A socket in the network namespace of whoever opened it.
pub(super) struct Route(OwnedFd);

impl Route {
    pub(super) fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
        Ok(Self(socket.doing("open a netlink socket")?))
    }

    pub(super) fn add_bridge(&self, name: &str) -> Result<()> {
        let mut message = Message::link(RTM_NEWLINK, CREATE, 0, UP);
        message.text(IFLA_IFNAME, name);
        message.nested(IFLA_LINKINFO, |info| info.bytes(1, b"bridge"));
        self.ask(&message.finish())
    }

    pub(super) fn delete(&self, name: &str) -> Result<()> {
        let mut message = Message::link(RTM_DELLINK, 0, 0, 0);
        message.text(IFLA_IFNAME, name);
        self.ask(&message.finish())
    }

    /// A pair with one end at the bridge and the other, `eth0`, born in the namespace.
    pub(super) fn add_veth(&self, name: &str, bridge: u32, netns: BorrowedFd<'_>) -> Result<()> {
        let mut message = Message::link(RTM_NEWLINK, CREATE, 0, UP);
        message.text(IFLA_IFNAME, name);
        message.bytes(IFLA_MASTER, &bridge.to_ne_bytes());
        message.nested(IFLA_LINKINFO, |info| {
            info.bytes(1, b"veth");
            info.nested(2, |data| {
                data.nested(1, |peer| {
                    peer.0.extend([0; 16]);
                    peer.text(IFLA_IFNAME, "eth0");
                    peer.bytes(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.ask(&message.finish())
    }

    /// Inside: loopback up, an address for eth0, eth0 up, a default route. One message to send, four answers.
    pub(super) fn configure(&self, eth0: u32, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<()> {
        let mut batch = Message::link(RTM_NEWLINK, 0, 1, UP).finish();
        let mut message = Message::new(RTM_NEWADDR, CREATE);
        message.0.extend([libc::AF_INET as u8, 16, 0, 0]);
        message.0.extend(eth0.to_ne_bytes());
        message.bytes(2, &address.octets());
        message.bytes(1, &address.octets());
        batch.extend(message.finish());
        batch.extend(Message::link(RTM_NEWLINK, 0, eth0, UP).finish());
        let mut message = Message::new(RTM_NEWROUTE, CREATE);
        // Main table, static, universe, unicast.
        message.0.extend([libc::AF_INET as u8, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
        message.bytes(5, &gateway.octets());
        message.bytes(4, &eth0.to_ne_bytes());
        batch.extend(message.finish());
        self.exchange(&batch, 4)
    }

    fn ask(&self, message: &[u8]) -> Result<()> {
        self.exchange(message, 1)
    }

    fn exchange(&self, messages: &[u8], answers: usize) -> Result<()> {
        send(&self.0, messages, SendFlags::empty()).doing("send to netlink")?;
        let mut left = answers;
        let mut buffer = [0; 8192];
        while left > 0 {
            let (length, _) = recv(&self.0, &mut buffer, RecvFlags::empty()).doing("netlink")?;
            let mut rest = &buffer[..length];
            while let Some((header, _)) = rest.split_first_chunk::<20>() {
                let [a, b, c, d, ..] = *header;
                let error = i32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
                if error != 0 {
                    return Err(std::io::Error::from_raw_os_error(-error)).doing("netlink");
                }
                left -= 1;
                rest = rest.get(u32::from_ne_bytes([a, b, c, d]) as usize..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

pub(super) fn index_of(name: &str) -> Result<u32> {
    let path = format!("/sys/class/net/{name}/ifindex");
    std::fs::read_to_string(&path).doing(&path)?.trim().parse().doing(&path)
}

/// A netlink message in the making: header, then attributes at multiples of four.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        const REQUEST_AND_ACK: u16 = 1 | 4;
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST_AND_ACK).to_ne_bytes());
        Self(bytes)
    }

    fn link(kind: u16, flags: u16, index: u32, up: u32) -> Self {
        let mut message = Self::new(kind, flags);
        message.0.extend([0; 4]);
        message.0.extend(index.to_ne_bytes());
        message.0.extend(up.to_ne_bytes());
        message.0.extend(up.to_ne_bytes());
        message
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat());
    }

    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend([0; 4]);
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}
