//! What the host's kernel is told before a bridge works.

use std::path::Path;

use super::netlink::route::Ipv6;
use crate::error::{Context, Result};

const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// Lets the host route for its pods, and published ports answer on 127.0.0.1 (the packet filter
/// drops what comes with such an address from outside).
///
/// # Errors
/// For a bridge that is to have IPv6 on a kernel without it.
pub(super) fn set(bridge: &str, has_ipv6: bool) -> Result<Ipv6> {
    write(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?;
    let ipv4 = Path::new("/proc/sys/net/ipv4/conf").join(bridge);
    write(&ipv4.join("route_localnet"), "1")?;
    write(&ipv4.join("accept_redirects"), "0")?;
    write(&ipv4.join("send_redirects"), "0")?;
    let ipv6 = Path::new(IPV6).join(bridge);
    if !ipv6.exists() && !has_ipv6 {
        return Ok(Ipv6::Unknown);
    }
    write(&ipv6.join("accept_ra"), "0")?;
    write(&ipv6.join("disable_ipv6"), if has_ipv6 { "0" } else { "1" })?;
    if has_ipv6 {
        write(&ipv6.join("accept_redirects"), "0")?;
        forward_ipv6()?;
    }
    Ok(Ipv6::Known)
}

/// A host that forwards ignores router advertisements, which may be where its own way out comes
/// from: interfaces that listen to them go on doing so.
fn forward_ipv6() -> Result<()> {
    let all = Path::new(IPV6).join("all/forwarding");
    let current = std::fs::read_to_string(&all).context("read whether IPv6 is forwarded")?;
    if current.trim_end() == "1" {
        return Ok(());
    }
    const LISTENS: &str = "1";
    const LISTENS_ALL_THE_SAME: &str = "2";
    for interface in std::fs::read_dir(IPV6).context("list the interfaces")?.flatten() {
        if ["all", "default"].iter().any(|it| interface.file_name() == *it) {
            continue;
        }
        let file = interface.path().join("accept_ra");
        // One that is just going has nothing to listen for.
        if std::fs::read_to_string(&file).is_ok_and(|value| value.trim_end() == LISTENS) {
            write(&file, LISTENS_ALL_THE_SAME)?;
        }
    }
    write(&all, "1")
}

/// Writes only what differs: the file may be read-only where the value is right already.
fn write(path: &Path, value: &str) -> Result<()> {
    use std::io::Write;

    let describe = || format!("set {} to {value}", path.display());
    let current = std::fs::read_to_string(path).with_context(describe)?;
    if current.trim_end() == value {
        return Ok(());
    }
    let mut file = std::fs::OpenOptions::new().write(true).open(path).with_context(describe)?;
    file.write_all(value.as_bytes()).with_context(describe)
}
