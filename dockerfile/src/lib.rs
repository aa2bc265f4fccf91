//! The Dockerfile language as BuildKit's frontend 1.26 has it. Nothing here touches a file, a process or the network.
//!
//! ```text
//!   Dockerfile::parse   bytes to stages of instructions, or a ParseError with line, column and BuildKit's words
//!   Dockerfile::globals the arguments above the first FROM, with the platforms and --build-arg
//!   Dockerfile::graph   what each stage is built on and copies from; which stages a target needs
//!   Scope               the variables of a stage, one instruction after the other
//!   Expander            one word: quotes, escapes, ${name:-word} and its like
//!   expose, dockerignore, signal   the ports of EXPOSE; what is left out of a context; what STOPSIGNAL may name
//!   remote              sources of ADD that are elsewhere
//!   chmod               what --chmod makes of a file's mode
//!   history             what `docker history` shows of an instruction
//!   lint                the checks of `build --check`
//! ```
//! To build: parse, `globals`, `graph`, then for each of `Graph::needed_by(target)` in order a [`Scope`], made new or
//! as the child of the base stage's, and [`Scope::apply`] for each instruction, which gives it with its values put in.

pub mod chmod;
mod dockerfile;
pub mod dockerignore;
mod env;
mod error;
mod expand;
pub mod expose;
mod graph;
pub mod history;
#[cfg(test)]
mod hostile;
pub mod instruction;
pub mod lint;
pub mod platform;
pub mod quote;
pub mod reference;
pub mod remote;
mod scope;
pub mod signal;
mod suggest;
mod syntax;

pub use self::dockerfile::{Dockerfile, Stage};
pub use self::env::{Env, add_path};
pub use self::error::{Fault, ParseError, Position, Range};
pub use self::expand::{Expander, Expansion};
pub use self::graph::{Base, Graph, Source};
pub use self::instruction::{Command, Instruction};
pub use self::platform::Platform;
pub use self::scope::{PROXIES, Scope};
pub use self::syntax::Heredoc;
pub use self::syntax::directives::Directives;
