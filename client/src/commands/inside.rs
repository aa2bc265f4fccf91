//! What goes on inside a container: `top` and `diff`.

use clap::Args;

use crate::Cais;
use crate::client::Path;
use crate::error::{Failure, Result};
use crate::{output, table};

/// Display the running processes of a container
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Everything behind the container goes to ps
    #[arg(required = true, trailing_var_arg = true, value_names = ["CONTAINER", "ps OPTIONS"])]
    words: Vec<String>,
}

impl Top {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let [name, options @ ..] = self.words.as_slice() else {
            return Err(Failure::new("a container is needed"));
        };
        let path = Path::new(&["containers", name, "top"]).with_text("ps_args", &options.join(" "));
        let listed = cais.client.read(path)?;
        let row = |cells: &crate::json::Value| {
            cells.items().iter().map(crate::json::Value::text).collect::<Vec<_>>().join("\t")
        };
        let mut lines = vec![row(&listed["Titles"])];
        lines.extend(listed["Processes"].items().iter().map(row));
        output::raw(&table::aligned_with(&lines, 20, 3))
    }
}

/// Inspect changes to files or directories on a container's filesystem
#[derive(Debug, Args)]
pub(crate) struct Diff {
    container: String,
}

impl Diff {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        if self.container.is_empty() {
            return Err(Failure::new("Container name cannot be empty"));
        }
        let changes = cais.client.read(Path::new(&["containers", &self.container, "changes"]))?;
        for change in changes.items() {
            let kind = match change["Kind"].integer() {
                0 => "C",
                1 => "A",
                _ => "D",
            };
            output::line(&format!("{kind} {}", change["Path"].text()))?;
        }
        Ok(())
    }
}
