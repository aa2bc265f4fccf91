//! `context`: docker's names for daemons. Here there is one, `default`; another daemon is named with `--host`.

use clap::Args;

use super::inspect;
use crate::Cais;
use crate::error::{Failure, Result};
use crate::output;
use crate::table::{Format, Kind};

const DEFAULT: &str = "default";

const KIND: Kind = Kind {
    type_name: "*formatter.clientContextContext",
    heads: &[
        ("Current", ""),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
        ("Name", "NAME"),
    ],
    table: "{{.Name}}{{if .Current}} *{{end}}\\t{{.Description}}\\t{{.DockerEndpoint}}\\t{{.Error}}",
};

/// List contexts
#[derive(Debug, Args)]
pub(crate) struct ListContexts {
    /// Format output using 'table', 'json' or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
}

impl ListContexts {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let asked = if self.quiet { "{{.Name}}" } else { self.format.as_str() };
        let row = vec![
            ("Current", true.into()),
            ("Description", "Current DOCKER_HOST based configuration".into()),
            ("DockerEndpoint", cais.client.host.to_string().into()),
            ("Error", "".into()),
            ("Name", DEFAULT.into()),
        ];
        Format::choose(asked, &KIND)?.print(&KIND, vec![row])?;
        warn(cais);
        Ok(())
    }
}

/// Print the name of the current context
#[derive(Debug, Args)]
pub(crate) struct ShowContext {}

impl ShowContext {
    pub(crate) fn run(&self) -> Result<()> {
        output::line(DEFAULT)
    }
}

/// Set the current docker context
#[derive(Debug, Args)]
pub(crate) struct UseContext {
    context: String,
}

impl UseContext {
    pub(crate) fn run(&self) -> Result<()> {
        only(&self.context)?;
        output::line(DEFAULT)?;
        output::notice("Current context is now \"default\"");
        Ok(())
    }
}

/// Display detailed information on one or more contexts
#[derive(Debug, Args)]
pub(crate) struct InspectContexts {
    /// Format output using 'json' or a Go template
    #[arg(short, long, default_value = "")]
    format: String,
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
}

impl InspectContexts {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let default = [DEFAULT.to_owned()];
        let names = if self.names.is_empty() { &default } else { self.names.as_slice() };
        inspect::show(&self.format, names, |name| {
            only(name)?;
            let host = serde_json::to_string(&cais.client.host.to_string())?;
            // In docker's order, with its escapes.
            let memory = r#""\u003cIN MEMORY\u003e""#;
            let endpoints = format!(r#"{{"docker":{{"Host":{host},"SkipTLSVerify":false}}}}"#);
            let storage = format!(r#"{{"MetadataPath":{memory},"TLSPath":{memory}}}"#);
            let head = format!(r#""Name":"{DEFAULT}","Metadata":{{}},"Endpoints":{endpoints}"#);
            Ok(format!(r#"{{{head},"TLSMaterial":{{}},"Storage":{storage}}}"#))
        })
    }
}

/// # Errors
/// For every other name.
pub(crate) fn only(name: &str) -> Result<()> {
    if matches!(name, "" | DEFAULT) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "context {name:?}: there are no contexts; a daemon is named with --host or CAIS_HOST"
    )))
}

/// As docker does, whose contexts have less to say than the variable.
fn warn(cais: &Cais) {
    let is_set = std::env::var_os("DOCKER_HOST").is_some_and(|it| !it.is_empty());
    if is_set && cais.program == crate::program::Program::Docker {
        output::notice(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the \
             global --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
}
