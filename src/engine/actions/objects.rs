//! What is done to images, volumes and networks, in Docker's words and with its attributes.

use std::collections::BTreeSet;

use super::{Attributes, Kind};
use crate::engine::container::config::{Mount, MountSource};
use crate::engine::networks::membership::NetworkRef;
use crate::engine::standalone::config::Network;
use crate::engine::standalone::record::Record;
use crate::engine::{Shared, networks};
use crate::image::reference::Reference;
use crate::image::{Image, ImageId};

/// Something that is done to an image, and what is said to be its name then.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ImageAct<'a> {
    /// Known by the reference that it was asked for by.
    Pull(&'a Reference),
    Push(&'a Reference),
    Tag(&'a Reference),
    Import(&'a Reference),
    /// Said without more.
    Plain(&'static str),
}

impl Shared {
    /// What became of an image that is there.
    pub(in crate::engine) fn tell_of_image(&self, id: &ImageId, act: ImageAct<'_>) {
        let id = id.to_string();
        if let Some(image) = self.images.resolve(&id) {
            self.tell_of_held_image(&image, act);
        }
    }

    /// As [`Shared::tell_of_image`], of one that may be gone by now.
    pub(in crate::engine) fn tell_of_held_image(&self, image: &Image, act: ImageAct<'_>) {
        let id = image.id.to_string();
        let familiar_name = |reference: &Reference| {
            let familiar = reference.familiar();
            let tail = reference.tag().map(|tag| format!(":{tag}"));
            tail.and_then(|tail| familiar.strip_suffix(&tail).map(str::to_owned))
                .unwrap_or_else(|| familiar.split('@').next().unwrap_or_default().to_owned())
        };
        let (verb, subject, name) = match act {
            ImageAct::Pull(reference) => ("pull", reference.familiar(), familiar_name(reference)),
            ImageAct::Push(reference) => ("push", reference.familiar(), familiar_name(reference)),
            ImageAct::Tag(reference) => ("tag", id, reference.familiar()),
            ImageAct::Import(reference) => ("import", id, reference.familiar()),
            ImageAct::Plain(verb) => (verb, id.clone(), id),
        };
        let mut attributes = image.config.labels.clone();
        attributes.insert("name".to_owned(), name);
        self.actions.tell(Kind::Image, verb.to_owned(), &subject, attributes);
    }

    pub(in crate::engine) fn tell_of_volume(&self, verb: &str, name: &str, more: &[(&str, &str)]) {
        let mut attributes = Attributes::from([("driver".to_owned(), "local".to_owned())]);
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self.actions.tell(Kind::Volume, verb.to_owned(), name, attributes);
    }

    pub(in crate::engine) fn tell_of_network(&self, verb: &str, network: &networks::Record) {
        let about = [("name", network.name.as_str()), ("type", "bridge")];
        self.tell_network(verb, network.id.as_str(), &about);
    }

    /// `connect` and `disconnect` of one container and one network.
    pub(in crate::engine) fn tell_of_member(
        &self,
        verb: &str,
        record: &Record,
        (network, name): (&NetworkRef, &str),
    ) {
        let id = match network {
            NetworkRef::Node => networks::fixed_id(self, name),
            NetworkRef::Custom(id) => id.to_string(),
        };
        let container = ("container", record.id.as_str());
        self.tell_network(verb, &id, &[container, ("name", name), ("type", "bridge")]);
    }

    /// A run begins: what it is connected to and what is mounted in it.
    pub(in crate::engine) fn tell_of_joining(&self, record: &Record) {
        self.tell_of_networks("connect", record);
        for (mount, volume) in volumes(&record.config.container.mounts) {
            let destination = mount.container_path.display().to_string();
            let is_writable = if mount.readonly { "false" } else { "true" };
            let about = [
                ("container", record.id.as_str()),
                ("destination", &destination),
                ("propagation", ""),
                ("read/write", is_writable),
            ];
            self.tell_of_volume("mount", volume, &about);
        }
    }

    /// A run is over.
    pub(in crate::engine) fn tell_of_leaving(&self, record: &Record) {
        self.tell_of_networks("disconnect", record);
        let names: BTreeSet<&str> =
            volumes(&record.config.container.mounts).map(|(_, name)| name).collect();
        for name in names {
            self.tell_of_volume("unmount", name, &[("container", record.id.as_str())]);
        }
    }

    fn tell_of_networks(&self, verb: &str, record: &Record) {
        let (name, driver) = match &record.config.network {
            Network::Bridge | Network::Custom(_) => {
                for membership in &record.networks {
                    self.tell_of_member(verb, record, (&membership.network, &membership.name));
                }
                return;
            }
            Network::Host => ("host", "host"),
            Network::None => ("none", "null"),
            Network::Container(_) => return,
        };
        let container = ("container", record.id.as_str());
        let id = networks::fixed_id(self, name);
        self.tell_network(verb, &id, &[container, ("name", name), ("type", driver)]);
    }

    fn tell_network(&self, verb: &str, id: &str, about: &[(&str, &str)]) {
        let about = about.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.actions.tell(Kind::Network, verb.to_owned(), id, about.collect());
    }

    /// What nobody needed is gone.
    pub(in crate::engine) fn tell_of_pruning(&self, kind: Kind, bytes: u64) {
        let attributes = Attributes::from([("reclaimed".to_owned(), bytes.to_string())]);
        self.actions.tell(kind, "prune".to_owned(), "", attributes);
    }
}

fn volumes(mounts: &[Mount]) -> impl Iterator<Item = (&Mount, &str)> {
    mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(volume) => Some((mount, volume.name.as_str())),
        MountSource::Host(_) | MountSource::Image { .. } | MountSource::Tmpfs => None,
    })
}
