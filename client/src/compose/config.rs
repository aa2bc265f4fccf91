//! `compose config`.

use std::fs::File;
use std::io::Write;

use clap::Args;

use cais_compose::{Format, Options, Project};

use super::{Files, failure};
use crate::error::{Failure, Result};
use crate::output;

/// Parse, resolve and render compose file in canonical format
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker compose's flags")]
pub(super) struct Config {
    /// Format the output. Values: [yaml | json]
    #[arg(long, default_value = "yaml", hide_default_value = true)]
    format: String,
    /// Print the service config hash, one per line.
    #[arg(long)]
    hash: Option<String>,
    /// Print the image names, one per line.
    #[arg(long)]
    images: bool,
    /// Print environment used for interpolation.
    #[arg(long)]
    environment: bool,
    /// Print the network names, one per line.
    #[arg(long)]
    networks: bool,
    /// Don't check model consistency - warning: may produce invalid Compose output
    #[arg(long)]
    no_consistency: bool,
    /// Don't resolve service env files
    #[arg(long)]
    no_env_resolution: bool,
    /// Don't interpolate environment variables
    #[arg(long)]
    no_interpolate: bool,
    /// Don't normalize compose model
    #[arg(long)]
    no_normalize: bool,
    /// Don't resolve file paths
    #[arg(long)]
    no_path_resolution: bool,
    /// Save to file (default to stdout)
    #[arg(short, long)]
    output: Option<String>,
    /// Print the profile names, one per line.
    #[arg(long)]
    profiles: bool,
    /// Only validate the configuration, don't print anything
    #[arg(short, long)]
    quiet: bool,
    /// Print the service names, one per line.
    #[arg(long)]
    services: bool,
    /// Print the volume names, one per line.
    #[arg(long)]
    volumes: bool,
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

impl Config {
    pub(super) fn run(&self, files: &Files) -> Result<()> {
        let format = match self.format.as_str() {
            "yaml" => Format::Yaml,
            "json" => Format::Json,
            other => return Err(Failure::new(format!("unsupported format {other:?}"))),
        };
        let options = Options {
            interpolate: !self.no_interpolate,
            normalize: !self.no_normalize,
            resolve_paths: !self.no_path_resolution,
            check: !self.no_consistency,
            ..files.options()?
        };
        if let Some(names) = self.list(files, &options)? {
            return names.iter().try_for_each(|it| output::line(it));
        }
        let text = if self.no_interpolate {
            options.print_model(format).map_err(failure)?
        } else {
            // What is printed is read again: a dollar sign is no variable then either.
            let project = files.project(&options, &self.service)?;
            if !self.no_consistency {
                project.check_container_names().map_err(failure)?;
            }
            project.print(format).replace('$', "$$")
        };
        match &self.output {
            _ if self.quiet => Ok(()),
            Some(path) => Ok(File::create(path).and_then(|mut it| it.write_all(text.as_bytes()))?),
            None => output::raw(&text),
        }
    }

    /// What is printed a line each, when something of that kind is asked for.
    fn list(&self, files: &Files, options: &Options) -> Result<Option<Vec<String>>> {
        let options = Options { resolve_environment: false, ..options.clone() };
        let project = |services: &[String]| files.project(&options, services);
        let names = |project: &Project, kind: &str| {
            project.resources(kind).map(|(name, _)| name.clone()).collect()
        };
        Ok(Some(if self.services && self.no_interpolate {
            options.model_services().map_err(failure)?
        } else if self.services {
            names(&project(&[])?, "services")
        } else if self.volumes {
            names(&project(&[])?, "volumes")
        } else if self.networks {
            names(&project(&[])?, "networks")
        } else if let Some(wanted) = &self.hash {
            hashes(&project(&[])?, wanted)?
        } else if self.profiles {
            project(&self.service)?.all_profiles().into_iter().map(str::to_owned).collect()
        } else if self.images {
            let project = project(&self.service)?;
            project.services().map(|(name, _)| project.image(name, "-")).collect()
        } else if self.environment {
            let variables = project(&self.service)?.environment;
            variables.iter().map(|(key, value)| format!("{key}={value}")).collect()
        } else {
            return Ok(None);
        }))
    }
}

/// `SERVICE HASH` of services that are named, separated by commas, or of all for `*`.
fn hashes(project: &Project, wanted: &str) -> Result<Vec<String>> {
    let mut names: Vec<&str> = match wanted {
        "*" => project.services().map(|(name, _)| name.as_str()).collect(),
        _ => wanted.split(',').collect(),
    };
    names.sort_unstable();
    let line = |name: &str| match project.service_hash(name) {
        Some(hash) => Ok(format!("{name} {hash}")),
        None => Err(Failure::new(format!("no such service: {name}: not found"))),
    };
    names.into_iter().map(line).collect()
}
