//! YAML read with its places, anchors and merge keys.
//!
//! Every document becomes one tree. Aliases and `<<` are resolved in it, so that nothing behind has to know of them; two
//! tags are kept, `!reset` and `!override`, for the merge with earlier files.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, SpannedEventReceiver, Tag as YamlTag};

use crate::error::{Error, Result};
use crate::node::{Map, Node, Position, Tag, Value};
use crate::scalar;

/// Aliases of aliases of aliases grow without bound; no honest file comes near this many values.
const MOST_NODES: usize = 500_000;

/// Reads all documents of a file. The name is for messages.
pub(crate) fn read(name: &str, text: &str) -> Result<Vec<Node>> {
    let mut builder = Builder { file: name.into(), ..Builder::default() };
    let outcome = Parser::new_from_str(text).load(&mut builder, true);
    if let Some(error) = builder.error {
        return Err(error);
    }
    if let Err(error) = outcome {
        let at = Position {
            file: builder.file,
            line: error.marker().line(),
            column: error.marker().col() + 1,
        };
        return Err(Error::at_position(at, error.info()));
    }
    Ok(builder.documents)
}

#[derive(Default)]
struct Builder {
    file: Arc<str>,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    error: Option<Error>,
}

/// A list or mapping that has not ended yet.
struct Open {
    anchor: usize,
    node: Node,
    /// The mapping's key that waits for its value.
    key: Option<(String, Position)>,
    /// What `<<` named, the first to win first.
    merged: Vec<Map>,
    has_merge: bool,
}

impl<'input> SpannedEventReceiver<'input> for Builder {
    fn on_event(&mut self, event: Event<'input>, span: Span) {
        if self.error.is_some() {
            return;
        }
        let at = Position {
            file: self.file.clone(),
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        if let Err(error) = self.take(event, at) {
            self.error = Some(error);
        }
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let awaits_key = self.open.last().is_some_and(Open::awaits_key);
                if awaits_key && anchor == 0 {
                    return self.key(&text, style, at);
                }
                let node = Node {
                    tag: kept(tag.as_deref()),
                    value: valued(&text, style, tag.as_deref(), &at)?,
                    at: Some(at),
                };
                self.finished(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Value::List(Vec::new()), anchor, tag.as_deref(), at)
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Value::Map(Map::new()), anchor, tag.as_deref(), at)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let anchor = open.anchor;
                self.finished(open.closed(), anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(Error::at_position(at, "an alias to a value that it is part of"));
                };
                self.copied += node.size();
                if self.copied > MOST_NODES {
                    return Err(Error::at_position(at, "aliases make the document too large"));
                }
                let node = node.clone();
                self.finished(node, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(
        &mut self,
        value: Value,
        anchor: usize,
        tag: Option<&YamlTag>,
        at: Position,
    ) -> Result<()> {
        if self.open.last().is_some_and(Open::awaits_key) {
            return Err(Error::at_position(at, "a key that is not a string"));
        }
        let node = Node { value, tag: kept(tag), at: Some(at) };
        self.open.push(Open { anchor, node, key: None, merged: Vec::new(), has_merge: false });
        Ok(())
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Position) -> Result<()> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if style == ScalarStyle::Plain && !matches!(scalar::plain(text), Value::Text(_)) {
            return Err(Error::at_position(at, format!("key {text} is not a string: quote it")));
        }
        if text == "<<" {
            if open.has_merge {
                return Err(Error::at_position(at, "mapping key \"<<\" already defined"));
            }
            open.has_merge = true;
        } else if let Some(earlier) = open.node.get(text) {
            let line = earlier.at.as_ref().map_or(0, |it| it.line);
            return Err(Error::at_position(
                at,
                format!("mapping key {text:?} already defined at line {line}"),
            ));
        }
        open.key = Some((text.to_owned(), at));
        Ok(())
    }

    /// Puts a value where it belongs.
    fn finished(&mut self, node: Node, anchor: usize) -> Result<()> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        if let Value::List(list) = &mut open.node.value {
            list.push(node);
            return Ok(());
        }
        let Some((key, at)) = open.key.take() else {
            // An anchored scalar, or an alias, in the place of a key.
            let at =
                node.at.clone().unwrap_or(Position { file: self.file.clone(), line: 0, column: 0 });
            let text = node.as_text().map(str::to_owned);
            let text =
                text.ok_or_else(|| Error::at_position(at.clone(), "a key that is not a string"))?;
            return self.key(&text, ScalarStyle::DoubleQuoted, at);
        };
        if key == "<<" {
            return open.merge(node, at);
        }
        if let Value::Map(map) = &mut open.node.value {
            map.insert(key, node);
        }
        Ok(())
    }
}

impl Open {
    fn awaits_key(&self) -> bool {
        matches!(self.node.value, Value::Map(_)) && self.key.is_none()
    }

    fn merge(&mut self, node: Node, at: Position) -> Result<()> {
        match node.value {
            Value::Map(map) => self.merged.push(map),
            Value::List(list) => {
                for item in list {
                    let Value::Map(map) = item.value else {
                        return Err(Error::at_position(at, "<<: what is merged must be a mapping"));
                    };
                    self.merged.push(map);
                }
            }
            _ => return Err(Error::at_position(at, "<<: what is merged must be a mapping")),
        }
        Ok(())
    }

    fn closed(self) -> Node {
        let mut node = self.node;
        if let Value::Map(own) = &mut node.value {
            for (key, value) in self.merged.into_iter().flatten() {
                own.entry(key).or_insert(value);
            }
        }
        node
    }
}

fn kept(tag: Option<&YamlTag>) -> Tag {
    match tag.map(|it| (it.handle.as_str(), it.suffix.as_str())) {
        Some(("!", "reset")) => Tag::Reset,
        Some(("!", "override")) => Tag::Override,
        _ => Tag::None,
    }
}

fn valued(text: &str, style: ScalarStyle, tag: Option<&YamlTag>, at: &Position) -> Result<Value> {
    let core = tag.filter(|it| it.is_yaml_core_schema()).map(|it| it.suffix.as_str());
    let plain = scalar::plain(text);
    match core {
        Some("str" | "binary") => return Ok(Value::Text(text.to_owned())),
        Some("int" | "float" | "bool" | "null") => return Ok(plain),
        _ => {}
    }
    if style != ScalarStyle::Plain || tag.is_some() && kept(tag) == Tag::None {
        return Ok(Value::Text(text.to_owned()));
    }
    if scalar::is_timestamp(text) {
        let message = format!("{text} is a date in YAML: quote it");
        return Err(Error::at_position(at.clone(), message));
    }
    Ok(plain)
}
