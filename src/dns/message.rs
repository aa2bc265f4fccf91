//! The message format of RFC 1035 and RFC 6891, as far as a forwarder needs it.
//!
//! A query is a header, one question and perhaps an OPT record. The question's name is the first of
//! the message: nothing stands before it that it could point to, so pointers are refused there and
//! never followed. Answers of upstream servers are compared with the question and passed on as
//! they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// A name with its length bytes and the root.
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: usize = 63;
/// Root name, type, class, TTL and an empty list.
const OPT_LENGTH: usize = 11;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const AUTHENTIC_DATA: u16 = 0x0020;
const CHECKING_DISABLED: u16 = 0x0010;
const RCODE: u16 = 0x000f;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
pub(super) const TYPE_IXFR: u16 = 251;
pub(super) const TYPE_AXFR: u16 = 252;
pub(super) const TYPE_ANY: u16 = 255;
pub(super) const CLASS_IN: u16 = 1;

/// What every client takes without being asked.
pub(super) const PLAIN_SIZE: u16 = 512;
/// More is not sent in one datagram, whatever a client says it takes.
pub(super) const LARGEST_DATAGRAM: u16 = 4096;

/// How long a client may keep an answer about a container, in seconds: containers move.
const LIFETIME: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NameError = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    id: u16,
    flags: u16,
    /// Name, type and class as they came.
    question: Vec<u8>,
    /// The name in lower case, without the dot at its end.
    pub(super) name: String,
    pub(super) kind: u16,
    pub(super) class: u16,
    edns: Option<Edns>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    size: u16,
    flags: u16,
}

/// Why there is no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No answer is due, or none would reach anybody.
    Silence,
    /// This one is.
    Answer(Vec<u8>),
}

/// What an answer says of the name in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    Name(String),
}

impl Query {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let [id, flags, questions, answers, authorities, additional] =
            header(bytes).ok_or(Refusal::Silence)?;
        if flags & RESPONSE != 0 {
            return Err(Refusal::Silence);
        }
        let refuse = |code: Code| Refusal::Answer(bare(id, flags, code));
        if flags & OPCODE != 0 {
            return Err(refuse(Code::NotImplemented));
        }
        let malformed = || refuse(Code::FormatError);
        if (questions, answers, authorities) != (1, 0, 0) || additional > 1 {
            return Err(malformed());
        }
        let (name, end) = read_name(bytes, HEADER).ok_or_else(malformed)?;
        let question = bytes.get(HEADER..end + 4).ok_or_else(malformed)?;
        let kind = number(bytes, end).ok_or_else(malformed)?;
        let class = number(bytes, end + 2).ok_or_else(malformed)?;
        let edns = match additional {
            0 => None,
            _ => Some(read_opt(bytes, end + 4).ok_or_else(malformed)?),
        };
        Ok(Self { id, flags, question: question.to_vec(), name, kind, class, edns })
    }

    /// The bytes that a datagram to the client may have.
    pub(super) fn datagram_limit(&self) -> usize {
        let size = self.edns.map_or(PLAIN_SIZE, |edns| edns.size);
        usize::from(size.clamp(PLAIN_SIZE, LARGEST_DATAGRAM))
    }

    /// An answer in at most `limit` bytes; one that does not fit has what does, and says so.
    pub(super) fn answer(&self, code: Code, data: &[Data], limit: usize) -> Vec<u8> {
        let mut bytes = self.begin(code as u16);
        let room = limit.saturating_sub(if self.edns.is_some() { OPT_LENGTH } else { 0 });
        let mut count: u16 = 0;
        for one in data {
            let before = bytes.len();
            if !push_record(&mut bytes, one) {
                bytes.truncate(before);
                continue;
            }
            if bytes.len() > room {
                bytes.truncate(before);
                set_flags(&mut bytes, TRUNCATED);
                break;
            }
            count += 1;
        }
        put_number(&mut bytes, 6, count);
        self.end(&mut bytes);
        bytes
    }

    /// The same question under another id, without what else the client may have sent along.
    pub(super) fn for_upstream(&self, id: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.question.len() + OPT_LENGTH);
        let flags = self.flags & (RECURSION_DESIRED | AUTHENTIC_DATA | CHECKING_DISABLED);
        for number in [id, flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.question);
        if let Some(edns) = self.edns {
            let size = edns.size.clamp(PLAIN_SIZE, LARGEST_DATAGRAM);
            push_opt(&mut bytes, size, edns.flags);
        }
        bytes
    }

    /// Whether this answers the question that was sent under the id; its code then.
    pub(super) fn is_answered_by(&self, id: u16, bytes: &[u8]) -> Option<u16> {
        let [its_id, flags, questions, ..] = header(bytes)?;
        let its_question = bytes.get(HEADER..HEADER + self.question.len())?;
        let is_same = its_question.eq_ignore_ascii_case(&self.question);
        let is_answer = its_id == id && flags & RESPONSE != 0 && flags & OPCODE == 0;
        (is_answer && questions == 1 && is_same).then_some(flags & RCODE)
    }

    /// An answer of an upstream server, for the client. One that is too long for it is cut to the
    /// question, and says so.
    pub(super) fn pass_on(&self, mut answer: Vec<u8>, limit: usize) -> Vec<u8> {
        if answer.len() > limit {
            let code = header(&answer).map_or(0, |[_, flags, ..]| flags & RCODE);
            let mut cut = self.begin(code | TRUNCATED);
            self.end(&mut cut);
            return cut;
        }
        put_number(&mut answer, 0, self.id);
        answer
    }

    /// Header and question.
    fn begin(&self, flags: u16) -> Vec<u8> {
        let kept = self.flags & (RECURSION_DESIRED | CHECKING_DISABLED);
        let flags = RESPONSE | RECURSION_AVAILABLE | kept | flags;
        let mut bytes = Vec::with_capacity(usize::from(PLAIN_SIZE));
        for number in [self.id, flags, 1, 0, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.question);
        bytes
    }

    /// Who speaks of EDNS is answered with it.
    fn end(&self, bytes: &mut Vec<u8>) {
        if let Some(edns) = self.edns {
            push_opt(bytes, LARGEST_DATAGRAM, edns.flags & 0x8000);
            put_number(bytes, 10, 1);
        }
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` asks for.
pub(super) fn reversed_address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".ip6.arpa") {
        return reversed_ipv6(digits).map(IpAddr::V6);
    }
    let mut parts = name.strip_suffix(".in-addr.arpa")?.rsplit('.');
    let mut octets = [0; 4];
    for octet in &mut octets {
        let part = parts.next()?;
        // A plus sign, or zeros in front, would be another name.
        *octet = part.parse().ok().filter(|value: &u8| value.to_string() == part)?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// 32 digits, the last of the address first (RFC 3596).
fn reversed_ipv6(digits: &str) -> Option<Ipv6Addr> {
    let mut parts = digits.rsplit('.');
    let mut bits = 0;
    for _ in 0..32 {
        let mut digit = parts.next()?.chars();
        let value = digit.next().and_then(|digit| digit.to_digit(16))?;
        if digit.next().is_some() {
            return None;
        }
        bits = (bits << 4) | u128::from(value);
    }
    parts.next().is_none().then(|| Ipv6Addr::from_bits(bits))
}

/// The name at a place, and the place behind it.
fn read_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if at + length - start > LONGEST_NAME || length > LONGEST_LABEL {
            return None;
        }
        if length == 0 {
            return Some((name, at));
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in bytes.get(at..at + length)? {
            // A dot inside a label is none between labels. No container has such a name.
            match byte {
                b'!'..=b'~' if *byte != b'.' => name.push(char::from(byte.to_ascii_lowercase())),
                _ => name.push('\u{fffd}'),
            }
        }
        at += length;
    }
}

/// An OPT record that is all there is from here.
fn read_opt(bytes: &[u8], at: usize) -> Option<Edns> {
    let root = *bytes.get(at)?;
    let [kind, size, high, flags, length] =
        [1, 3, 5, 7, 9].map(|offset| number(bytes, at + offset));
    let is_opt = root == 0 && kind? == TYPE_OPT;
    // The upper byte extends the code, the lower one is the version.
    let is_version_0 = high? & 0xff == 0;
    let is_whole = bytes.len() == at + OPT_LENGTH + usize::from(length?);
    (is_opt && is_version_0 && is_whole).then_some(Edns { size: size?, flags: flags? & 0x8000 })
}

fn push_opt(bytes: &mut Vec<u8>, size: u16, flags: u16) {
    bytes.push(0);
    for number in [TYPE_OPT, size, 0, flags, 0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
}

/// False for a name that no message can hold.
fn push_record(bytes: &mut Vec<u8>, data: &Data) -> bool {
    let (kind, value) = match data {
        Data::Address(IpAddr::V4(address)) => (TYPE_A, address.octets().to_vec()),
        Data::Address(IpAddr::V6(address)) => (TYPE_AAAA, address.octets().to_vec()),
        Data::Name(name) => match wire_name(name) {
            Some(value) => (TYPE_PTR, value),
            None => return false,
        },
    };
    // The name in question stands right behind the header.
    const POINTER: u16 = 0xc000 | 12;
    for number in [POINTER, kind, CLASS_IN] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&LIFETIME.to_be_bytes());
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&value);
    true
}

fn wire_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        bytes.push(u8::try_from(label.len()).ok()?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= LONGEST_NAME).then_some(bytes)
}

/// An answer to what could not be read.
fn bare(id: u16, flags: u16, code: Code) -> Vec<u8> {
    let flags = RESPONSE | (flags & (OPCODE | RECURSION_DESIRED)) | code as u16;
    [id, flags, 0, 0, 0, 0].iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn header(bytes: &[u8]) -> Option<[u16; 6]> {
    let mut numbers = [0; 6];
    for (place, value) in numbers.iter_mut().enumerate() {
        *value = number(bytes, place * 2)?;
    }
    Some(numbers)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let [high, low] = *bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes([high, low]))
}

fn put_number(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

fn set_flags(bytes: &mut [u8], more: u16) {
    let flags = number(bytes, 2).unwrap_or(0);
    put_number(bytes, 2, flags | more);
}
