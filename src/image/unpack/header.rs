//! The 512 bytes in front of every member.

use super::sparse::Segment;
use crate::error::{Error, Result};

pub(super) const BLOCK: usize = 512;

/// A header whose checksum is right.
pub(super) struct Header {
    block: [u8; BLOCK],
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    /// ustar with a shorter prefix and times behind it.
    Star,
    Gnu,
}

impl Header {
    pub(super) fn parse(block: [u8; BLOCK]) -> Result<Self> {
        let stated = octal(field(&block, 148, 8))
            .ok_or_else(|| Error::invalid("a header of the archive has no checksum"))?;
        let (unsigned, signed) = checksums(&block);
        if stated != unsigned && i64::try_from(stated) != Ok(signed) {
            return Err(Error::invalid("a header of the archive has a wrong checksum"));
        }
        let format = match (field(&block, 257, 8), field(&block, 508, 4)) {
            (b"ustar  \0", _) => Format::Gnu,
            (magic, b"tar\0") if magic.starts_with(b"ustar\0") => Format::Star,
            (magic, _) if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        };
        Ok(Self { block, format })
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[156]
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(field(&self.block, 0, 100));
        let prefix = match self.format {
            Format::Ustar => text(field(&self.block, 345, 155)),
            Format::Star => text(field(&self.block, 345, 131)),
            Format::V7 | Format::Gnu => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(field(&self.block, 157, 100))
    }

    pub(super) fn mode(&self) -> Result<u32> {
        let mode = self.number(100, 8, "mode")?;
        // Some writers put the file type in the high bits.
        Ok(u32::try_from(mode & 0o7777).unwrap_or_default())
    }

    pub(super) fn uid(&self) -> Result<u64> {
        self.number(108, 8, "owner")
    }

    pub(super) fn gid(&self) -> Result<u64> {
        self.number(116, 8, "group")
    }

    pub(super) fn size(&self) -> Result<u64> {
        self.number(124, 12, "size")
    }

    pub(super) fn mtime(&self) -> Result<i64> {
        signed_number(field(&self.block, 136, 12))
            .ok_or_else(|| Error::invalid("the time is malformed"))
    }

    /// Major and minor, inside what the kernel can hold.
    pub(super) fn device(&self) -> Result<(u32, u32)> {
        let (major, minor) = match self.format {
            Format::V7 => (0, 0),
            Format::Ustar | Format::Star | Format::Gnu => {
                (self.number(329, 8, "device")?, self.number(337, 8, "device")?)
            }
        };
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major), Ok(minor)) if major < 1 << 12 && minor < 1 << 20 => Ok((major, minor)),
            _ => Err(Error::invalid(format!("device {major}:{minor} is out of range"))),
        }
    }

    /// The sparse segments of a GNU header; true if a block with more follows.
    pub(super) fn sparse_segments(&self, segments: &mut Vec<Segment>) -> Result<bool> {
        if self.format != Format::Gnu {
            return Err(Error::invalid("a sparse member in an archive that is not GNU's"));
        }
        parse_segments(field(&self.block, 386, 96), segments)?;
        Ok(self.block[482] != 0)
    }

    pub(super) fn real_size(&self) -> Result<u64> {
        self.number(483, 12, "size")
    }

    fn number(&self, offset: usize, length: usize, what: &str) -> Result<u64> {
        signed_number(field(&self.block, offset, length))
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| Error::invalid(format!("the {what} is malformed")))
    }
}

/// The segments of a block that continues a GNU sparse header; true if another follows.
pub(super) fn extended_segments(block: &[u8; BLOCK], segments: &mut Vec<Segment>) -> Result<bool> {
    parse_segments(field(block, 0, 504), segments)?;
    Ok(block[504] != 0)
}

fn parse_segments(bytes: &[u8], segments: &mut Vec<Segment>) -> Result<()> {
    for pair in bytes.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if offset.first() == Some(&0) {
            break;
        }
        let number = |bytes| signed_number(bytes).and_then(|number| u64::try_from(number).ok());
        match (number(offset), number(length)) {
            (Some(offset), Some(length)) => segments.push(Segment { offset, length }),
            _ => return Err(Error::invalid("a sparse segment is malformed")),
        }
    }
    Ok(())
}

fn field(block: &[u8; BLOCK], offset: usize, length: usize) -> &[u8] {
    block.get(offset..offset + length).unwrap_or_default()
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn checksums(block: &[u8; BLOCK]) -> (u64, i64) {
    let mut unsigned: u64 = 0;
    let mut signed: i64 = 0;
    for (index, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&index) { b' ' } else { *byte };
        unsigned += u64::from(byte);
        // Old writers added bytes as signed characters.
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}

/// Octal digits between spaces and NULs; empty is zero.
fn octal(field: &[u8]) -> Option<u64> {
    let text = field.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Octal, or GNU's base 256 when the first bit is set (two's complement).
fn signed_number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field).and_then(|number| i64::try_from(number).ok());
    }
    let is_negative = first & 0x40 != 0;
    // Sign-extend the seven bits of the first byte.
    let first = if is_negative { *first } else { first & 0x7f };
    let start = i64::from(first.cast_signed());
    rest.iter()
        .try_fold(start, |number, byte| number.checked_mul(256)?.checked_add(i64::from(*byte)))
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(signed_number(b"0000644\0"), Some(0o644));
        assert_eq!(signed_number(b"    644 "), Some(0o644));
        assert_eq!(signed_number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(signed_number(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(signed_number(&[0xff; 12]), Some(-1));
        assert_eq!(signed_number(b"9999999\0"), None);
        assert_eq!(signed_number(b"12\x0034\0\0\0"), None);
        let mut overflow = [0xff; 12];
        overflow[0] = 0xbf;
        assert_eq!(signed_number(&overflow), None);
    }

    #[test]
    fn a_header_with_a_wrong_checksum_is_refused() {
        let mut block = *::tar::Header::new_ustar().as_bytes();
        block[148..156].copy_from_slice(b"0000001\0");
        assert!(Header::parse(block).is_err());
    }
}
