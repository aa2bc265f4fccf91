//! Images: fetched from registries, unpacked into layer directories, mounted for containers.
//!
//! ```text
//!   pull ──▶ registry (mirrors, auth, blobs) ──▶ unpack (tar ▶ layer directory) ──▶ store
//!                                                                                    │
//!   container ◀── snapshot: layers ▶ a detached overlay mount, as a descriptor ◀─────┘
//! ```
//!
//! Begin at [`ImageStore`]. What an image says about itself leaves this module only as
//! [`config::ImageConfig`]; nothing in it decides anything on the host.

pub(crate) mod cache;
pub(crate) mod compression;
pub(crate) mod config;
pub(crate) mod digest;
mod gzip;
pub(crate) mod index;
pub(crate) mod load;
pub(crate) mod local;
pub(crate) mod manifest;
pub(crate) mod mapped;
mod named;
pub(crate) mod offered;
pub(crate) mod pack;
pub(crate) mod pieces;
pub(crate) mod platform;
pub(crate) mod progress;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod save;
pub(crate) mod snapshot;
mod store;
mod summed;
mod unpack;
pub(crate) mod xattr;

pub(crate) use pull::{CredentialFields, Credentials};
pub(crate) use snapshot::{Life, Owners, Writable};
pub(crate) use store::{
    CacheLease, Held, Image, ImageId, ImageStore, Keep, Kept, LayerKey, Settings, Site, Stack,
    StackedLayer, Workplace, chain_id,
};
pub(crate) use unpack::archive::{TreeUpload, copy_tree, unpack_archive};
pub(crate) use unpack::extract::{Overwrite, extract};
