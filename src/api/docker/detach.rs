//! The keys by which a client at a terminal leaves, and what runs there goes on.

use crate::error::{Error, Result};

/// `ctrl-p,ctrl-q`
const USUAL: [u8; 2] = [0x10, 0x11];

/// What has been typed of the keys so far is held back: it is input only if another key follows.
#[derive(Debug)]
pub(super) struct Detach {
    keys: Vec<u8>,
    typed: usize,
}

/// Whether the client is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    Left,
}

impl Detach {
    /// Single characters and `ctrl-` with one of `a` to `z` or `@[\]^_`, with commas between them.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub(super) fn on(keys: Option<&str>) -> Result<Self> {
        let keys = match keys {
            None => USUAL.to_vec(),
            Some(text) => {
                let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
                keys.ok_or_else(|| {
                    Error::invalid(format!("Invalid detach keys ({text}) provided"))
                })?
            }
        };
        Ok(Self { keys, typed: 0 })
    }

    /// Appends to `input` what of `piece` is for the process.
    pub(super) fn pass(&mut self, piece: &[u8], input: &mut Vec<u8>) -> Presence {
        for &byte in piece {
            if self.keys.get(self.typed) == Some(&byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return Presence::Left;
                }
                continue;
            }
            input.extend(self.keys.iter().take(self.typed));
            self.typed = usize::from(self.keys.len() > 1 && self.keys.first() == Some(&byte));
            if self.typed == 0 {
                input.push(byte);
            }
        }
        Presence::There
    }
}

fn key(text: &str) -> Option<u8> {
    let (is_control, name) = match text.strip_prefix("ctrl-") {
        Some(name) => (true, name),
        None => (false, text),
    };
    match (is_control, name.as_bytes()) {
        (false, [byte]) => Some(*byte),
        (true, [byte @ b'a'..=b'z']) => Some(byte - b'a' + 1),
        (true, [byte @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Some(byte - b'@'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(detach: &mut Detach, piece: &[u8]) -> (Vec<u8>, Presence) {
        let mut input = Vec::new();
        let presence = detach.pass(piece, &mut input);
        (input, presence)
    }

    #[test]
    fn the_keys_end_it_in_one_piece_and_in_several() {
        let mut usual = Detach::on(None).unwrap();
        assert_eq!(passed(&mut usual, b"ls\x10\x11rm"), (b"ls".to_vec(), Presence::Left));
        let mut slow = Detach::on(Some("ctrl-x,q")).unwrap();
        assert_eq!(passed(&mut slow, b"a\x18"), (b"a".to_vec(), Presence::There));
        assert_eq!(passed(&mut slow, b"q"), (Vec::new(), Presence::Left));
        let mut single = Detach::on(Some("ctrl-@")).unwrap();
        assert_eq!(passed(&mut single, b"\0"), (Vec::new(), Presence::Left));
    }

    #[test]
    fn what_is_not_the_whole_of_the_keys_is_input() {
        let mut usual = Detach::on(None).unwrap();
        for piece in [b"\x10a".as_slice(), b"\x11\x10\x10", b"x"] {
            assert_eq!(passed(&mut usual, piece).1, Presence::There);
        }
        let mut usual = Detach::on(None).unwrap();
        assert_eq!(passed(&mut usual, b"\x10\x10a").0, b"\x10\x10a");
        assert_eq!(passed(&mut usual, b"\x10").0, b"");
        assert_eq!(passed(&mut usual, b"b").0, b"\x10b");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "ctrl-", "ctrl-1", "ctrl-ab", "ab", "a,,b"] {
            assert!(Detach::on(Some(text)).is_err(), "{text}");
        }
    }
}
