//! Which files, which directory, which name, which environment: what flags, variables and the file system say of a project
//! before its files are read.

use std::collections::BTreeMap;

use crate::consistency;
use crate::dotenv::Variables;
use crate::error::{Error, Result};
use crate::files;
use crate::interpolate;
use crate::load::{Loader, Warnings, read_env_files};
use crate::node::{Node, Value};
use crate::normalize;
use crate::paths;
use crate::print::{self, Format, json, yaml};
use crate::project::{Project, Setting};
use crate::yaml as reader;

const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Where a project is and how it is read.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--file`, in order; `-` is standard input.
    pub files: Vec<String>,
    pub project_directory: Option<String>,
    pub project_name: Option<String>,
    pub env_files: Vec<String>,
    pub profiles: Vec<String>,
    /// The environment of the process.
    pub environment: Variables,
    pub current_dir: String,
    /// Replace variables.
    pub interpolate: bool,
    /// Make explicit what is implied.
    pub normalize: bool,
    /// Make paths absolute.
    pub resolve_paths: bool,
    /// Check that what is named is there.
    pub check: bool,
    /// Read `env_file`.
    pub resolve_environment: bool,
}

impl Options {
    /// Everything on, and nothing said.
    #[must_use]
    pub fn new(current_dir: impl Into<String>, environment: Variables) -> Self {
        Self {
            files: Vec::new(),
            project_directory: None,
            project_name: None,
            env_files: Vec::new(),
            profiles: Vec::new(),
            environment,
            current_dir: current_dir.into(),
            interpolate: true,
            normalize: true,
            resolve_paths: true,
            check: true,
            resolve_environment: true,
        }
    }

    /// Reads the project.
    pub fn project(&self) -> Result<Project> {
        let mut warnings = Warnings::default();
        let (model, setting) = self.model(true, &mut warnings)?;
        let mut project = Project::new(model, setting)?;
        if self.check {
            consistency::check(&project)?;
            project.unify_scale();
        }
        project.resolve_files(self.resolve_environment, &mut warnings)?;
        project.warnings = warnings.0;
        Ok(project)
    }

    /// The merged model as text, without the types that variables in it may not have yet.
    pub fn print_model(&self, format: Format) -> Result<String> {
        let (model, _) = self.model(false, &mut Warnings::default())?;
        let out = print::plain(&model, format);
        Ok(match format {
            Format::Yaml => yaml::document(&out),
            Format::Json => json::indented(&out),
        })
    }

    /// The services of the merged model, of whatever profile.
    pub fn model_services(&self) -> Result<Vec<String>> {
        let (model, _) = self.model(false, &mut Warnings::default())?;
        let services = model.get("services").and_then(Node::as_map);
        Ok(services.into_iter().flatten().map(|(name, _)| name.clone()).collect())
    }

    /// `with_values` says whether the environment gives values to names that have none.
    fn model(&self, with_values: bool, warnings: &mut Warnings) -> Result<(Node, Setting)> {
        let mut environment = self.environment.clone();
        environment.entry("PWD".to_owned()).or_insert_with(|| self.current_dir.clone());
        let given: Vec<String> = self.files.iter().map(|it| self.here(it)).collect();
        self.add_env_files(&self.working_dir(&given), &mut environment, warnings)?;
        let files = self.files(given, &environment, warnings)?;
        let working_dir = self.working_dir(&files);
        self.add_env_files(&working_dir, &mut environment, warnings)?;
        if files.is_empty() {
            return Err(Error::new("no configuration file provided: not found"));
        }
        let texts: BTreeMap<String, String> =
            files.iter().map(|it| Ok((it.clone(), files::read(it)?))).collect::<Result<_>>()?;
        let name = self.name(&files, &texts, (&working_dir, &environment))?;
        environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
        let profiles = match &self.profiles[..] {
            [] => {
                let list = environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
                list.split(',').map(|it| it.trim().to_owned()).collect()
            }
            given => given.to_vec(),
        };
        let loader = Loader {
            interpolate: self.interpolate,
            resolve_paths: self.resolve_paths,
            environment: if with_values { environment.clone() } else { Variables::new() },
            working_dir: working_dir.clone(),
            directory: working_dir.clone(),
            home: environment.get("HOME").cloned(),
            texts,
        };
        let mut model = loader.model(&files, &[], warnings)?;
        let Some(map) = model.as_map_mut() else { return Err(Error::new("empty compose file")) };
        if map.is_empty() {
            return Err(Error::new("empty compose file"));
        }
        if name.is_empty() {
            return Err(Error::new("project name must not be empty"));
        }
        if self.normalize {
            normalize::apply(map, &name, &loader.environment);
            map.insert("name".to_owned(), Node::text(name.clone()));
        }
        Ok((model, Setting { name, working_dir, files, environment, profiles }))
    }

    fn here(&self, path: &str) -> String {
        if path == "-" { path.to_owned() } else { paths::absolute(path, &self.current_dir, None) }
    }

    fn working_dir(&self, files: &[String]) -> String {
        if let Some(directory) = &self.project_directory {
            return self.here(directory);
        }
        let file = files.iter().find(|it| *it != "-");
        file.map_or_else(|| self.current_dir.clone(), |it| paths::parent(it))
    }

    /// The flags' files, or the project's `.env`. What is there already wins.
    fn add_env_files(
        &self,
        working_dir: &str,
        environment: &mut Variables,
        warnings: &mut Warnings,
    ) -> Result<()> {
        let default = paths::join(working_dir, ".env");
        let is_off = self.environment.get("COMPOSE_DISABLE_ENV_FILE");
        let is_off = is_off
            .is_some_and(|it| matches!(it.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let files = if !self.env_files.is_empty() {
            self.env_files.iter().map(|it| self.here(it)).collect()
        } else if !is_off && files::exists(&default) && !files::is_directory(&default) {
            vec![default]
        } else {
            return Ok(());
        };
        for (key, value) in read_env_files(&files, environment, warnings)? {
            environment.entry(key).or_insert(value);
        }
        Ok(())
    }

    /// The files that flags name, else `COMPOSE_FILE`, else the nearest with a usual name, and its override.
    fn files(
        &self,
        given: Vec<String>,
        environment: &Variables,
        warnings: &mut Warnings,
    ) -> Result<Vec<String>> {
        if !given.is_empty() {
            return Ok(given);
        }
        if let Some(list) = environment.get("COMPOSE_FILE") {
            let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|it| !it.is_empty());
            let files = list.split(separator.map_or(":", String::as_str)).map(|it| self.here(it));
            let files: Vec<String> = files.collect();
            return match files.iter().find(|it| *it != "-" && !files::exists(it)) {
                Some(missing) => {
                    Err(Error::new(format!("stat {missing}: no such file or directory")))
                }
                None => Ok(files),
            };
        }
        let mut directory = self.working_dir(&[]);
        loop {
            let mut found = existing(&directory, &NAMES, "config", warnings);
            if !found.is_empty() {
                found.extend(existing(&directory, &OVERRIDES, "override", warnings));
                return Ok(found);
            }
            let parent = paths::parent(&directory);
            if parent == directory {
                return Ok(Vec::new());
            }
            directory = parent;
        }
    }

    fn name(
        &self,
        files: &[String],
        texts: &BTreeMap<String, String>,
        (working_dir, environment): (&str, &Variables),
    ) -> Result<String> {
        let forced = self.project_name.as_ref().filter(|it| !it.is_empty());
        let forced =
            forced.or_else(|| environment.get("COMPOSE_PROJECT_NAME").filter(|it| !it.is_empty()));
        if let Some(name) = forced {
            if normalized(name) != *name {
                return Err(Error::new(format!(
                    "invalid project name {name:?}: must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number"
                )));
            }
            return Ok(name.clone());
        }
        let mut found = None;
        for file in files {
            for document in reader::read(file, texts.get(file).map_or("", String::as_str))? {
                match document.get("name").map(|it| &it.value) {
                    Some(Value::Text(name)) if !name.is_empty() => found = Some(name.clone()),
                    _ => {}
                }
            }
        }
        let Some(mut name) = found else {
            return Ok(normalized(working_dir.rsplit('/').next().unwrap_or_default()));
        };
        if self.interpolate {
            let lookup = |key: &str| environment.get(key).cloned();
            name = interpolate::substitute(&name, &lookup, &mut |_| {})?;
        }
        Ok(if self.normalize { normalized(&name) } else { name })
    }
}

fn existing(directory: &str, names: &[&str], what: &str, warnings: &mut Warnings) -> Vec<String> {
    let mut found: Vec<String> = names.iter().map(|it| paths::join(directory, it)).collect();
    found.retain(|it| files::exists(it));
    if found.len() > 1 {
        warnings
            .add(format!("Found multiple {what} files with supported names: {}", found.join(", ")));
        warnings.add(format!("Using {}", found[0]));
        found.truncate(1);
    }
    found
}

/// A project's name has small letters, digits, `-` and `_`, and begins with one of the former two.
fn normalized(name: &str) -> String {
    let kept = name
        .to_lowercase()
        .chars()
        .filter(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || "_-".contains(*it))
        .collect::<String>();
    kept.trim_start_matches(['_', '-']).to_owned()
}
