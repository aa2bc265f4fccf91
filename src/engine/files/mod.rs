//! The files of standalone containers, for those who copy them in or out.
//!
//! ```text
//!   a path ─▶ View: a root descriptor and a path below it ─▶ stat, archive, extract
//! ```
//!
//! Of a container that runs the root is its first process', with all that is mounted there. Of one
//! that does not, it is a view of its layers made for the call; a path below one of its volumes
//! leads there. Links are resolved by the kernel below that root, never outside.

mod changes;
mod read;
mod view;
mod write;

pub(crate) use self::changes::{Change, Kind as ChangeKind, changes};
pub(crate) use self::read::{Found, Stat, archive, export, find};
pub(crate) use self::view::{below_root, open_below, where_it_is};
pub(crate) use self::write::{Upload, write};
