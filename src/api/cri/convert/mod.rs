//! CRI messages to engine types and back.
//!
//! Every message is taken apart by name, without `..`: a field that a newer interface adds does not
//! compile here until somebody says what it means, or beside its `_` why it means nothing. What
//! comes out of a conversion is valid; the error of one that fails names the field as the client
//! wrote it.
//!
//! | file | about |
//! |---|---|
//! | `pod`, `container`, `image`, `stats`, `metrics` | the four nouns of the interface |
//! | `security`, `resources`, `mount`, `signal`, `sysctl` | parts of pods and containers |
//! | `info` | what `verbose` adds |
//! | `check` | what a name, a path, a number must look like |

pub(super) mod check;
pub(super) mod container;
pub(super) mod image;
pub(super) mod info;
pub(super) mod metrics;
pub(super) mod mount;
pub(super) mod pod;
pub(super) mod resources;
pub(super) mod security;
pub(super) mod signal;
pub(super) mod stats;
pub(super) mod sysctl;
