//! As much of JSON as a Dockerfile holds: arrays of strings, and one member of an object. Read as Go reads it.

/// Deeper JSON is none, as for Go's decoder.
const DEEPEST: usize = 10_000;

/// A text that begins with `[`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Strings {
    All(Vec<String>),
    /// An array with something else in it.
    NotOnly,
    NoJson,
}

pub(super) fn strings(text: &str) -> Strings {
    let mut reader = Reader { rest: text };
    match reader.array() {
        Some(items) if reader.is_at_end() => {
            items.into_iter().collect::<Option<_>>().map_or(Strings::NotOnly, Strings::All)
        }
        _ => Strings::NoJson,
    }
}

/// The string with this name in an object that is the whole text; of several the last.
pub(super) fn member(text: &str, name: &str) -> Option<String> {
    let mut reader = Reader { rest: text };
    reader.take('{')?;
    let mut found = None;
    if reader.take('}').is_none() {
        loop {
            reader.skip_space();
            let key = reader.string()?;
            reader.take(':')?;
            let value = reader.value()?;
            if key == name {
                found = value;
            }
            if reader.take(',').is_none() {
                reader.take('}')?;
                break;
            }
        }
    }
    found.filter(|_| reader.is_at_end())
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    fn take(&mut self, mark: char) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(mark)?;
        Some(())
    }

    /// The items: a string, or None for another value.
    fn array(&mut self) -> Option<Vec<Option<String>>> {
        self.take('[')?;
        let mut items = Vec::new();
        if self.take(']').is_some() {
            return Some(items);
        }
        loop {
            items.push(self.value()?);
            if self.take(',').is_none() {
                self.take(']')?;
                return Some(items);
            }
        }
    }

    /// Some(None) for a value that is no string. None when it is no JSON.
    #[expect(clippy::option_option, reason = "no JSON and no string are two things")]
    fn value(&mut self) -> Option<Option<String>> {
        self.skip_space();
        if self.rest.starts_with('"') {
            return self.string().map(Some);
        }
        self.nested()?;
        Some(None)
    }

    /// Passes over a value without recursion.
    fn nested(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.skip_space();
            match self.rest.chars().next()? {
                mark @ ('[' | '{') => {
                    self.take(mark)?;
                    let close = if mark == '[' { ']' } else { '}' };
                    if self.take(close).is_none() {
                        open.push(close);
                        if open.len() > DEEPEST {
                            return None;
                        }
                        if close == '}' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                '"' => {
                    self.string()?;
                }
                _ => self.scalar()?,
            }
            loop {
                let Some(close) = open.last().copied() else { return Some(()) };
                if self.take(',').is_some() {
                    if close == '}' {
                        self.key()?;
                    }
                    break;
                }
                self.take(close)?;
                open.pop();
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.skip_space();
        self.string()?;
        self.take(':')
    }

    fn scalar(&mut self) -> Option<()> {
        for word in ["true", "false", "null"] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Some(());
            }
        }
        let length = self
            .rest
            .find(|character: char| !matches!(character, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(length);
        self.rest = rest;
        // What does not fit is refused by Go, and then the text is no JSON.
        (is_number(number) && number.parse::<f64>().is_ok_and(f64::is_finite)).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        let mut characters = self.rest.strip_prefix('"')?.chars();
        let mut out = String::new();
        loop {
            match characters.next()? {
                '"' => {
                    self.rest = characters.as_str();
                    return Some(out);
                }
                '\\' => match characters.next()? {
                    plain @ ('"' | '\\' | '/') => out.push(plain),
                    'b' => out.push('\u{8}'),
                    'f' => out.push('\u{c}'),
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    't' => out.push('\t'),
                    'u' => {
                        let (character, rest) = escaped(characters.as_str())?;
                        out.push(character);
                        characters = rest.chars();
                    }
                    _ => return None,
                },
                control if control < ' ' => return None,
                plain => out.push(plain),
            }
        }
    }
}

/// Behind `\u`: four digits, or two times four for a pair. Half a pair is the replacement character.
fn escaped(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| {
        let digits = text.get(..4)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(text)?;
    let rest = text.get(4..)?;
    let second = rest.strip_prefix("\\u").and_then(unit);
    if let (0xd800..=0xdbff, Some(second)) = (first, second)
        && let Some(Ok(character)) = char::decode_utf16([first, second]).next()
    {
        return Some((character, rest.get(6..)?));
    }
    Some((char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

/// JSON's numbers: no leading zeros, digits on both sides of the point.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) =
        text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) =
        mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}
