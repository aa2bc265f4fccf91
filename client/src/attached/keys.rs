//! The keys that leave a container behind.

/// `ctrl-p,ctrl-q` as bytes. None: the keys are off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys(Vec<u8>);

impl Default for Keys {
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl Keys {
    /// `a`, `ctrl-a` … `ctrl-z`, `ctrl-@`, `ctrl-[`, `ctrl-\`, `ctrl-]`, `ctrl-^`, `ctrl-_`, separated by commas.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let key = |name: &str| match name.as_bytes() {
            [one] => Some(*one),
            [b'c', b't', b'r', b'l', b'-', c] => match c {
                b'a'..=b'z' => Some(c - b'a' + 1),
                b'@' => Some(0),
                b'['..=b'_' => Some(c - b'[' + 27),
                _ => None,
            },
            _ => None,
        };
        let parsed: Option<Vec<u8>> = text.split(',').map(key).collect();
        parsed
            .map(Self)
            .ok_or_else(|| format!("invalid detach keys ({text}): not a valid key sequence"))
    }

    pub(super) fn matcher(self) -> Matcher {
        Matcher { keys: self.0, matched: 0 }
    }
}

/// Watches what is typed. Keys that begin the sequence are held back until it is clear what they are.
pub(super) struct Matcher {
    keys: Vec<u8>,
    matched: usize,
}

impl Matcher {
    /// What may go on to the process.
    pub(super) fn pass(&mut self, typed: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.is_complete() {
                break;
            }
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(&byte));
            if self.matched == 0 {
                passed.push(byte);
            }
        }
        passed
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.keys.is_empty() && self.matched == self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(Keys::parse("ctrl-p,ctrl-q"), Ok(Keys::default()));
        assert_eq!(Keys::parse("a,ctrl-@,ctrl-_"), Ok(Keys(vec![b'a', 0, 31])));
        for wrong in ["", "ctrl-", "ctrl-A", "ab", "a,,b"] {
            assert!(Keys::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        let mut matcher = Keys::default().matcher();
        assert_eq!(matcher.pass(b"a\x10b"), b"a\x10b");
        assert_eq!(matcher.pass(b"\x10"), b"");
        assert_eq!(matcher.pass(b"\x10"), b"\x10");
        assert!(!matcher.is_complete());
        assert_eq!(matcher.pass(b"\x11rest"), b"");
        assert!(matcher.is_complete());
    }
}
