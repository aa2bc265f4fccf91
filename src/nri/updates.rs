//! Changes to containers that exist, as all plugins together ask for them.

use cais_proto::nri::v1alpha1::{ContainerUpdate, LinuxContainerUpdate, LinuxResources};

use super::owners::{Claim, Owners};
use super::resources::lay_if;
use crate::error::{Error, Kind, Result};

/// One entry a container, in the order in which they were first named.
#[derive(Debug, Clone, Default)]
pub(super) struct Updates {
    all: Vec<Update>,
}

#[derive(Debug, Clone)]
struct Update {
    container: String,
    resources: LinuxResources,
    ignore_failure: bool,
}

impl Updates {
    /// Takes up what one plugin asks for. `creating` is the container that does not exist yet.
    ///
    /// # Errors
    /// `Unavailable` when another plugin has set the same field; an update whose failure is to be
    /// ignored is left out instead.
    pub(super) fn add(
        &mut self,
        plugin: &str,
        asked: Vec<ContainerUpdate>,
        creating: Option<&str>,
        owners: &mut Owners,
    ) -> Result<()> {
        for update in asked {
            let ContainerUpdate { container_id, linux, ignore_failure } = update;
            if Some(container_id.as_str()) == creating {
                return Err(Error::new(
                    Kind::Unavailable,
                    format!(
                        "plugin {plugin} asks for an update of {container_id}, not created yet"
                    ),
                ));
            }
            let asked = linux.and_then(|linux| linux.resources).unwrap_or_default();
            // On copies: one that fails leaves nothing behind.
            let (mut all, mut known) = (self.clone(), owners.clone());
            let entry = all.entry(&container_id, ignore_failure);
            let laid = lay_if(&asked, &mut entry.resources, &mut |field, key| {
                known.claim(Claim { container: &container_id, plugin, field, key })
            });
            match laid {
                Ok(()) => (*self, *owners) = (all, known),
                Err(error) if ignore_failure => {
                    tracing::warn!(plugin, error = error.chain(), "an update is left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn entry(&mut self, container: &str, ignore_failure: bool) -> &mut Update {
        let at = self.all.iter().position(|update| update.container == container);
        let at = at.unwrap_or_else(|| {
            let resources = LinuxResources::default();
            self.all.push(Update { container: container.to_owned(), resources, ignore_failure });
            self.all.len() - 1
        });
        let update = &mut self.all[at];
        // Of those who ask for the update, one who does not ignore its failure is enough.
        update.ignore_failure &= ignore_failure;
        update
    }

    /// What is asked for the container; it is no longer among the updates then.
    pub(super) fn take(&mut self, container: &str) -> Option<LinuxResources> {
        let at = self.all.iter().position(|update| update.container == container)?;
        Some(self.all.remove(at).resources)
    }

    /// What has been asked for the container so far.
    pub(super) fn of(&self, container: &str) -> Option<&LinuxResources> {
        self.all.iter().find(|update| update.container == container).map(|update| &update.resources)
    }

    pub(super) fn into_messages(self) -> Vec<ContainerUpdate> {
        let message = |Update { container, resources, ignore_failure }| ContainerUpdate {
            container_id: container,
            linux: Some(LinuxContainerUpdate { resources: Some(resources) }),
            ignore_failure,
        };
        self.all.into_iter().map(message).collect()
    }
}

#[cfg(test)]
mod tests {
    use cais_proto::nri::v1alpha1::{LinuxMemory, OptionalInt64};

    use super::*;

    fn update(container: &str, limit: i64, ignore_failure: bool) -> ContainerUpdate {
        let memory =
            LinuxMemory { limit: Some(OptionalInt64 { value: limit }), ..Default::default() };
        let resources = LinuxResources { memory: Some(memory), ..Default::default() };
        ContainerUpdate {
            container_id: container.to_owned(),
            linux: Some(LinuxContainerUpdate { resources: Some(resources) }),
            ignore_failure,
        }
    }

    #[test]
    fn two_plugins_may_not_set_the_same_limit_of_a_container() {
        let (mut updates, mut owners) = (Updates::default(), Owners::default());
        updates.add("00-a", vec![update("c", 1, false)], None, &mut owners).unwrap();
        updates.add("10-b", vec![update("d", 1, false)], None, &mut owners).unwrap();

        let conflict = updates.add("10-b", vec![update("c", 2, false)], None, &mut owners);
        let text = conflict.unwrap_err().chain();
        assert_eq!(text, "plugins 10-b and 00-a both set MemLimit");

        updates.add("10-b", vec![update("c", 2, true)], None, &mut owners).unwrap();
        assert_eq!(updates.into_messages(), [update("c", 1, false), update("d", 1, false)]);
    }

    #[test]
    fn the_container_in_the_making_cannot_be_updated() {
        let (mut updates, mut owners) = (Updates::default(), Owners::default());
        let asked = vec![update("new", 1, true)];
        let refused = updates.add("00-a", asked, Some("new"), &mut owners).unwrap_err();
        assert!(refused.chain().contains("00-a") && refused.chain().contains("new"));
    }
}
