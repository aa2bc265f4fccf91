//! `version`.

use clap::Args;

use crate::client::{API_VERSION, Path};
use crate::error::Result;
use crate::json::Value;
use crate::program::Program;
use crate::{Cais, output, table};

/// Show version information
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Format output using 'json' or a Go template
    #[arg(short, long, default_value = "")]
    format: String,
}

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The one line of `--version`.
pub(crate) fn line(program: Program) -> String {
    format!("{} version {VERSION}", program.title())
}

impl Version {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let server = cais.client.read(Path::new(&["version"]));
        if !self.format.is_empty() {
            let client = Value::Object(vec![
                ("Version".to_owned(), VERSION.into()),
                ("ApiVersion".to_owned(), API_VERSION.into()),
                ("DefaultAPIVersion".to_owned(), API_VERSION.into()),
                ("Os".to_owned(), std::env::consts::OS.into()),
                ("Arch".to_owned(), architecture().into()),
                ("Context".to_owned(), "default".into()),
            ]);
            let both = Value::Object(vec![
                ("Client".to_owned(), client),
                ("Server".to_owned(), server.as_ref().ok().cloned().unwrap_or_default()),
            ]);
            output::line(&table::object(&self.format, &both)?)?;
            return server.map(drop);
        }
        let platform = format!("{}/{}", std::env::consts::OS, architecture());
        output::raw(&format!(
            "Client: Cais\n Version:           {VERSION}\n API version:       {API_VERSION}\n OS/Arch:           {platform}\n"
        ))?;
        let server = server?;
        output::raw(&server_text(&server))
    }
}

fn server_text(server: &Value) -> String {
    let platform = server["Platform"]["Name"].text();
    let mut text = format!("\nServer:{}{platform}\n", if platform.is_empty() { "" } else { " " });
    for component in server["Components"].items() {
        text.push_str(&format!(" {}:\n", component["Name"].text()));
        let details = &component["Details"];
        let mut line = |key: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("  {:<16} {value}\n", format!("{key}:")));
            }
        };
        line("Version", component["Version"].text());
        let api = details["ApiVersion"].text();
        if !api.is_empty() {
            line(
                "API version",
                &format!("{api} (minimum version {})", details["MinAPIVersion"].text()),
            );
        }
        line("Git commit", details["GitCommit"].text());
        let platform = [details["Os"].text(), details["Arch"].text()];
        if !platform[0].is_empty() {
            line("OS/Arch", &platform.join("/"));
        }
        line("Kernel", details["KernelVersion"].text());
    }
    text
}
