//! PAX extended headers: `length key=value\n`, over and over.

use super::header::decimal;
use super::sparse::{Segment, pairs};
use super::tar::{Time, shown};
use crate::error::{Error, Result};

const LARGEST_XATTR: usize = 64 << 10;

/// What an extended header says about the member behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    /// Those a layer may carry; others are left out.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<SparseMap>,
    /// The real name of a sparse file; `path` is then one for programs that do not know.
    pub(super) sparse_name: Option<Vec<u8>>,
}

/// Where GNU's three sparse forms keep the list of segments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SparseMap {
    Listed { real_size: u64, segments: Vec<Segment> },
    InData { real_size: u64 },
}

#[derive(Default)]
struct Sparse {
    major: Option<u64>,
    real_size: Option<u64>,
    numbers: Vec<u64>,
    is_mentioned: bool,
}

impl Pax {
    pub(super) fn parse(mut records: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        let mut sparse = Sparse::default();
        while !records.is_empty() {
            let (key, value, rest) = split_record(records)?;
            pax.set(key, value, &mut sparse)
                .ok_or_else(|| Error::invalid(format!("PAX record {} is malformed", shown(key))))?;
            records = rest;
        }
        if sparse.is_mentioned {
            pax.sparse = sparse.map();
            if pax.sparse.is_none() {
                return Err(Error::invalid("the PAX records of a sparse file are incomplete"));
            }
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8], sparse: &mut Sparse) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.set_xattr(name, value);
        }
        if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            if name == b"name" {
                self.sparse_name = Some(path(value)?);
            }
            return sparse.set(name, value);
        }
        match key {
            b"path" => self.path = Some(path(value)?).filter(|path| !path.is_empty()),
            b"linkpath" => self.link_path = Some(path(value)?).filter(|path| !path.is_empty()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            // Names of owners, other times, comments and vendors' own records change nothing here.
            _ => {}
        }
        Some(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if value.len() > LARGEST_XATTR || name.len() > 255 || name.contains(&0) {
            return None;
        }
        // `trusted.overlay.*` would speak to the kernel's overlayfs, labels and signatures to the
        // host's security modules: not an image's to set.
        if name == b"security.capability" || name.starts_with(b"user.") {
            self.xattrs.retain(|(other, _)| other != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
        }
        Some(())
    }
}

impl Sparse {
    fn set(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        self.is_mentioned = true;
        match name {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" if value == b"0" || value == b"1" => {}
            b"minor" => return None,
            b"realsize" | b"size" => self.real_size = Some(decimal(value)?),
            b"map" => {
                for number in value.split(|byte| *byte == b',') {
                    self.numbers.push(decimal(number)?);
                }
            }
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            _ => {}
        }
        Some(())
    }

    fn map(self) -> Option<SparseMap> {
        let real_size = self.real_size?;
        match self.major {
            Some(1) if self.numbers.is_empty() => Some(SparseMap::InData { real_size }),
            None | Some(0) if self.numbers.len().is_multiple_of(2) => {
                Some(SparseMap::Listed { real_size, segments: pairs(&self.numbers) })
            }
            _ => None,
        }
    }
}

/// The first record's key and value, and what follows it.
fn split_record(records: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let split = || {
        let space = records.iter().take(8).position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(records.get(..space)?)?).ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = record.split_at(equals);
        Some((key, value.get(1..)?, records.get(length..)?))
    };
    split().ok_or_else(|| Error::invalid("a PAX record does not have the length it states"))
}

fn path(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

/// Decimal seconds, perhaps negative, perhaps with a fraction.
fn time(value: &[u8]) -> Option<Time> {
    let (is_negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (digits.get(..dot)?, digits.get(dot + 1..)?),
        None => (digits, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanoseconds = 0;
    for index in 0..9 {
        let digit = fraction.get(index).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        nanoseconds = nanoseconds * 10 + u32::from(digit - b'0');
    }
    Some(match (is_negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        // Nanoseconds count upwards from the second below.
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let length = (1..)
            .map(|digits| body.len() + digits)
            .find(|n| n.to_string().len() + body.len() == *n);
        [length.unwrap().to_string().as_bytes(), &body].concat()
    }

    #[test]
    fn values_may_hold_newlines_and_equal_signs() {
        let mut records = record("SCHILY.xattr.security.capability", b"\x01\n=\x00\n");
        records.extend(record("path", "ünï/=x".as_bytes()));
        records.extend(record("SCHILY.xattr.trusted.overlay.opaque", b"y"));
        let pax = Pax::parse(&records).unwrap();

        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), b"\x01\n=\x00\n".to_vec())]);
        assert_eq!(pax.path.unwrap(), "ünï/=x".as_bytes());
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(time(b"1.5"), at(1, 500_000_000));
        assert_eq!(time(b"1700000000.123456789"), at(1_700_000_000, 123_456_789));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(time(b"1."), at(1, 0));
        assert_eq!(time(b"1e9"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for records in
            [&b"5 a=b\n"[..], b"6 a=b", b"99 a=b\n", b"a=b\n", b" 6 a=b\n", b"6 aab\n", b"0 a=b\n"]
        {
            assert!(Pax::parse(records).is_err(), "{}", shown(records));
        }
        assert!(Pax::parse(&record("size", b"-1")).is_err());
        assert!(Pax::parse(&record("size", b"99999999999999999999")).is_err());
        assert!(Pax::parse(&record("path", b"a\0b")).is_err());
        assert!(Pax::parse(&record("GNU.sparse.major", b"1")).is_err());
    }
}
