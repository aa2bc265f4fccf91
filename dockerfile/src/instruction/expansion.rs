//! Which words of which instructions are expanded. In RUN, CMD, ENTRYPOINT, SHELL, HEALTHCHECK and ONBUILD none: what
//! stands there is for the shell, or for later. EXPOSE is cut into words after its expansion, see
//! [`expose`](crate::expose). ARG takes its default only when nobody gave a value, see [`Scope`](crate::Scope).

use crate::env::Env;
use crate::error::Fault;
use crate::expand::Expander;

use super::{Command, InlineFile, Instruction, Sources};

impl Instruction {
    /// The instruction with the values of variables put in. Mounts of RUN stay as they are written:
    /// [`MountFlag::resolve`](super::MountFlag::resolve) reads them.
    ///
    /// # Errors
    /// `failed to process "${X:?}": X: is not allowed to be unset`
    pub fn expand(&self, expander: &Expander, env: &Env) -> Result<Self, Fault> {
        let mut unset = Vec::new();
        self.expand_noting(expander, env, &mut unset)
    }

    /// The same; adds the names that were not found, word by word.
    pub(crate) fn expand_noting(
        &self,
        expander: &Expander,
        env: &Env,
        unset: &mut Vec<String>,
    ) -> Result<Self, Fault> {
        let mut expanded = self.clone();
        let mut words = Words { expander, env, unset };
        match &mut expanded.command {
            Command::Add(add) => {
                words.expand(&mut add.chown)?;
                words.expand(&mut add.chmod)?;
                words.expand(&mut add.checksum)?;
                words.expand_sources(&mut add.sources)?;
            }
            Command::Copy(copy) => {
                words.expand(&mut copy.chown)?;
                words.expand(&mut copy.chmod)?;
                words.expand_sources(&mut copy.sources)?;
            }
            Command::Env(pairs) | Command::Label(pairs) => {
                for pair in pairs {
                    words.expand(&mut pair.name)?;
                    words.expand(&mut pair.value)?;
                }
            }
            Command::Volume(list) => {
                list.iter_mut().try_for_each(|word| words.expand(word))?;
            }
            Command::Stopsignal(word) | Command::User(word) | Command::Workdir(word) => {
                words.expand(word)?;
            }
            Command::Arg(_)
            | Command::Cmd(_)
            | Command::Entrypoint(_)
            | Command::Expose(_)
            | Command::Healthcheck(_)
            | Command::Maintainer(_)
            | Command::Onbuild(_)
            | Command::Run(_)
            | Command::Shell(_) => {}
        }
        Ok(expanded)
    }
}

struct Words<'a> {
    expander: &'a Expander,
    env: &'a Env,
    unset: &'a mut Vec<String>,
}

impl Words<'_> {
    fn expand(&mut self, word: &mut String) -> Result<(), Fault> {
        self.expand_with(*self.expander, word)
    }

    fn expand_with(&mut self, expander: Expander, word: &mut String) -> Result<(), Fault> {
        let (expansion, unset) = expander.expansion_noting(word, self.env);
        self.unset.extend(unset);
        *word = expansion?.text;
        Ok(())
    }

    fn expand_sources(&mut self, sources: &mut Sources) -> Result<(), Fault> {
        sources.paths.iter_mut().try_for_each(|path| self.expand(path))?;
        self.expand(&mut sources.destination)?;
        for InlineFile { content, expands, .. } in &mut sources.files {
            if *expands {
                self.expand_with(Expander::for_heredoc(), content)?;
            }
        }
        Ok(())
    }
}
