//! The files a pod resolves names with: resolv.conf, hosts and hostname, as bytes.
//!
//! Pure functions: the caller writes the files. Every value comes from a client, and each ends up
//! in a line of its own, so what would start another line or field is refused, byte by byte.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the pod resolves names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dns {
    pub(crate) servers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// An additional line of a hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostAlias {
    pub(crate) address: IpAddr,
    pub(crate) names: Vec<String>,
}

/// A name is at most 253 bytes; an option has no limit of its own.
const LONGEST_WORD: usize = 255;
/// What the C library reads is far less; a client that sends more is mistaken.
const MOST_WORDS: usize = 64;

/// Nothing at all asked for gives an empty file: the C library then asks the pod's own loopback.
pub(crate) fn resolv_conf(dns: &Dns) -> Result<String> {
    let mut text = String::new();
    let searches = words("dns search", &dns.searches)?;
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in words("dns server", &dns.servers)? {
        // A zone, as in fe80::1%eth0, is no part of an address by the standard library's book.
        let address = server.split('%').next().unwrap_or_default();
        if address.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("dns server {server:?} is not an IP address")));
        }
        text.push_str(&format!("nameserver {server}\n"));
    }
    let options = words("dns option", &dns.options)?;
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    Ok(text)
}

/// The host's resolv.conf for a pod. Servers on the host's loopback (a local cache) are left out:
/// in the pod's namespace nobody answers there.
pub(crate) fn copy_of_host(host: &str) -> String {
    let is_kept = |line: &&str| {
        let address = name_server(line).and_then(|server| server.parse::<IpAddr>().ok());
        address.is_none_or(|address| !address.is_loopback())
    };
    host.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
}

/// The server that a line of a resolv.conf names.
fn name_server(line: &str) -> Option<&str> {
    let mut fields = line.split_whitespace();
    (fields.next() == Some("nameserver")).then(|| fields.next())?
}

/// The resolv.conf of a container that asks for some of it: the host has the rest.
pub(crate) fn over_host(dns: &Dns, host: &str) -> Result<String> {
    let host = copy_of_host(host);
    let servers = match dns.servers.is_empty() {
        true => host.lines().filter_map(name_server).map(str::to_owned).collect(),
        false => dns.servers.clone(),
    };
    resolv_conf(&over(dns, servers, &host))
}

/// The resolv.conf of a pod whose names are answered at `server`. What it asks for comes before what
/// the host has; who its questions are passed on to is the server's to know.
pub(crate) fn with_server(server: IpAddr, dns: &Dns, host: &str) -> Result<String> {
    let mut all = over(dns, vec![server.to_string()], host);
    // A name without a dot is a container's: it is asked for before anything is added to it.
    if !all.options.iter().any(|option| option.starts_with("ndots:")) {
        all.options.push("ndots:0".to_owned());
    }
    let text = resolv_conf(&all)?;
    // As Docker has it, the server comes first.
    let (servers, others): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("nameserver"));
    Ok(servers.into_iter().chain(others).map(|line| format!("{line}\n")).collect())
}

/// These servers, with the searches and options of `dns`, or the host's if it has none.
fn over(dns: &Dns, servers: Vec<String>, host: &str) -> Dns {
    let of_host = |keyword: &str| -> Vec<String> {
        // The last line of a kind counts, as for the C library.
        let line = host.lines().rev().find_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.next() == Some(keyword)).then(|| fields.map(str::to_owned).collect())
        });
        line.unwrap_or_default()
    };
    let chosen = |own: &Vec<String>, keyword| match own.is_empty() {
        true => of_host(keyword),
        false => own.clone(),
    };
    let mut searches = chosen(&dns.searches, "search");
    // "." alone asks for no search at all.
    searches.retain(|search| search != ".");
    Dns { servers, searches, options: chosen(&dns.options, "options") }
}

/// The hosts file of a pod with a network of its own, whose names are these.
pub(crate) fn hosts(
    names: &[String],
    addresses: &[IpAddr],
    aliases: &[HostAlias],
) -> Result<String> {
    let names = words("hostname", names)?.join(" ");
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    text.push_str(&alias_lines(aliases)?);
    Ok(text)
}

/// A hosts file whose lines for the pod's own names are these; all others stay.
pub(crate) fn with_addresses(text: &str, names: &[String], addresses: &[IpAddr]) -> String {
    let is_own = |line: &&str| {
        let mut fields = line.split_whitespace();
        let address = fields.next().map(str::parse::<IpAddr>);
        matches!(address, Some(Ok(address)) if !address.is_loopback()) && fields.eq(names)
    };
    let kept = text.lines().filter(|line| !is_own(line)).map(|line| format!("{line}\n"));
    let names = names.join(" ");
    let own = addresses.iter().map(|address| format!("{address}\t{names}\n"));
    kept.chain(own).collect()
}

/// Lines to add to a hosts file.
pub(crate) fn alias_lines(aliases: &[HostAlias]) -> Result<String> {
    let mut text = String::new();
    for alias in aliases {
        let names = words("host alias", &alias.names)?;
        text.push_str(&format!("{}\t{}\n", alias.address, names.join(" ")));
    }
    Ok(text)
}

pub(crate) fn hostname(name: &str) -> Result<String> {
    Ok(format!("{}\n", word("hostname", name)?))
}

fn words<'a>(what: &str, values: &'a [String]) -> Result<Vec<&'a str>> {
    if values.len() > MOST_WORDS {
        return Err(Error::invalid(format!("more than {MOST_WORDS} values of {what}")));
    }
    values.iter().map(|value| word(what, value)).collect()
}

/// One word of a line: no blank, no control byte, and nothing that begins a comment.
fn word<'a>(what: &str, value: &'a str) -> Result<&'a str> {
    let is_wrong = |c: char| c.is_control() || c.is_whitespace();
    let begins_comment = value.starts_with(['#', ';']);
    if value.is_empty() || value.len() > LONGEST_WORD || begins_comment || value.contains(is_wrong)
    {
        return Err(Error::invalid(format!("{what} {value:?} is not a single word")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn list(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn resolv_conf_says_what_was_asked_for() {
        let dns = Dns {
            servers: list(&["10.96.0.10", "fe80::1%eth0"]),
            searches: list(&["default.svc.cluster.local", "."]),
            options: list(&["ndots:5", "edns0"]),
        };
        assert_eq!(
            resolv_conf(&dns).unwrap(),
            "search default.svc.cluster.local .\nnameserver 10.96.0.10\n\
             nameserver fe80::1%eth0\noptions ndots:5 edns0\n"
        );
        assert_eq!(resolv_conf(&Dns::default()).unwrap(), "");
    }

    #[test]
    fn a_value_that_would_start_a_line_or_a_field_is_refused() {
        for bad in ["a\nb", "a\rb", "a\0b", "a b", "a\tb", "", "#x", ";x", "a\u{b}b", "a\u{85}b"] {
            let bad_list = list(&[bad]);
            for dns in [
                Dns { servers: bad_list.clone(), ..Dns::default() },
                Dns { searches: bad_list.clone(), ..Dns::default() },
                Dns { options: bad_list.clone(), ..Dns::default() },
            ] {
                assert_eq!(resolv_conf(&dns).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
            }
            assert_eq!(hostname(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
            assert_eq!(
                hosts(&[bad.to_owned()], &[], &[]).unwrap_err().kind(),
                Kind::InvalidArgument
            );
            let alias = HostAlias { address: IpAddr::from([10, 0, 0, 1]), names: bad_list };
            assert_eq!(
                hosts(&["h".to_owned()], &[], &[alias]).unwrap_err().kind(),
                Kind::InvalidArgument
            );
        }
        let dns = Dns { servers: list(&["example.org"]), ..Dns::default() };
        assert!(resolv_conf(&dns).unwrap_err().chain().contains("is not an IP address"));
        let dns = Dns { searches: vec!["a".to_owned(); 65], ..Dns::default() };
        assert_eq!(resolv_conf(&dns).unwrap_err().kind(), Kind::InvalidArgument);
    }

    #[test]
    fn a_local_cache_of_the_host_is_not_the_pods() {
        let host = "# made by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\n\
                    search example.org\noptions edns0 trust-ad";
        assert_eq!(
            copy_of_host(host),
            "# made by hand\nnameserver 192.0.2.1\nsearch example.org\noptions edns0 trust-ad\n"
        );
    }

    #[test]
    fn the_host_has_what_a_container_does_not_ask_for() {
        let host =
            "nameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example.org\noptions edns0\n";
        let dns = Dns { searches: list(&["a.example"]), ..Dns::default() };
        assert_eq!(
            over_host(&dns, host).unwrap(),
            "search a.example\nnameserver 192.0.2.1\noptions edns0\n"
        );
        let dns = Dns { servers: list(&["192.0.2.7"]), searches: list(&["."]), ..Dns::default() };
        assert_eq!(over_host(&dns, host).unwrap(), "nameserver 192.0.2.7\noptions edns0\n");
    }

    #[test]
    fn names_of_containers_are_asked_for_before_others() {
        let server = IpAddr::from([127, 0, 0, 11]);
        let host = "nameserver 192.0.2.1\nsearch old.example\nsearch example.org\noptions edns0\n";
        assert_eq!(
            with_server(server, &Dns::default(), host).unwrap(),
            "nameserver 127.0.0.11\nsearch example.org\noptions edns0 ndots:0\n"
        );
        let dns = Dns {
            servers: list(&["192.0.2.7"]),
            searches: list(&["."]),
            options: list(&["ndots:2"]),
        };
        assert_eq!(
            with_server(server, &dns, host).unwrap(),
            "nameserver 127.0.0.11\noptions ndots:2\n"
        );
        let bad = Dns { options: list(&["a\nb"]), ..Dns::default() };
        assert_eq!(with_server(server, &bad, host).unwrap_err().kind(), Kind::InvalidArgument);
    }

    #[test]
    fn new_addresses_take_the_place_of_the_pods_old_ones() {
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n10.0.0.3\tweb db\n# 10.0.0.4 web\n";
        let new = with_addresses(text, &["web".to_owned()], &[IpAddr::from([10, 1, 0, 2])]);
        assert_eq!(new, "127.0.0.1\tlocalhost\n10.0.0.3\tweb db\n# 10.0.0.4 web\n10.1.0.2\tweb\n");
    }

    #[test]
    fn the_pods_own_name_leads_to_its_addresses() {
        let address = IpAddr::from([10, 88, 0, 2]);
        let alias = HostAlias { address: IpAddr::from([10, 0, 0, 1]), names: list(&["a", "b"]) };
        let text = hosts(&["web".to_owned()], &[address], &[alias]).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\t"), "{text}");
        assert!(text.ends_with("10.88.0.2\tweb\n10.0.0.1\ta b\n"), "{text}");
        assert_eq!(hostname("web").unwrap(), "web\n");
    }
}
