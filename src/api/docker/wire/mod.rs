//! The shapes of the API's requests and replies, with their names on the wire. Nothing else.

pub(super) mod image;
pub(super) mod system;
