//! The daemon's progress of pulls, pushes and loads: bars on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Read, Write};

use crate::client::documents;
use crate::error::{Failure, Result};
use crate::json::Value;
use crate::{terminal, units};

/// Shows the stream to its end. `aux` records go to `on_aux`.
///
/// # Errors
/// What the daemon says in the stream.
pub(crate) fn show(
    reader: impl Read,
    out: &mut (impl Write + IsTerminal),
    mut on_aux: impl FnMut(&Value),
) -> Result<()> {
    let mut display = Display { is_terminal: out.is_terminal(), layers: Vec::new() };
    for document in documents(reader) {
        let document = document?;
        if let Some(aux) = document.member("aux") {
            on_aux(aux);
            continue;
        }
        if let Some(failure) = failure_of(&document) {
            return Err(failure);
        }
        display.show(&document, out)?;
        out.flush()?;
    }
    Ok(())
}

/// Reads the stream to its end without showing it.
pub(crate) fn quietly(reader: impl Read) -> Result<()> {
    for document in documents(reader) {
        if let Some(failure) = failure_of(&document?) {
            return Err(failure);
        }
    }
    Ok(())
}

/// Reads the stream to its end: what it says without being progress of anything.
pub(crate) fn stream_of(reader: impl Read) -> Result<String> {
    let mut text = String::new();
    for document in documents(reader) {
        let document = document?;
        if let Some(failure) = failure_of(&document) {
            return Err(failure);
        }
        text.push_str(document["stream"].text());
    }
    Ok(text)
}

/// With the code of the command that failed, if it was one.
pub(crate) fn failure_of(document: &Value) -> Option<Failure> {
    let failure = Failure::new(error_of(document)?);
    let code = document["errorDetail"]["code"].integer();
    Some(match u8::try_from(code) {
        Ok(code) if code > 0 => failure.with_code(code),
        _ => failure,
    })
}

fn error_of(document: &Value) -> Option<String> {
    let error =
        document.member("errorDetail").map(|it| it["message"].text()).filter(|it| !it.is_empty());
    let error = error.or_else(|| document.member("error").map(Value::text))?;
    Some(error.to_owned())
}

struct Display {
    is_terminal: bool,
    /// Ids of the lines below, in their order.
    layers: Vec<String>,
}

impl Display {
    fn show(&mut self, document: &Value, out: &mut impl Write) -> Result<()> {
        if let Some(stream) = document.member("stream") {
            self.layers.clear();
            write!(out, "{}", stream.text())?;
            return Ok(());
        }
        let (id, status) = (document["id"].text(), document["status"].text());
        let detail = &document["progressDetail"];
        let has_progress = detail["current"].integer() > 0 || detail["total"].integer() > 0;
        if !self.is_terminal {
            // A bar makes no sense in a file, and neither does each of its steps.
            if !has_progress {
                write_plain(out, id, status, "\n")?;
            }
            return Ok(());
        }
        // Lines that are no layer's end the block of bars.
        if id.is_empty() || document.member("progressDetail").is_none() {
            self.layers.clear();
            return write_plain(out, id, status, "\n");
        }
        let up = match self.layers.iter().rposition(|it| it == id) {
            Some(at) => self.layers.len() - at,
            None => {
                self.layers.push(id.to_owned());
                writeln!(out)?;
                1
            }
        };
        write!(out, "\x1b[{up}A\x1b[2K\r")?;
        let bar = if has_progress { bar(detail) } else { String::new() };
        write_plain(out, id, &format!("{status} {bar}"), "")?;
        write!(out, "\x1b[{up}B\r")?;
        Ok(())
    }
}

fn write_plain(out: &mut impl Write, id: &str, status: &str, end: &str) -> Result<()> {
    if !id.is_empty() {
        write!(out, "{id}: ")?;
    }
    write!(out, "{status}{end}")?;
    Ok(())
}

const BAR: i64 = 50;

/// `[=====>      ]  1.2MB/3.4MB`, as wide as there is room for.
fn bar(detail: &Value) -> String {
    let (current, total) = (detail["current"].integer().max(0), detail["total"].integer());
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let size = |bytes: i64| units::size(bytes as f64, 4);
    if total <= 0 {
        return format!("{:>8}", size(current));
    }
    let current = current.min(total);
    let numbers = format!("{:>8}/{}", size(current), size(total));
    if terminal::size().is_none_or(|(_, columns)| columns < 110) {
        return numbers;
    }
    let done = usize::try_from(current * BAR / total).unwrap_or(0);
    let rest = usize::try_from(BAR).unwrap_or(0).saturating_sub(done);
    let head = if rest > 0 { ">" } else { "" };
    format!("[{}{head}{}]  {numbers}", "=".repeat(done), " ".repeat(rest.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: &str = concat!(
        r#"{"status":"Pulling from library/busybox","id":"latest"}"#,
        "\r\n",
        r#"{"status":"Pulling fs layer","progressDetail":{},"id":"abc"}"#,
        "\r\n",
        r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"abc"}"#,
        "\r\n",
        r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#,
        "\r\n",
        r#"{"status":"Status: Downloaded newer image for busybox:latest"}"#,
        "\r\n",
        r#"{"aux":{"ID":"sha256:1"}}"#,
        "\r\n",
    );

    fn shown(is_terminal: bool, text: &str) -> String {
        let mut display = Display { is_terminal, layers: Vec::new() };
        let mut out = Vec::new();
        for document in documents(text.as_bytes()) {
            let document = document.unwrap();
            if document.member("aux").is_none() {
                display.show(&document, &mut out).unwrap();
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_file_gets_lines_without_bars() {
        let expected = "latest: Pulling from library/busybox\nabc: Pulling fs layer\nabc: Pull complete\n\
                        Status: Downloaded newer image for busybox:latest\n";
        assert_eq!(shown(false, PULL), expected);
    }

    #[test]
    fn a_terminal_gets_one_line_for_each_layer() {
        let text = shown(true, PULL);
        assert_eq!(text.matches('\n').count(), 3, "{text:?}");
        assert!(text.contains("5B/10B"), "{text:?}");
    }

    #[test]
    fn errors_in_the_stream_are_failures() {
        let text = r#"{"errorDetail":{"message":"no such thing"},"error":"no such thing"}"#;
        assert_eq!(quietly(text.as_bytes()).unwrap_err().message, "no such thing");
    }
}
