//! Changes to an image's settings, as lines of a Dockerfile.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Applies lines to the `config` of an image's configuration document.
///
/// # Errors
/// `InvalidArgument` for a line that is no such instruction.
pub(crate) fn apply(config: &mut Map<String, Value>, lines: &[&str]) -> Result<()> {
    for line in lines.iter().flat_map(|text| text.lines()).map(str::trim) {
        if !line.is_empty() {
            apply_line(config, line)?;
        }
    }
    Ok(())
}

fn apply_line(config: &mut Map<String, Value>, line: &str) -> Result<()> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
    if rest.is_empty() {
        return Err(Error::invalid(format!("{name} requires at least one argument")));
    }
    match name.as_str() {
        "CMD" => set(config, "Cmd", command(rest)),
        "ENTRYPOINT" => set(config, "Entrypoint", command(rest)),
        "USER" => set(config, "User", json!(rest)),
        "STOPSIGNAL" => set(config, "StopSignal", json!(rest)),
        "WORKDIR" => {
            let before = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            let path = std::path::Path::new("/").join(before).join(rest);
            set(config, "WorkingDir", json!(path));
        }
        "ENV" => {
            for (key, value) in pairs(rest)? {
                let mut all = list(config, "Env");
                all.retain(|line| line.split('=').next() != Some(key.as_str()));
                all.push(format!("{key}={value}"));
                set(config, "Env", json!(all));
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest)? {
                insert(config, "Labels", key, json!(value));
            }
        }
        "EXPOSE" => {
            for port in words(rest)? {
                let port = if port.contains('/') { port } else { format!("{port}/tcp") };
                super::network::parse(&port)?;
                insert(config, "ExposedPorts", port, json!({}));
            }
        }
        "VOLUME" => {
            let paths = match serde_json::from_str::<Vec<String>>(rest) {
                Ok(paths) => paths,
                Err(_) => words(rest)?,
            };
            for path in paths {
                insert(config, "Volumes", path, json!({}));
            }
        }
        "ONBUILD" => {
            let mut all = list(config, "OnBuild");
            all.push(rest.to_owned());
            set(config, "OnBuild", json!(all));
        }
        other => return Err(Error::invalid(format!("{other} is not a valid change command"))),
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

fn insert(config: &mut Map<String, Value>, map: &str, key: String, value: Value) {
    match config.get_mut(map).and_then(Value::as_object_mut) {
        Some(known) => {
            known.insert(key, value);
        }
        None => set(config, map, json!({ key: value })),
    }
}

fn list(config: &Map<String, Value>, key: &str) -> Vec<String> {
    let all = config.get(key).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A list of words as JSON has it, or a line for a shell.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => json!(words),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

/// `key=value` as often as one likes, or the old `key the value`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let all = words(text)?;
    if all.first().is_some_and(|first| !first.contains('=')) {
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    all.iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::invalid(format!("{word:?} is no key=value"))),
        })
        .collect()
}

/// Quotes keep white space together; a backslash takes the next character as it is.
fn words(text: &str) -> Result<Vec<String>> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, _) if letter.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(format!("a quote is open in {text:?}")));
    }
    all.extend(word);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[&str]) -> Value {
        let mut config = Map::new();
        apply(&mut config, lines).unwrap();
        Value::Object(config)
    }

    #[test]
    fn lines_change_what_they_name() {
        assert_eq!(applied(&["CMD [\"a\", \"b c\"]"]), json!({ "Cmd": ["a", "b c"] }));
        assert_eq!(applied(&["cmd a $b"]), json!({ "Cmd": ["/bin/sh", "-c", "a $b"] }));
        assert_eq!(applied(&["ENV A=1 B=\"x y\"", "ENV A=2"]), json!({ "Env": ["B=x y", "A=2"] }));
        assert_eq!(applied(&["ENV A some words"]), json!({ "Env": ["A=some words"] }));
        assert_eq!(applied(&["WORKDIR /a", "WORKDIR b"]), json!({ "WorkingDir": "/a/b" }));
        assert_eq!(
            applied(&["EXPOSE 80 53/udp"]),
            json!({ "ExposedPorts": { "80/tcp": {}, "53/udp": {} } })
        );
        assert_eq!(
            applied(&["VOLUME [\"/a\"]", "VOLUME /b /c"]),
            json!({ "Volumes": { "/a": {}, "/b": {}, "/c": {} } })
        );
        assert_eq!(
            applied(&["LABEL a=b\nUSER me"]),
            json!({ "Labels": { "a": "b" }, "User": "me" })
        );
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for line in ["RUN x", "FROM scratch", "CMD", "ENV =x", "EXPOSE x", "LABEL a=\"b"] {
            assert!(apply(&mut Map::new(), &[line]).is_err(), "{line}");
        }
    }
}
