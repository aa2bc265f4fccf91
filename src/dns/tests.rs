//! Questions as clients and strangers send them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::{Decision, Transport, decide};
use super::message::{Query, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_AXFR, TYPE_PTR, reversed_address};
use super::serve::{Asking, Desk, connections, datagrams};
use super::table::{Asker, Index, Member, Table, Upstream, Zone};
use super::upstream::{ask_all, read_message, servers_in, write_message};
use crate::id::{NetworkId, PodId};

const TRUNCATED: u8 = 0x02;

/// A question as a resolver sends it, with EDNS of this size.
fn question(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0xbe, 0xef, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if let Some(size) = edns {
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
    }
    bytes
}

struct World {
    index: Index,
    web: PodId,
    lone: PodId,
}

/// `web` is in two networks, `lone` in an internal one.
fn world() -> World {
    let [red, blue, inner] = [(); 3].map(|()| NetworkId::generate().unwrap());
    let [web, lone] = [(); 2].map(|()| PodId::generate().unwrap());
    let member = |last: u8, names: &[&str]| Member {
        address: Ipv4Addr::new(10, 0, 0, last),
        ipv6: names.contains(&"six").then(|| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let zone = |name: &str, members: Vec<Member>| Zone { name: name.to_owned(), members };
    let many = (1..=200).map(|last| member(last, &["many"]));
    let networks = BTreeMap::from([
        (
            red.clone(),
            zone(
                "Red",
                vec![member(2, &["web", "Db"]), member(3, &["other", "db"]), member(6, &["six"])],
            ),
        ),
        (blue.clone(), zone("blue", many.collect())),
        (inner.clone(), zone("inner", vec![member(4, &["lone"])])),
    ]);
    let asker = |networks: &[&NetworkId], upstream| Asker {
        monitor: "/none".into(),
        networks: networks.iter().map(|network| (*network).clone()).collect(),
        links: BTreeMap::from([("linked".to_owned(), vec![Ipv4Addr::new(10, 0, 0, 9).into()])]),
        upstream,
    };
    let askers = BTreeMap::from([
        (web.clone(), asker(&[&red, &blue], Upstream::Host)),
        (lone.clone(), asker(&[&inner], Upstream::Nobody)),
    ]);
    World { index: Index::of(&Table { askers, networks, ..Table::default() }), web, lone }
}

impl World {
    fn ask(&self, pod: &PodId, bytes: &[u8], by: Transport) -> Vec<u8> {
        match decide(&self.index, pod, bytes, by, 0) {
            Decision::Answer(answer) => answer,
            other @ (Decision::Ask(..) | Decision::Silence) => panic!("{other:?}"),
        }
    }

    /// Code and last bytes of the addresses that `web` gets.
    fn addresses(&self, name: &str, kind: u16) -> (u8, Vec<u8>) {
        let answer = self.ask(&self.web, &question(name, kind, None), Transport::Stream);
        (answer[3] & 15, last_bytes(&answer))
    }
}

/// Of A records, which are 16 bytes each with a compressed name.
fn last_bytes(answer: &[u8]) -> Vec<u8> {
    let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
    let with_opt = if answer[11] == 1 { 11 } else { 0 };
    let end = answer.len() - with_opt;
    (0..count).map(|record| answer[end - 16 * (count - record) + 15]).collect()
}

#[test]
fn names_are_known_in_the_networks_of_who_asks() {
    let world = world();
    for (name, found) in [
        ("web", vec![2]),
        ("WEB", vec![2]),
        ("db", vec![2, 3]),
        ("web.red", vec![2]),
        ("web.Red", vec![2]),
        ("Linked", vec![9]),
    ] {
        assert_eq!(world.addresses(name, TYPE_A), (0, found.clone()), "{name}");
        assert_eq!(world.addresses(name, TYPE_ANY), (0, found), "{name}");
        // There is the name, and nothing of this type.
        assert_eq!(world.addresses(name, TYPE_AAAA), (0, vec![]), "{name}");
    }
    for name in ["lone", "web.blue", "red", "x.web", "web.red.red", ""] {
        let asked =
            decide(&world.index, &world.web, &question(name, TYPE_A, None), Transport::Datagram, 0);
        assert!(matches!(asked, Decision::Ask(_, Upstream::Host)), "{name}: {asked:?}");
    }
    let inner = |name| world.ask(&world.lone, &question(name, TYPE_A, None), Transport::Datagram);
    assert_eq!(last_bytes(&inner("lone")), [4]);
    // Nobody outside hears what is asked in an internal network.
    assert_eq!(inner("web")[3] & 15, 2);
}

#[test]
fn a_name_has_an_address_of_each_family_and_they_have_the_name() {
    let world = world();
    let ask =
        |name: &str, kind| world.ask(&world.web, &question(name, kind, None), Transport::Stream);
    assert_eq!(last_bytes(&ask("six", TYPE_A)), [6]);
    let answer = ask("SIX.red", TYPE_AAAA);
    assert_eq!(answer[6..8], [0, 1]);
    let address: IpAddr = "fd00::6".parse().unwrap();
    assert!(
        answer.ends_with(
            &[&[0, 16], &Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6).octets()[..]].concat()
        )
    );
    assert_eq!(ask("six", TYPE_ANY)[6..8], [0, 2]);

    let zeros = "0.".repeat(27);
    let reversed = format!("6.{zeros}0.0.d.f.ip6.arpa");
    assert_eq!(reversed_address(&reversed), Some(address));
    let back = ask(&reversed, TYPE_PTR);
    assert!(back.windows(9).any(|it| it == b"\x03six\x03red\0"), "{back:?}");
    for wrong in [
        "6.ip6.arpa",
        &reversed.replace("6.", "66."),
        &format!("0.{reversed}"),
        &reversed.replace("d.f", "g.f"),
    ] {
        assert_eq!(reversed_address(wrong), None, "{wrong}");
    }
}

#[test]
fn several_addresses_take_turns() {
    let world = world();
    let first = |turn| {
        let asked =
            decide(&world.index, &world.web, &question("db", 1, None), Transport::Stream, turn);
        match asked {
            Decision::Answer(answer) => last_bytes(&answer)[0],
            other @ (Decision::Ask(..) | Decision::Silence) => panic!("{other:?}"),
        }
    };
    assert_eq!((first(0), first(1), first(2)), (2, 3, 2));
}

#[test]
fn addresses_have_the_name_of_their_container() {
    let world = world();
    let bytes = question("3.0.0.10.in-addr.arpa", TYPE_PTR, None);
    let answer = world.ask(&world.web, &bytes, Transport::Datagram);
    assert!(answer.ends_with(b"\x05other\x03red\x00"), "{answer:?}");
    assert_eq!(reversed_address("4.3.2.1.in-addr.arpa"), Some(IpAddr::from([1, 2, 3, 4])));
    for wrong in ["3.2.1.in-addr.arpa", "5.4.3.2.1.in-addr.arpa", "04.3.2.1.in-addr.arpa", "x"] {
        assert_eq!(reversed_address(wrong), None, "{wrong}");
    }
}

#[test]
fn an_answer_that_is_too_long_says_so() {
    let world = world();
    for (edns, most) in [(None, 512), (Some(100), 512), (Some(1232), 1232), (Some(9000), 4096)] {
        let bytes = question("many", TYPE_A, edns);
        let answer = world.ask(&world.web, &bytes, Transport::Datagram);
        let is_whole = most == 4096;
        assert!(answer.len() <= most && answer.len() + 16 > most || is_whole, "{}", answer.len());
        assert_eq!(answer[2] & TRUNCATED == 0, is_whole, "{edns:?}");
        assert_eq!(last_bytes(&answer)[0], 1);
        // Who speaks of EDNS is answered with it.
        assert_eq!(answer[11], u8::from(edns.is_some()));
    }
    let answer = world.ask(&world.web, &question("many", TYPE_A, None), Transport::Stream);
    assert_eq!((answer[2] & TRUNCATED, last_bytes(&answer).len()), (0, 200));
}

#[test]
fn what_is_no_question_is_refused_or_not_heard() {
    let world = world();
    let good = question("web", TYPE_A, None);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let mut pointer = good[..12].to_vec();
    pointer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    let mut cut = good.clone();
    cut.pop();
    for (bytes, code) in [
        (with(5, 2), 1),                                    // two questions
        (with(5, 0), 1),                                    // none
        (with(7, 1), 1),                                    // an answer
        (with(11, 1), 1),                                   // an OPT that is not there
        (pointer, 1),                                       // a name that is a pointer to itself
        (with(12, 64), 1),                                  // a label of 64 bytes
        (cut, 1),                                           // cut off
        (with(2, 0x28), 4),                                 // an update
        (with(20, 3), 5),                                   // class CH
        (question("web", TYPE_AXFR, None), 5),              // a whole zone
        (question(&["a"; 128].join("."), TYPE_A, None), 1), // a name of 257 bytes
    ] {
        let answer = world.ask(&world.web, &bytes, Transport::Datagram);
        assert_eq!((&answer[..2], answer[3] & 15), (&[0xbe, 0xef][..], code), "{bytes:?}");
    }
    // An answer is answered by nobody, or two servers would talk for ever.
    for silent in [with(2, 0x81), good[..11].to_vec(), Vec::new()] {
        let heard = decide(&world.index, &world.web, &silent, Transport::Datagram, 0);
        assert_eq!(heard, Decision::Silence, "{silent:?}");
    }
}

fn check_any(bytes: &[u8]) {
    let world = world();
    for transport in [Transport::Datagram, Transport::Stream] {
        match decide(&world.index, &world.web, bytes, transport, 1) {
            Decision::Silence => {}
            Decision::Answer(answer) => {
                assert_eq!(answer[..2], bytes[..2]);
                assert!(transport == Transport::Stream || answer.len() <= 4096);
            }
            Decision::Ask(query, _) => {
                let sent = query.for_upstream(7);
                assert!(sent.len() <= bytes.len(), "more is asked than was");
                assert!(Query::parse(&sent).is_ok());
                let _ = query.is_answered_by(7, bytes);
                assert!(query.pass_on(bytes.to_vec(), 512).len() <= 512);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        check_any(&bytes);
    }

    #[test]
    fn no_change_of_a_question_does_harm(
        name in "[a-zA-Z0-9.]{0,80}",
        edns in proptest::option::of(any::<u16>()),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
    ) {
        let labels: Vec<&str> = name.split('.').filter(|it| it.len() < 64).collect();
        let mut bytes = question(&labels.join("."), TYPE_A, edns);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check_any(&bytes);
        bytes.truncate(length.index(bytes.len()));
        check_any(&bytes);
    }
}

/// Answers one question after the other, each with what `answers` makes of it.
async fn server(answers: fn(Vec<u8>) -> Vec<Vec<u8>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 600];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            for answer in answers(buffer[..length].to_vec()) {
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    });
    address
}

/// The question as an answer without records.
fn answered(mut bytes: Vec<u8>, code: u8) -> Vec<u8> {
    bytes[2] |= 0x80;
    bytes[3] = 0x80 | code;
    bytes
}

fn query() -> Query {
    Query::parse(&question("example.org", TYPE_A, None)).unwrap()
}

#[tokio::test]
async fn only_what_answers_the_question_is_taken() {
    let forged = server(|asked| {
        let mut other_id = answered(asked.clone(), 3);
        other_id[0] ^= 1;
        let mut other_name = answered(asked.clone(), 3);
        other_name[13] ^= 1;
        let no_answer = asked.clone();
        vec![other_id, other_name, no_answer, vec![1], answered(asked, 0)]
    });
    let query = query();
    let answer = ask_all(&query, &[forged.await], Transport::Datagram).await.unwrap();
    assert_eq!(answer[3] & 15, 0);
    // The client gets it under its own id.
    assert_eq!(query.pass_on(answer, 512)[..2], [0xbe, 0xef]);
}

#[tokio::test]
async fn a_question_by_connection_is_asked_by_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = read_message(&mut stream).await.unwrap();
        let mut answer = answered(asked, 3);
        // Longer than any datagram.
        answer.resize(20_000, 0);
        write_message(&mut stream, &answer).await.unwrap();
    });
    let query = query();
    let answer = ask_all(&query, &[address], Transport::Stream).await.unwrap();
    let limit = Transport::Stream.limit(&query);
    assert_eq!(query.pass_on(answer.clone(), limit).len(), 20_000);
    let cut = query.pass_on(answer, Transport::Datagram.limit(&query));
    assert_eq!((cut.len() <= 512, cut[2] & TRUNCATED, cut[3] & 15), (true, TRUNCATED, 3));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let failing = server(|asked| vec![answered(asked, 2)]).await;
    let knowing = server(|asked| vec![answered(asked, 3)]).await;
    let code = async |servers: &[SocketAddr]| {
        let answer = ask_all(&query(), servers, Transport::Datagram).await;
        answer.map(|answer| answer[3] & 15)
    };
    assert_eq!(code(&[failing, knowing]).await, Some(3));
    // Its answer is better than none.
    assert_eq!(code(&[failing]).await, Some(2));
    assert_eq!(code(&[]).await, None);
}

#[tokio::test]
async fn one_that_is_silent_is_waited_for_only_so_long() {
    let silent = server(|_| Vec::new()).await;
    let query = query();
    let servers = [silent];
    let asked = ask_all(&query, &servers, Transport::Datagram);
    assert_eq!(timeout(Duration::from_secs(60), asked).await.expect("an end"), None);
}

#[test]
fn servers_of_a_resolv_conf_are_read() {
    let text = "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nsearch nameserver\n\
                nameserver fe80::1%eth0\nnameserver 2001:db8::1 \nnameserver\n";
    let found: Vec<String> = servers_in(text).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1", "2001:db8::1"]);
}

#[tokio::test]
async fn datagrams_and_connections_are_answered() {
    let World { index, web, .. } = world();
    let desk = std::sync::Arc::new(Desk::default());
    desk.index.store(std::sync::Arc::new(index));
    let asking = Asking::new(desk, web);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream_address = listener.local_addr().unwrap();
    tokio::spawn(datagrams(asking.clone(), socket));
    tokio::spawn(connections(asking, listener));

    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    // What is no question does not end the service.
    client.send(b"nonsense").await.unwrap();
    client.send(&question("web", TYPE_A, None)).await.unwrap();
    let mut buffer = [0; 512];
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(last_bytes(&buffer[..length]), [2]);

    let mut stream = TcpStream::connect(stream_address).await.unwrap();
    for name in ["web", "other"] {
        write_message(&mut stream, &question(name, TYPE_A, None)).await.unwrap();
    }
    assert_eq!(last_bytes(&read_message(&mut stream).await.unwrap()), [2]);
    assert_eq!(last_bytes(&read_message(&mut stream).await.unwrap()), [3]);
    // Nor does a client that leaves in the middle of a question.
    let mut rude = TcpStream::connect(stream_address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut rude, &[0, 40, 1]).await.unwrap();
    drop(rude);
    write_message(&mut stream, &question("many", TYPE_A, None)).await.unwrap();
    assert_eq!(last_bytes(&read_message(&mut stream).await.unwrap()).len(), 200);
}
