//! Files that services name: variables for their environment, and labels.

use crate::dotenv::{self, Variables};
use crate::error::{Error, Result};
use crate::files;
use crate::interpolate::Lookup;
use crate::load::Warnings;
use crate::node::{Map, Node, Value};

/// What a service's files of variables and the project's environment give it, below its own variables. Their names go.
pub(crate) fn environment(
    service: &mut Map,
    environment: &Variables,
    path: &[String],
    warnings: &mut Warnings,
) -> Result<()> {
    let mut own = match service.remove("environment").map(|it| it.value) {
        Some(Value::Map(map)) => map,
        _ => Map::new(),
    };
    for (key, value) in own.iter_mut().filter(|(_, value)| value.is_null()) {
        if let Some(known) = environment.get(key) {
            value.value = Value::Text(known.clone());
        }
    }
    let text = |map: &Map, key: &str| map.get(key).and_then(|it| it.as_text().map(str::to_owned));
    let mut variables: Variables =
        own.keys().filter_map(|key| Some((key.clone(), text(&own, key)?))).collect();
    let env_files = service.remove("env_file");
    for file in env_files.as_ref().and_then(Node::as_list).unwrap_or_default() {
        let name = file.get("path").and_then(Node::as_text).unwrap_or_default();
        if !files::exists(name) {
            if file.get("required").and_then(Node::as_bool) == Some(false) {
                continue;
            }
            return Err(Error::at(file, path, format!("env file {name} not found")));
        }
        let lookup = |key: &str| environment.get(key).cloned().or_else(|| text(&own, key));
        let read = read_variables(file, name, &mut variables, (&lookup, warnings));
        read.map_err(|it| Error::at(file, path, format!("failed to read {name}: {it}")))?;
    }
    let mut all: Map = variables.into_iter().map(|(key, it)| (key, Node::text(it))).collect();
    all.extend(own);
    if !all.is_empty() {
        service.insert("environment".to_owned(), Value::Map(all).into());
    }
    Ok(())
}

fn read_variables(
    file: &Node,
    name: &str,
    into: &mut Variables,
    (lookup, warnings): (Lookup<'_>, &mut Warnings),
) -> Result<()> {
    let text = files::read(name)?;
    match file.get("format").and_then(Node::as_text) {
        None | Some("" | ".env") => {
            dotenv::read(&text, into, lookup, &mut |name| warnings.unset(name))
        }
        Some("raw") => dotenv::read_raw(&text, into, lookup),
        Some(other) => Err(Error::new(format!("unsupported env_file format {other:?}"))),
    }
}

/// The same of its files of labels.
pub(crate) fn labels(service: &mut Map, path: &[String], warnings: &mut Warnings) -> Result<()> {
    let Some(list) = service.remove("label_file") else { return Ok(()) };
    let mut labels = Variables::new();
    for file in list.as_list().unwrap_or_default() {
        let name = file.as_text().unwrap_or_default();
        if !files::exists(name) {
            return Err(Error::at(file, path, format!("label file {name} not found")));
        }
        let known = labels.clone();
        let text = files::read(name)?;
        dotenv::read(&text, &mut labels, &|key| known.get(key).cloned(), &mut |name| {
            warnings.unset(name);
        })
        .map_err(|it| Error::at(file, path, format!("failed to read {name}: {it}")))?;
    }
    let mut all: Map = labels.into_iter().map(|(key, it)| (key, Node::text(it))).collect();
    if let Some(Value::Map(own)) = service.remove("labels").map(|it| it.value) {
        all.extend(own);
    }
    if !all.is_empty() {
        service.insert("labels".to_owned(), Value::Map(all).into());
    }
    Ok(())
}
