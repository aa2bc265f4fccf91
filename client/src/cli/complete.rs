//! Completions for shells, and manual pages.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::command;
use crate::error::{Context, Failure, Result};
use crate::{Cais, output};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

/// Print the completion script of a shell
#[derive(Debug, Args)]
pub(crate) struct Completion {
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Fish => clap_complete::Shell::Fish,
            Shell::Zsh => clap_complete::Shell::Zsh,
        };
        let mut script = Vec::new();
        let name = cais.program.name();
        clap_complete::generate(shell, &mut command(cais.program), name, &mut script);
        output::raw(&String::from_utf8_lossy(&script))
    }
}

/// Write manual pages into a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    directory: PathBuf,
}

impl Man {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        std::fs::create_dir_all(&self.directory).context(self.directory.display())?;
        self.page(command(cais.program), cais.program.name())
    }

    /// One page for each verb, as `cais-container-ls.1`.
    fn page(&self, command: clap::Command, name: &str) -> Result<()> {
        for verb in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            self.page(verb.clone(), &format!("{name}-{}", verb.get_name()))?;
        }
        let mut page = Vec::new();
        // clap keeps names for as long as the program runs, and that is not long.
        let command = command.name(&*name.to_owned().leak());
        let rendered: io::Result<()> = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|error| Failure::new(error.to_string()))?;
        let path = self.directory.join(format!("{name}.1"));
        std::fs::File::create(&path)
            .and_then(|mut it| io::Write::write_all(&mut it, &page))
            .context(path.display())
    }
}
