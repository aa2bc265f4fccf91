//! Which plugin set which field, so that two plugins cannot silently undo each other.
//!
//! A field belongs to the first plugin that sets it. Another one may only have it after asking for
//! the removal of what the first one set.

use cais_proto::nri::v1alpha1::{Field, OwningPlugins};

use crate::error::{Error, Kind, Result};

/// What begins the name of something to be removed, and of the owner of something removed.
const REMOVAL: char = '-';

/// The key without the mark, if it is marked for removal.
pub(super) fn removed(key: &str) -> Option<&str> {
    key.strip_prefix(REMOVAL)
}

pub(super) fn mark(key: &str) -> String {
    format!("{REMOVAL}{key}")
}

#[derive(Debug, Clone, Default)]
pub(super) struct Owners {
    owners: OwningPlugins,
}

/// One field of one container, as one plugin touches it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) container: &'a str,
    pub(super) plugin: &'a str,
    pub(super) field: Field,
    /// Of an entry, in fields that have several.
    pub(super) key: Option<&'a str>,
}

impl Owners {
    /// # Errors
    /// `Unavailable`, naming both plugins, when the field is another one's.
    pub(super) fn claim(&mut self, claim: Claim<'_>) -> Result<()> {
        let Claim { plugin, field, key, .. } = claim;
        let owner = self.owner(claim);
        let other = match removed(owner) {
            Some(remover) if remover == plugin => "",
            Some(remover) => remover,
            None => owner.as_str(),
        };
        if !other.is_empty() && other != plugin {
            let what = key.map_or_else(String::new, |key| format!(" {key:?}"));
            let field = field.as_str_name();
            let text = format!("plugins {plugin} and {other} both set {field}{what}");
            return Err(Error::new(Kind::Unavailable, text));
        }
        plugin.clone_into(owner);
        Ok(())
    }

    /// The plugin removes what one of them set, if one did: from now on it alone may set it again.
    pub(super) fn clear(&mut self, claim: Claim<'_>) {
        let owner = self.owner(claim);
        if !owner.is_empty() {
            *owner = mark(claim.plugin);
        }
    }

    pub(super) fn into_message(mut self) -> OwningPlugins {
        for fields in self.owners.owners.values_mut() {
            for entries in fields.compound.values_mut() {
                entries.owners.retain(|_, owner| !owner.is_empty());
            }
        }
        self.owners
    }

    /// Empty without an owner.
    fn owner(&mut self, Claim { container, field, key, .. }: Claim<'_>) -> &mut String {
        let fields = self.owners.owners.entry(container.to_owned()).or_default();
        match key {
            None => fields.simple.entry(field.into()).or_default(),
            Some(key) => {
                let entries = fields.compound.entry(field.into()).or_default();
                entries.owners.entry(key.to_owned()).or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim<'a>(plugin: &'a str, key: Option<&'a str>) -> Claim<'a> {
        Claim { container: "c", plugin, field: Field::Env, key }
    }

    #[test]
    fn a_field_has_one_owner_until_it_is_removed() {
        let mut owners = Owners::default();
        owners.claim(claim("00-a", Some("A"))).unwrap();
        let error = owners.claim(claim("10-b", Some("A"))).unwrap_err();
        assert_eq!(error.chain(), "plugins 10-b and 00-a both set Env \"A\"");
        owners.claim(claim("10-b", Some("B"))).unwrap();

        owners.clear(claim("10-b", Some("A")));
        owners.claim(claim("10-b", Some("A"))).unwrap();
        assert!(owners.claim(claim("20-c", Some("A"))).is_err());
    }

    #[test]
    fn owners_are_told_by_the_numbers_of_fields() {
        let mut owners = Owners::default();
        owners.claim(claim("00-a", None)).unwrap();
        owners.claim(claim("00-a", Some("A"))).unwrap();
        let message = owners.into_message();
        let fields = &message.owners["c"];
        assert_eq!(fields.simple[&6], "00-a");
        assert_eq!(fields.compound[&6].owners["A"], "00-a");
    }
}
