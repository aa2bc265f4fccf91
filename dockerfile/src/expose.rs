//! The ports of EXPOSE.

use std::net::IpAddr;

use crate::env::Env;
use crate::error::Fault;
use crate::expand::Expander;
use crate::quote::quote;

/// A port specification, cut: `[ip:][host:]port[-port][/protocol]`.
pub(crate) struct Spec<'a> {
    pub(crate) ip: String,
    pub(crate) host: &'a str,
    pub(crate) container: &'a str,
    /// As written; `tcp` when it is not.
    pub(crate) protocol: &'a str,
}

/// The ports of an image's configuration, `80/tcp`, in order and with ranges counted out. A variable may hold several.
///
/// # Errors
/// `invalid port: "80/http": invalid proto: http`
pub fn ports(written: &[String], expander: &Expander, env: &Env) -> Result<Vec<String>, Fault> {
    let mut ports = Vec::new();
    for word in words(written, expander, env)? {
        let spec = Spec::read(&word)?;
        let (first, last) = spec.range()?;
        let protocol = spec.protocol.to_lowercase();
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

/// The specifications with variables put in.
pub(crate) fn words(
    written: &[String],
    expander: &Expander,
    env: &Env,
) -> Result<Vec<String>, Fault> {
    let mut words = Vec::new();
    for word in written {
        words.extend(expander.expand_words(word, env)?);
    }
    Ok(words)
}

impl<'a> Spec<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, Fault> {
        let mut parts = text.rsplit(':');
        let last = parts.next().unwrap_or_default();
        let host = parts.next().unwrap_or_default();
        let mut ip: Vec<_> = parts.collect();
        ip.reverse();
        let (container, protocol) = last.split_once('/').unwrap_or((last, ""));
        let invalid =
            |why: String| Fault::at(text, format!("invalid port: {}: {why}", quote(text)));
        if container.is_empty() {
            return Err(invalid("no port specified".to_owned()));
        }
        let protocol = match protocol.to_lowercase().as_str() {
            "" => "tcp",
            "tcp" | "udp" | "sctp" => protocol,
            _ => return Err(invalid(format!("invalid proto: {protocol}"))),
        };
        Ok(Self { ip: ip.join(":"), host, container, protocol })
    }

    /// The first and the last port, when all the parts hold together.
    pub(crate) fn range(&self) -> Result<(u16, u16), Fault> {
        if !self.ip.is_empty() {
            let ip = match self.ip.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').ok_or_else(|| {
                    let ip = &self.ip;
                    let why = if ip.contains(']') { "missing port" } else { "missing ']'" };
                    Fault::at(
                        ip,
                        format!("invalid IP address {ip}: address {ip}:: {why} in address"),
                    )
                })?,
                None => &self.ip,
            };
            if ip.parse::<IpAddr>().is_err() {
                return Err(Fault::at(&self.ip, format!("invalid IP address: {ip}")));
            }
        }
        let (first, last) = range(self.container).ok_or_else(|| {
            Fault::at(self.container, format!("invalid containerPort: {}", self.container))
        })?;
        if !self.host.is_empty() {
            let (start, end) = range(self.host)
                .ok_or_else(|| Fault::at(self.host, format!("invalid hostPort: {}", self.host)))?;
            if last - first != end - start && first != last {
                return Err(Fault::at(
                    self.container,
                    format!(
                        "invalid ranges specified for container and host Ports: {} and {}",
                        self.container, self.host
                    ),
                ));
            }
        }
        Ok((first, last))
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let env = Env::from_pairs(["PORTS=80 443/UDP", "LAST=82"]);
        ports(&[text.to_owned()], &Expander::new('\\'), &env).map_err(|fault| fault.message)
    }

    #[test]
    fn ranges_are_counted_out_and_a_variable_holds_several() {
        assert_eq!(read("80-$LAST/tcp").unwrap(), ["80/tcp", "81/tcp", "82/tcp"]);
        assert_eq!(read("$PORTS").unwrap(), ["80/tcp", "443/udp"]);
        assert_eq!(read("127.0.0.1:8080:80").unwrap(), ["80/tcp"]);
        assert_eq!(read("[::1]:8080-8082:80/sctp").unwrap(), ["80/sctp"]);
    }

    #[test]
    fn a_port_that_is_none_says_why() {
        for (text, why) in [
            ("80/http", "invalid port: \"80/http\": invalid proto: http"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            ("x", "invalid containerPort: x"),
            ("90-80", "invalid containerPort: 90-80"),
            ("70000", "invalid containerPort: 70000"),
            ("x:80", "invalid hostPort: x"),
            ("[::1:1:2", "invalid IP address [::1: address [::1:: missing ']' in address"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("80-81:1-3", "invalid ranges specified for container and host Ports: 1-3 and 80-81"),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
    }
}
