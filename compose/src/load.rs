//! From files to one model: read, interpolate, extend, include, merge, check, and write out what is short.

use std::collections::BTreeMap;

use crate::canonical::{self, Reading};
use crate::check;
use crate::defaults;
use crate::dotenv::{self, Variables};
use crate::error::{Error, Result};
use crate::files;
use crate::merge;
use crate::node::{Map, Node, Tag, Value};
use crate::paths;
use crate::unique;
use crate::yaml;

/// What is done with files.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    pub(crate) interpolate: bool,
    pub(crate) resolve_paths: bool,
    /// What variables stand for.
    pub(crate) environment: Variables,
    /// What relative paths in the model are relative to.
    pub(crate) working_dir: String,
    /// Where files that a file names are looked for.
    pub(crate) directory: String,
    pub(crate) home: Option<String>,
    /// What was read already, by path.
    pub(crate) texts: BTreeMap<String, String>,
}

/// Where a secret keeps what a variable gave it: no file can say it, and no table prints it.
pub(crate) const SECRET_VALUE: &str = "x-#value";

/// Things worth saying that are no errors, each once.
#[derive(Debug, Default)]
pub(crate) struct Warnings(pub(crate) Vec<String>);

impl Warnings {
    pub(crate) fn add(&mut self, text: String) {
        if !self.0.contains(&text) {
            self.0.push(text);
        }
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.add(format!("The {name:?} variable is not set. Defaulting to a blank string."));
    }
}

/// A path that `!reset` or `!override` stood at.
type Replaced = Vec<Vec<String>>;

impl Loader {
    /// Merges files into one model, with defaults, checked.
    pub(crate) fn model(
        &self,
        files: &[String],
        included: &[String],
        warnings: &mut Warnings,
    ) -> Result<Node> {
        let mut model = Node::from(Value::Map(Map::new()));
        for file in files {
            model = self.file(file, model, included, warnings)?;
        }
        defaults::apply(&mut model, &mut Vec::new());
        defaults::check(&model, &mut Vec::new())?;
        if self.resolve_paths {
            paths::resolve(&mut model, &mut Vec::new(), &self.working_dir, self.home.as_deref())?;
        }
        self.fill(&mut model);
        Ok(model)
    }

    fn file(
        &self,
        file: &str,
        mut model: Node,
        included: &[String],
        warnings: &mut Warnings,
    ) -> Result<Node> {
        let text = match self.texts.get(file) {
            Some(text) => text.clone(),
            None => files::read(file)?,
        };
        for document in yaml::read(file, &text)? {
            let (mut document, replaced) = self.prepared(document, warnings)?;
            self.extend(&mut document, file, &replaced, warnings)?;
            drop_replaced(&mut model, &mut Vec::new(), &replaced);
            let mut included = included.to_vec();
            included.push(file.to_owned());
            self.include(&mut document, &included, warnings)?;
            model = merge::merge(model, document, &mut Vec::new())?;
            unique::enforce(&mut model, &mut Vec::new())?;
            check::file(&model)?;
            let version = model.as_map_mut().and_then(|it| it.remove("version"));
            if version.is_some() {
                warnings.add(format!(
                    "{file}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion"
                ));
            }
            self.canonical(&mut model)?;
        }
        Ok(model)
    }

    /// A document with its variables replaced, and what of earlier files it replaces.
    fn prepared(&self, mut document: Node, warnings: &mut Warnings) -> Result<(Node, Replaced)> {
        if document.as_map().is_none() {
            return Err(Error::at(&document, &[], "top-level object must be a mapping"));
        }
        let mut replaced = Replaced::new();
        take_tags(&mut document, &mut Vec::new(), &mut replaced);
        if self.interpolate {
            let lookup = |name: &str| self.environment.get(name).cloned();
            let unset = &mut |name: &str| warnings.unset(name);
            crate::interpolate::tree(&mut document, &mut Vec::new(), &lookup, unset)?;
        }
        Ok((document, replaced))
    }

    fn canonical(&self, model: &mut Node) -> Result<()> {
        let reading = if self.interpolate { Reading::Strict } else { Reading::Lenient };
        canonical::rewrite(model, &mut Vec::new(), reading)?;
        canonical::drop_empty(model);
        unique::enforce(model, &mut Vec::new())
    }

    /// Names in lists of variables, and in secrets and configurations, that the environment has a value for.
    fn fill(&self, model: &mut Node) {
        let Some(model) = model.as_map_mut() else { return };
        let mut each = |kind: &str, act: &dyn Fn(&mut Map)| {
            let members = model.get_mut(kind).and_then(Node::as_map_mut);
            for member in members.into_iter().flat_map(Map::values_mut) {
                if let Some(member) = member.as_map_mut() {
                    act(member);
                }
            }
        };
        each("services", &|service| {
            let list = service.get_mut("environment").and_then(Node::as_list_mut);
            for item in list.into_iter().flatten() {
                if let Some(name) = item.as_text()
                    && let Some(value) = self.environment.get(name)
                {
                    item.value = Value::Text(format!("{name}={value}"));
                }
            }
        });
        for (kind, key) in [("configs", "content"), ("secrets", SECRET_VALUE)] {
            each(kind, &|object| {
                let name = object.get("environment").and_then(Node::as_text);
                if let Some(value) = name.and_then(|it| self.environment.get(it)) {
                    object.insert(key.to_owned(), Node::text(value.clone()));
                }
            });
        }
    }

    fn include(
        &self,
        document: &mut Node,
        included: &[String],
        warnings: &mut Warnings,
    ) -> Result<()> {
        let place = Node::new(Value::Null, &document.at);
        let Some(map) = document.as_map_mut() else { return Ok(()) };
        let Some(list) = map.remove("include").filter(|it| !it.is_null()) else { return Ok(()) };
        let path = ["include".to_owned()];
        let Some(list) = list.as_list() else {
            return Err(Error::at(&list, &path, "must be a list"));
        };
        for entry in list {
            let imported = self.imported(entry, included, warnings);
            let imported = imported.map_err(|it| it.placed(entry, &path))?;
            import(imported, map).map_err(|it| it.placed(&place, &path))?;
        }
        Ok(())
    }

    /// The model that an entry of `include` stands for.
    fn imported(&self, entry: &Node, included: &[String], warnings: &mut Warnings) -> Result<Node> {
        let texts = |key: &str| match entry.get(key) {
            Some(Node { value: Value::List(list), .. }) => list.iter().map(Node::shown).collect(),
            Some(one) => vec![one.shown()],
            None => Vec::new(),
        };
        let (paths, env_files) = match entry.as_text() {
            Some(path) => (vec![path.to_owned()], Vec::new()),
            None => (texts("path"), texts("env_file")),
        };
        let paths: Vec<String> = paths.iter().map(|it| self.located(it)).collect();
        let Some(main) = paths.first() else { return Err(Error::new("path is missing")) };
        if included.contains(main) {
            let chain = included.iter().chain([main]).cloned().collect::<Vec<_>>();
            return Err(Error::new(format!(
                "include cycle detected: {}",
                chain.join(" includes ")
            )));
        }
        let directory = match entry.get("project_directory").and_then(Node::as_text) {
            Some(directory) if !directory.is_empty() => {
                paths::absolute(directory, &self.directory, None)
            }
            _ => paths::parent(main),
        };
        let mut environment = self.environment.clone();
        let env_files: Vec<String> = match &env_files[..] {
            [] => {
                let file = paths::join(&directory, ".env");
                files::is_file(&file).then_some(file).into_iter().collect()
            }
            _ => env_files.iter().map(|it| paths::absolute(it, &self.directory, None)).collect(),
        };
        for (key, value) in read_env_files(&env_files, &environment, warnings)? {
            environment.entry(key).or_insert(value);
        }
        let loader = Self {
            working_dir: self.seen_from_here(&directory),
            directory,
            environment,
            resolve_paths: true,
            ..self.clone()
        };
        loader.model(&paths, included, warnings)
    }

    /// The path of a file that a file names.
    fn located(&self, path: &str) -> String {
        paths::absolute(path, &self.directory, self.home.as_deref())
    }

    /// A directory as seen from this project: its paths are made absolute later, with the others.
    fn seen_from_here(&self, directory: &str) -> String {
        paths::relative(&self.directory, directory)
    }

    fn extend(
        &self,
        document: &mut Node,
        file: &str,
        replaced: &Replaced,
        warnings: &mut Warnings,
    ) -> Result<()> {
        let services = document.as_map_mut().and_then(|it| it.get_mut("services"));
        let Some(services) = services.and_then(Node::as_map_mut) else { return Ok(()) };
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            let mut chain = Vec::new();
            let extended = self.extended(
                &Place { file, name: &name },
                services,
                replaced,
                (&mut chain, warnings),
            )?;
            services.insert(name, extended);
        }
        Ok(())
    }

    /// A service with all that it extends.
    fn extended(
        &self,
        place: &Place<'_>,
        services: &Map,
        replaced: &Replaced,
        (chain, warnings): (&mut Vec<(String, String)>, &mut Warnings),
    ) -> Result<Node> {
        let Some(service) = services.get(place.name) else {
            let message = format!("service {:?} not found in {}", place.name, place.file);
            return Err(Error::new(message));
        };
        let Some(extends) = service.get("extends") else { return Ok(service.clone()) };
        let path = ["services", place.name, "extends"].map(str::to_owned);
        let fail = |message: String| Error::at(extends, &path, message);
        let base = extends.as_text().or_else(|| extends.get("service")?.as_text());
        let base = base.ok_or_else(|| fail("service is required".to_owned()))?.to_owned();
        let link = (place.file.to_owned(), place.name.to_owned());
        if chain.contains(&link) {
            let names: Vec<String> = chain
                .iter()
                .chain([&link])
                .map(|(file, name)| format!("{name} in {file}"))
                .collect();
            return Err(fail(format!("circular reference: {}", names.join(" extends "))));
        }
        chain.push(link);
        let mut source = match extends.get("file").and_then(Node::as_text) {
            Some(other) => {
                let file = self.located(other);
                let loaded =
                    self.base_file(&file, warnings).map_err(|it| it.placed(extends, &path));
                let (services, replaced) = loaded?;
                if !services.contains_key(&base) {
                    return Err(fail(format!("service {base:?} not found in {other}")));
                }
                let place = Place { file: &file, name: &base };
                self.extended(&place, &services, &replaced, (chain, warnings))?
            }
            None if services.contains_key(&base) => {
                let place = Place { file: place.file, name: &base };
                self.extended(&place, services, replaced, (chain, warnings))?
            }
            None => return Err(fail(format!("service {base:?} not found in {}", place.file))),
        };
        if source.is_null() {
            return Ok(service.clone());
        }
        let mut path = vec!["services".to_owned(), place.name.to_owned()];
        drop_replaced(&mut source, &mut path, replaced);
        let mut merged = merge::merge(source, service.clone(), &mut path)?;
        if let Some(map) = merged.as_map_mut() {
            map.remove("extends");
        }
        Ok(merged)
    }

    /// The services of a file that is extended, with paths that are relative to this project.
    fn base_file(&self, file: &str, warnings: &mut Warnings) -> Result<(Map, Replaced)> {
        let text = files::read(file)?;
        let mut model = Node::from(Value::Map(Map::new()));
        let mut all = Replaced::new();
        for document in yaml::read(file, &text)? {
            let (document, replaced) = self.prepared(document, warnings)?;
            drop_replaced(&mut model, &mut Vec::new(), &replaced);
            model = merge::merge(model, document, &mut Vec::new())?;
            unique::enforce(&mut model, &mut Vec::new())?;
            self.canonical(&mut model)?;
            all.extend(replaced);
        }
        let base = self.seen_from_here(&paths::parent(file));
        paths::resolve(&mut model, &mut Vec::new(), &base, self.home.as_deref())?;
        match model.as_map_mut().and_then(|it| it.remove("services")).map(|it| it.value) {
            Some(Value::Map(services)) => Ok((services, all)),
            _ => Err(Error::new(format!("{file} has no services"))),
        }
    }
}

/// A service in a file.
struct Place<'a> {
    file: &'a str,
    name: &'a str,
}

/// Finds the tags, and drops what `!reset` stands at.
fn take_tags(node: &mut Node, path: &mut Vec<String>, replaced: &mut Replaced) {
    let keep = |child: &mut Node, path: &mut Vec<String>, replaced: &mut Replaced| {
        match child.tag {
            Tag::None => take_tags(child, path, replaced),
            Tag::Reset | Tag::Override => replaced.push(path.clone()),
        }
        child.tag != Tag::Reset
    };
    match &mut node.value {
        Value::Map(map) => map.retain(|key, child| {
            path.push(key.clone());
            let kept = keep(child, path, replaced);
            path.pop();
            kept
        }),
        Value::List(list) => {
            let mut index = 0usize;
            list.retain_mut(|child| {
                path.push(format!("[{index}]"));
                index += 1;
                // A place in a list is no place in another file's list.
                let kept = keep(child, path, &mut Vec::new());
                path.pop();
                kept
            });
        }
        _ => {}
    }
}

/// Drops what a later file resets or overrides.
fn drop_replaced(node: &mut Node, path: &mut Vec<String>, replaced: &Replaced) {
    if let Some(map) = node.as_map_mut().filter(|_| !replaced.is_empty()) {
        map.retain(|key, child| {
            path.push(key.clone());
            let kept = !replaced.contains(path);
            if kept {
                drop_replaced(child, path, replaced);
            }
            path.pop();
            kept
        });
    }
}

const IMPORTED: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// Takes what an included model has into the file's own. Two different things of one name are an error.
fn import(mut imported: Node, into: &mut Map) -> Result<()> {
    for kind in IMPORTED {
        let Some(resources) = imported.as_map_mut().and_then(|it| it.remove(kind)) else {
            continue;
        };
        let Value::Map(resources) = resources.value else { continue };
        let own = into.entry(kind.to_owned()).or_insert_with(|| Value::Map(Map::new()).into());
        let Some(own) = own.as_map_mut() else {
            return Err(Error::new(format!("{kind} must be a mapping")));
        };
        for (name, resource) in resources {
            match own.get(&name) {
                Some(known) if *known == resource => {}
                Some(_) => {
                    return Err(Error::new(format!(
                        "{kind}.{name} conflicts with imported resource"
                    )));
                }
                None => {
                    own.insert(name, resource);
                }
            }
        }
    }
    Ok(())
}

/// The variables of files like `.env`; later files win.
pub(crate) fn read_env_files(
    files: &[String],
    environment: &Variables,
    warnings: &mut Warnings,
) -> Result<Variables> {
    let mut variables = Variables::new();
    for file in files {
        if !files::exists(file) {
            return Err(Error::new(format!("couldn't find env file: {file}")));
        }
        if files::is_directory(file) {
            return Err(Error::new(format!("{file} is a directory")));
        }
        let text = files::read(file)?;
        let lookup = |name: &str| environment.get(name).cloned();
        let unset = &mut |name: &str| warnings.unset(name);
        dotenv::read(&text, &mut variables, &lookup, unset)
            .map_err(|it| Error::new(format!("failed to read {file}: {it}")))?;
    }
    Ok(variables)
}
