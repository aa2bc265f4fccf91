//! Text and the words between `{{` and `}}`.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Text(String),
    /// `{{`, with the place of what follows in the template.
    Open(usize),
    Close,
    /// A name: keyword, function, `true`, `nil`.
    Word(String),
    /// `.A` or, as `""`, the dot alone.
    Field(String),
    /// `$` with its name.
    Variable(String),
    /// A string between quotes or back quotes.
    Quoted(String),
    Number(String),
    Pipe,
    Left,
    Right,
    Declare,
    Assign,
    Comma,
    /// White space between words: `.A .B` are two, `.A.B` is one.
    Space,
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trims = false;
    loop {
        let Some(at) = rest.find("{{") else {
            push_text(&mut tokens, if trims { rest.trim_start() } else { rest });
            return Ok(tokens);
        };
        let (before, action) = (&rest[..at], &rest[at + 2..]);
        let mut before = if trims { before.trim_start() } else { before };
        let mut inside = action;
        if let Some(after) = marked_left(action) {
            before = before.trim_end();
            inside = after;
        }
        push_text(&mut tokens, before);
        if let Some(comment) = inside.trim_start().strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| error("unclosed comment"))?;
            let after = &comment[end + 2..];
            let close =
                after.find("}}").ok_or_else(|| error("comment ends before closing delimiter"))?;
            trims = after[..close].trim_start().starts_with('-');
            rest = &after[close + 2..];
            continue;
        }
        tokens.push(Token::Open(text.len() - inside.len()));
        (rest, trims) = action_tokens(inside, &mut tokens)?;
        tokens.push(Token::Close);
    }
}

fn marked_left(action: &str) -> Option<&str> {
    action.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace))
}

fn push_text(tokens: &mut Vec<Token>, text: &str) {
    if !text.is_empty() {
        tokens.push(Token::Text(text.to_owned()));
    }
}

/// Reads to the end of an action; what follows it, and whether white space is cut there.
fn action_tokens<'a>(
    mut rest: &'a str,
    tokens: &mut Vec<Token>,
) -> Result<(&'a str, bool), String> {
    loop {
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((after, false));
        }
        let Some(c) = rest.chars().next() else { return Err(error("unclosed action")) };
        if c.is_whitespace() {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix("-}}") {
                return Ok((after, true));
            }
            tokens.push(Token::Space);
            continue;
        }
        let (token, length) = token(rest, c)?;
        tokens.push(token);
        rest = &rest[length..];
    }
}

fn token(rest: &str, c: char) -> Result<(Token, usize), String> {
    let name_length =
        |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    Ok(match c {
        '|' => (Token::Pipe, 1),
        '(' => (Token::Left, 1),
        ')' => (Token::Right, 1),
        ',' => (Token::Comma, 1),
        ':' if rest.starts_with(":=") => (Token::Declare, 2),
        '=' => (Token::Assign, 1),
        '"' => quoted(rest)?,
        '`' => {
            let end = rest[1..].find('`').ok_or_else(|| error("unterminated raw quoted string"))?;
            (Token::Quoted(rest[1..=end].to_owned()), end + 2)
        }
        '.' => {
            let length = name_length(&rest[1..]);
            (Token::Field(rest[1..=length].to_owned()), length + 1)
        }
        '$' => {
            let length = name_length(&rest[1..]);
            (Token::Variable(rest[1..=length].to_owned()), length + 1)
        }
        _ if c.is_ascii_digit()
            || ((c == '-' || c == '+') && rest[1..].starts_with(|d: char| d.is_ascii_digit())) =>
        {
            let length = rest[1..]
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_')
                .map_or(rest.len(), |it| it + 1);
            (Token::Number(rest[..length].to_owned()), length)
        }
        _ if c.is_alphabetic() || c == '_' => {
            let length = name_length(rest);
            (Token::Word(rest[..length].to_owned()), length)
        }
        _ => return Err(error(&format!("unexpected {c:?} in command"))),
    })
}

fn quoted(rest: &str) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Quoted(text), at + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, 'r')) => text.push('\r'),
                Some((_, c @ ('"' | '\\' | '\''))) => text.push(c),
                _ => return Err(error("invalid syntax")),
            },
            '\n' => break,
            _ => text.push(c),
        }
    }
    Err(error("unterminated quoted string"))
}

pub(super) fn error(what: &str) -> String {
    format!("template: :1: {what}")
}
