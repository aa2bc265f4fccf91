//! `inspect`, of any object and of each kind.

use clap::Args;

use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::json::{self, Value};
use crate::{output, table};

/// Return low-level information on Docker objects
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    of_kind: InspectKind,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", default_value = "")]
    kind: String,
}

/// Display detailed information on one or more objects
#[derive(Debug, Args)]
pub(crate) struct InspectKind {
    /// Format output using 'json' or a Go template
    #[arg(short, long, default_value = "")]
    format: String,
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// Display detailed information on one or more containers
#[derive(Debug, Args)]
pub(crate) struct InspectContainer {
    #[command(flatten)]
    of_kind: InspectKind,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

/// Display detailed information on one or more networks
#[derive(Debug, Args)]
pub(crate) struct InspectNetwork {
    #[command(flatten)]
    of_kind: InspectKind,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// In the order in which a bare name is tried.
const KINDS: [(&str, Kind); 4] = [
    ("container", Kind::Container),
    ("image", Kind::Image),
    ("network", Kind::Network),
    ("volume", Kind::Volume),
];

impl Kind {
    fn path(self, name: &str, with_size: bool) -> Path {
        match self {
            Self::Container => {
                Path::new(&["containers", name, "json"]).with_flag("size", with_size)
            }
            Self::Image => Path::new(&["images", name, "json"]),
            Self::Network => Path::new(&["networks", name]),
            Self::Volume => Path::new(&["volumes", name]),
        }
    }
}

impl Inspect {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let kinds: Vec<Kind> = if self.kind.is_empty() {
            KINDS.iter().map(|it| it.1).collect()
        } else {
            let known = KINDS.iter().find(|it| it.0 == self.kind);
            vec![known.ok_or_else(|| Failure::new(format!("unknown type: {:?}", self.kind)))?.1]
        };
        let is_any = kinds.len() > 1;
        self.of_kind.each(|name| {
            for kind in &kinds {
                match document(cais, *kind, name, self.size) {
                    Err(failure) if is_any && failure.is_not_found() => {}
                    other => return other,
                }
            }
            Err(Failure::new(format!("Error: No such object: {name}")))
        })
    }
}

impl InspectContainer {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        self.of_kind.each(|name| document(cais, Kind::Container, name, self.size))
    }
}

impl InspectNetwork {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        self.of_kind.run(cais, Kind::Network)
    }
}

/// What the daemon sent, byte for byte.
fn document(cais: &Cais, kind: Kind, name: &str, with_size: bool) -> Result<String> {
    let bytes = cais.client.get(kind.path(name, with_size))?.bytes()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl InspectKind {
    pub(crate) fn run(&self, cais: &Cais, kind: Kind) -> Result<()> {
        self.each(|name| document(cais, kind, name, false))
    }

    fn each(&self, find: impl Fn(&str) -> Result<String>) -> Result<()> {
        show(&self.format, &self.names, find)
    }
}

/// What was found first, and then what was not.
pub(super) fn show(
    format: &str,
    names: &[String],
    find: impl Fn(&str) -> Result<String>,
) -> Result<()> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match find(name) {
            Ok(document) => found.push(document),
            Err(failure) => missing.push(failure.message),
        }
    }
    match format {
        "" => output::line(&json::indented(&format!("[{}]", found.join(",")), "    "))?,
        "json" => {
            let values: serde_json::Result<Vec<_>> =
                found.iter().map(|it| Value::parse(it.as_bytes())).collect();
            output::line(&Value::Array(values?).compact())?;
        }
        // As docker has it, nothing found is an empty line.
        _ if found.is_empty() => output::line("")?,
        format => {
            for document in &found {
                show_one(format, document)?;
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::new(missing.join("\n"))) }
}

fn show_one(format: &str, document: &str) -> Result<()> {
    let value = Value::parse(document.as_bytes())?;
    match table::object(format, &value) {
        Ok(shown) => output::line(&shown),
        // What is no template is found out before anything is asked for.
        Err(failure) if failure.code == table::NO_TEMPLATE => Err(failure),
        Err(failure) => {
            // The line that could not be made is there all the same.
            output::line("")?;
            Err(Failure {
                message: format!("template parsing error: {}", failure.message),
                ..failure
            })
        }
    }
}
