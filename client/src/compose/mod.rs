//! `compose`: several containers from one file, as docker compose has them.

mod api_socket;
mod begin;
mod body;
mod build;
mod config;
mod containers;
mod converge;
mod copied;
mod devices;
mod foreground;
mod given;
mod hooks;
mod images;
mod inside;
mod labels;
mod lines;
mod list;
mod logs;
mod making;
mod manifests;
mod mounts;
mod order;
mod others;
mod pods;
mod references;
mod registry;
mod renewal;
mod resources;
mod rolling;
mod run;
mod seen;
mod stopping;
mod up;
mod wait;
mod watch;

use clap::{Args, Subcommand, ValueEnum};

use cais_compose::{Options, Project};

use crate::Cais;
use crate::error::{Failure, Result};
use crate::output;

/// Define and run several containers
#[derive(Debug, Args)]
pub(crate) struct Compose {
    #[command(flatten)]
    files: Files,
    #[command(subcommand)]
    verb: Verb,
}

/// Which project, and how it is read.
#[derive(Debug, Args)]
struct Files {
    /// Execute command in dry run mode: tell what would be done
    #[arg(long, global = true)]
    dry_run: bool,
    /// Include all resources, even those not used by services
    #[arg(long)]
    all_resources: bool,
    /// Specify an alternate environment file
    #[arg(long)]
    env_file: Vec<String>,
    /// Compose configuration files
    #[arg(short, long)]
    file: Vec<String>,
    /// Specify a profile to enable
    #[arg(long)]
    profile: Vec<String>,
    /// Specify an alternate working directory
    #[arg(long)]
    project_directory: Option<String>,
    /// Project name
    #[arg(short, long)]
    project_name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Parse, resolve and render compose file in canonical format
    Config(config::Config),
    Convert(manifests::Convert),
    Up(Box<up::Up>),
    Create(Box<up::Create>),
    Scale(up::Scale),
    Down(others::Down),
    Ps(list::Ps),
    Ls(list::Ls),
    Logs(logs::Logs),
    Build(build::Build),
    Pull(registry::Pull),
    Push(registry::Push),
    Run(Box<run::Run>),
    Exec(inside::Exec),
    Attach(inside::Attach),
    Cp(inside::Cp),
    Port(inside::Port),
    Commit(inside::Commit),
    Export(inside::Export),
    Images(seen::Images),
    Top(seen::Top),
    Stats(seen::Stats),
    Volumes(seen::Volumes),
    Events(seen::Events),
    Wait(seen::Wait),
    Watch(watch::Watch),
    /// Start services
    Start(others::Each),
    /// Stop services
    Stop(others::Each),
    Restart(others::Restart),
    Kill(others::Kill),
    /// Pause services
    Pause(others::Each),
    /// Unpause services
    Unpause(others::Each),
    Rm(others::Rm),
    Version(Version),
}

/// Show the Docker Compose version whose ways these are
#[derive(Debug, Args)]
struct Version {
    /// Shows only Compose's version number
    #[arg(long)]
    short: bool,
    /// Format the output. Values: [pretty | json]
    #[arg(short, long, default_value = "pretty")]
    format: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    Pretty,
    Json,
}

impl Compose {
    pub(crate) fn run(self, cais: &Cais) -> Result<()> {
        let files = &self.files;
        let dry;
        let cais = if files.dry_run {
            self.verb.check_dry()?;
            output::rehearse();
            dry = Cais { client: cais.client.dry(), ..cais.clone() };
            &dry
        } else {
            cais
        };
        match self.verb {
            Verb::Config(it) => it.run(files),
            Verb::Convert(it) => it.run(files),
            Verb::Up(it) => it.run(cais, files),
            Verb::Create(it) => it.run(cais, files),
            Verb::Scale(it) => it.run(cais, files),
            Verb::Down(it) => it.run(cais, files),
            Verb::Ps(it) => it.run(cais, files),
            Verb::Ls(it) => it.run(cais),
            Verb::Logs(it) => it.run(cais, files),
            Verb::Build(it) => it.run(cais, files),
            Verb::Pull(it) => it.run(cais, files),
            Verb::Push(it) => it.run(cais, files),
            Verb::Run(it) => it.run(cais, files),
            Verb::Exec(it) => it.run(cais, files),
            Verb::Attach(it) => it.run(cais, files),
            Verb::Cp(it) => it.run(cais, files),
            Verb::Port(it) => it.run(cais, files),
            Verb::Commit(it) => it.run(cais, files),
            Verb::Export(it) => it.run(cais, files),
            Verb::Images(it) => it.run(cais, files),
            Verb::Top(it) => it.run(cais, files),
            Verb::Stats(it) => it.run(cais, files),
            Verb::Volumes(it) => it.run(cais, files),
            Verb::Events(it) => it.run(cais, files),
            Verb::Wait(it) => it.run(cais, files),
            Verb::Watch(it) => it.run(cais, files),
            Verb::Start(it) => it.run(cais, files, "start", "Started"),
            Verb::Stop(it) => it.run(cais, files, "stop", "Stopped"),
            Verb::Restart(it) => it.run(cais, files),
            Verb::Kill(it) => it.run(cais, files),
            Verb::Pause(it) => it.run(cais, files, "pause", "Paused"),
            Verb::Unpause(it) => it.run(cais, files, "unpause", "Unpaused"),
            Verb::Rm(it) => it.run(cais, files),
            Verb::Version(it) if it.short => output::line(labels::LIKE),
            Verb::Version(it) if it.format == Shape::Json => {
                output::line(&format!("{{\"version\":\"{}\"}}", labels::LIKE))
            }
            Verb::Version(_) => output::line(&format!(
                "Cais {}, as Docker Compose version {}",
                env!("CARGO_PKG_VERSION"),
                labels::LIKE
            )),
        }
    }
}

impl Verb {
    /// What is told of before it is done, or changes nothing in any case.
    fn check_dry(&self) -> Result<()> {
        let verb = match self {
            Self::Run(_) => "run",
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::Cp(_) => "cp",
            Self::Commit(_) => "commit",
            Self::Wait(_) => "wait",
            Self::Watch(_) => "watch",
            _ => return Ok(()),
        };
        Err(Failure::new(format!("--dry-run: cais compose {verb} cannot tell what it would do")))
    }
}

impl Files {
    fn options(&self) -> Result<Options> {
        let environment: cais_compose::Variables = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut options = Options::new(current_dir(environment.get("PWD"))?, environment);
        let variable = options.environment.get("COMPOSE_ENV_FILES").filter(|it| !it.is_empty());
        options.env_files = match (&self.env_file[..], variable) {
            ([], Some(list)) => list.split(',').map(str::to_owned).collect(),
            (given, _) => given.to_vec(),
        };
        options.files.clone_from(&self.file);
        options.profiles.clone_from(&self.profile);
        options.project_directory.clone_from(&self.project_directory);
        options.project_name.clone_from(&self.project_name);
        Ok(options)
    }

    /// The name of the project, and what its files say. A name alone is enough for what goes by labels.
    fn named(&self) -> Result<(String, Option<Project>)> {
        let options = self.options()?;
        match options.project() {
            Ok(project) => Ok((project.name.clone(), Some(project))),
            Err(error) => {
                let given =
                    options.project_name.or_else(|| std::env::var("COMPOSE_PROJECT_NAME").ok());
                match given.filter(|it| !it.is_empty() && self.file.is_empty()) {
                    Some(name) => Ok((name, None)),
                    None => Err(failure(error)),
                }
            }
        }
    }

    /// The project with these services, or all.
    fn project(&self, options: &Options, services: &[String]) -> Result<Project> {
        let mut project = options.project().map_err(failure)?;
        for warning in &project.warnings {
            output::notice(&format!("warning: {warning}"));
        }
        project.select(services).map_err(failure)?;
        if !self.all_resources {
            project.drop_unused();
        }
        Ok(project)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn failure(error: cais_compose::Error) -> Failure {
    Failure::new(error.to_string())
}

/// The directory as the shell has it, with links in it, when that is where we are.
fn current_dir(shell: Option<&String>) -> Result<String> {
    let here = std::env::current_dir()?;
    let same = |path: &String| {
        use std::os::unix::fs::MetadataExt;
        let (one, other) = (std::fs::metadata(path).ok()?, std::fs::metadata(&here).ok()?);
        Some((one.dev(), one.ino()) == (other.dev(), other.ino()))
    };
    match shell.filter(|path| path.starts_with('/') && same(path) == Some(true)) {
        Some(path) => Ok(path.clone()),
        None => Ok(here.to_string_lossy().into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file says.
    pub(super) fn project(text: &str) -> Project {
        let directory = tempfile::tempdir().unwrap();
        #[expect(clippy::disallowed_methods, reason = "nobody reads it meanwhile")]
        std::fs::write(directory.path().join("compose.yaml"), text).unwrap();
        let path = directory.path().to_str().unwrap();
        let mut options = Options::new(path, cais_compose::Variables::default());
        options.project_name = Some("shop".to_owned());
        options.project().unwrap()
    }
}
