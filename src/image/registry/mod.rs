//! The registry client.

pub(crate) mod auth;

#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {}

pub(super) struct Registry {}

impl Registry {
    pub(super) fn new(_settings: Settings) -> Self {
        Self {}
    }
}
