//! What plugins answer, and what the chain's last answer means for the pod.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::config::Version;
use crate::error::{Context, Error, Kind, Result};
use crate::net::{Attachment, Provider};

/// Result of ADD, of every version spoken here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Success {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: IpNet,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    interface: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct Dns {
    #[serde(default)]
    nameservers: Vec<String>,
    #[serde(default)]
    search: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
}

/// The answer of one ADD as the next plugin's `prevResult`.
pub(super) fn previous(bytes: &[u8], version: Version) -> Result<Value> {
    let value: Value =
        serde_json::from_slice(bytes).kind(Kind::Unavailable).context("the answer is not JSON")?;
    let Value::Object(mut object) = value else {
        return Err(Error::new(Kind::Unavailable, "the answer is not a JSON object"));
    };
    object.insert("cniVersion".to_owned(), version.as_str().into());
    let value = Value::Object(object);
    // What the next plugins build on must at least have the shape of a result.
    read(&value)?;
    Ok(value)
}

/// What the last answer gives the pod.
pub(super) fn attachment(result: &Value, interface: &str) -> Result<Attachment> {
    let success = read(result)?;
    let of_pod = |ip: &&Ip| match ip.interface.map(usize::try_from) {
        None => true,
        Some(index) => index
            .ok()
            .and_then(|index| success.interfaces.get(index))
            .is_some_and(|found| found.name == interface && !found.sandbox.is_empty()),
    };
    let ips: Vec<&Ip> = success.ips.iter().filter(of_pod).collect();
    if ips.is_empty() {
        let message = format!("the CNI plugins gave {interface} no address");
        return Err(Error::new(Kind::Unavailable, message));
    }
    let inside = success
        .interfaces
        .iter()
        .find(|found| found.name == interface && !found.sandbox.is_empty());
    // The pod's cable ends in an interface outside of every sandbox; a bridge has none of ours.
    let outside = success
        .interfaces
        .iter()
        .rfind(|found| found.sandbox.is_empty() && found.name.starts_with("veth"));
    Ok(Attachment {
        provider: Provider::Cni,
        interface: interface.to_owned(),
        host_interface: outside.map(|found| found.name.clone()),
        addresses: ips.iter().map(|ip| ip.address).collect(),
        gateways: ips.iter().filter_map(|ip| ip.gateway).collect(),
        hardware_address: inside.map(|found| found.mac.clone()).filter(|mac| !mac.is_empty()),
        mtu: inside.and_then(|found| found.mtu),
        name_servers: success.dns.nameservers,
        name_searches: success.dns.search,
        name_options: success.dns.options,
    })
}

fn read(result: &Value) -> Result<Success> {
    Success::deserialize(result).kind(Kind::Unavailable).context("the answer is not a CNI result")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_addresses_are_those_of_its_own_interface() {
        let result = previous(
            br#"{"cniVersion":"0.4.0",
                "interfaces":[{"name":"b0","mac":"aa"},{"name":"veth1"},
                              {"name":"eth0","mac":"0a:00","sandbox":"/proc/1/ns/net"}],
                "ips":[{"version":"4","address":"10.1.0.5/24","gateway":"10.1.0.1","interface":2},
                       {"address":"10.1.0.1/24","interface":0},
                       {"address":"fd00::5/64"},
                       {"address":"10.9.0.1/24","interface":-1}],
                "dns":{"nameservers":["10.0.0.10"],"search":["x"]}}"#,
            Version::V1_0_0,
        )
        .unwrap();
        assert_eq!(result["cniVersion"], "1.0.0");

        let attachment = attachment(&result, "eth0").unwrap();

        let addresses: Vec<String> = attachment.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.5/24", "fd00::5/64"]);
        assert_eq!(attachment.host_interface.as_deref(), Some("veth1"));
        assert_eq!(attachment.hardware_address.as_deref(), Some("0a:00"));
        assert_eq!(attachment.name_servers, ["10.0.0.10"]);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        for bytes in [
            &b""[..],
            b"\xff\xfe",
            b"[]",
            b"null",
            br#"{"ips":7}"#,
            br#"{"ips":[{"address":"10.1.0.5"}]}"#,
            br#"{"ips":[{"address":"999.1.0.5/24"}]}"#,
        ] {
            assert_eq!(previous(bytes, Version::V1_0_0).unwrap_err().kind(), Kind::Unavailable);
        }
        let nothing = previous(b"{}", Version::V1_0_0).unwrap();
        let error = attachment(&nothing, "eth0").unwrap_err();
        assert!(error.chain().contains("gave eth0 no address"), "{}", error.chain());
    }
}
