//! The instructions, understood: one type for each, with its flags read and checked.
//!
//! What is read here is not expanded yet: [`Instruction::expand`] puts the values of variables in, when the ones that
//! are set above the instruction are known.

mod copy;
mod csv;
pub(crate) mod duration;
mod expansion;
mod flags;
mod healthcheck;
pub mod mount;
mod parse;
mod run;

use crate::error::Range;

pub use self::copy::{Add, Copy, InlineFile, Sources};
pub use self::healthcheck::Healthcheck;
pub use self::mount::{Mount, MountFlag, MountType, Sharing, boolean};
pub(crate) use self::parse::{Understood, description, understand};
pub use self::run::{Device, Network, Run, Security};

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// As it is written: `RUN`, `run`.
    pub keyword: String,
    /// The whole line with continuation lines joined, without what stands in heredocs. Progress displays show it.
    pub code: String,
    pub range: Range,
    /// The comment lines directly above it, without `#`.
    pub comments: Vec<String>,
    pub command: Command,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Add(Add),
    Arg(Vec<Arg>),
    Cmd(CommandLine),
    Copy(Copy),
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    /// As written and sorted: `80`, `8000-8010/udp`, `$PORT`. [`ports`](crate::expose::ports) reads them.
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(String),
    /// The trigger as it goes into the image's configuration, heredocs with it.
    Onbuild(String),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// The argument of RUN, CMD and ENTRYPOINT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The arguments of the exec form; the one text of the shell form; empty for neither.
    pub arguments: Vec<String>,
    /// The shell form: to be run by the shell of the stage.
    pub is_shell: bool,
}

/// A pair of ENV and LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub name: String,
    pub value: String,
    /// `name value` instead of `name=value`: the form of old.
    pub is_legacy: bool,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    /// `ARG name=` has an empty one, `ARG name` has none.
    pub default: Option<String>,
    /// Of a comment above: `# name what it is for`.
    pub description: Option<String>,
}
