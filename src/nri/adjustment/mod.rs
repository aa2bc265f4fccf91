//! What all plugins together want of a container that is being created.
//!
//! Each plugin sees the container as those before it made it. What two of them set differently is an
//! error that names both.

use std::collections::BTreeMap;

use cais_proto::nri::v1alpha1::{
    Container, ContainerAdjustment, ContainerEviction, ContainerUpdate, CreateContainerResponse,
    Field, Hooks, KeyValue, LinuxContainerAdjustment, LinuxDevice, LinuxNamespace, LinuxNetDevice,
    LinuxRdt, Mount, OwningPlugins, PosixRlimit,
};

use super::owners::{self, Claim, Owners};
use super::resources::{lay, lay_if};
use super::updates::Updates;
use crate::error::Result;

/// The answers to one CreateContainer, and what they come to.
pub(super) struct Adjustment {
    pristine: Container,
    adjust: ContainerAdjustment,
    updates: Updates,
    evictions: Vec<ContainerEviction>,
    owners: Owners,
}

/// What the runtime has to do.
pub(crate) struct Creation {
    /// With all adjustments.
    pub(crate) container: Container,
    pub(crate) adjust: ContainerAdjustment,
    pub(crate) updates: Vec<ContainerUpdate>,
    pub(crate) evictions: Vec<ContainerEviction>,
}

/// Something with a name that can be added and, with a mark before its name, removed.
trait Entry: Clone {
    fn key(&self) -> &str;
}

impl Entry for KeyValue {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Entry for Mount {
    fn key(&self) -> &str {
        &self.destination
    }
}

impl Entry for LinuxDevice {
    fn key(&self) -> &str {
        &self.path
    }
}

impl Entry for LinuxNamespace {
    fn key(&self) -> &str {
        &self.r#type
    }
}

impl<V: Clone> Entry for (String, V) {
    fn key(&self) -> &str {
        &self.0
    }
}

/// A plugin at work on the container.
struct Hand<'a> {
    container: &'a str,
    plugin: &'a str,
    owners: &'a mut Owners,
}

impl Hand<'_> {
    fn claim(&mut self, field: Field, key: Option<&str>) -> Result<()> {
        let Self { container, plugin, .. } = *self;
        self.owners.claim(Claim { container, plugin, field, key })
    }

    fn clear(&mut self, field: Field, key: Option<&str>) {
        let Self { container, plugin, .. } = *self;
        self.owners.clear(Claim { container, plugin, field, key });
    }

    /// Takes up what the plugin asks for; of a field with entries.
    fn merge<T: Entry>(
        &mut self,
        field: Field,
        asked: Vec<T>,
        collected: &mut Vec<T>,
    ) -> Result<()> {
        let is_removal = |entry: &T| owners::removed(entry.key()).is_some();
        let (removals, additions): (Vec<T>, Vec<T>) = asked.into_iter().partition(is_removal);
        for removal in removals {
            let key = owners::removed(removal.key()).unwrap_or_default();
            self.clear(field, Some(key));
            collected.retain(|known| known.key() != key && known.key() != removal.key());
            collected.push(removal);
        }
        for addition in additions {
            self.claim(field, Some(addition.key()))?;
            let key = addition.key();
            collected
                .retain(|known| known.key() != key && owners::removed(known.key()) != Some(key));
            collected.push(addition);
        }
        Ok(())
    }

    fn merge_map<V: Clone>(
        &mut self,
        field: Field,
        asked: BTreeMap<String, V>,
        collected: &mut BTreeMap<String, V>,
    ) -> Result<()> {
        let mut entries: Vec<(String, V)> = std::mem::take(collected).into_iter().collect();
        let merged = self.merge(field, asked.into_iter().collect(), &mut entries);
        collected.extend(entries);
        merged
    }

    /// Takes up a field that has one value.
    fn set<T>(&mut self, field: Field, asked: Option<T>, collected: &mut Option<T>) -> Result<()> {
        if asked.is_some() {
            self.claim(field, None)?;
            *collected = asked;
        }
        Ok(())
    }
}

impl Adjustment {
    pub(super) fn of(pristine: Container) -> Self {
        Self {
            pristine,
            adjust: ContainerAdjustment::default(),
            updates: Updates::default(),
            evictions: Vec::new(),
            owners: Owners::default(),
        }
    }

    pub(super) fn pristine(&self) -> &Container {
        &self.pristine
    }

    pub(super) fn adjust(&self) -> &ContainerAdjustment {
        &self.adjust
    }

    pub(super) fn updates(&self) -> Vec<ContainerUpdate> {
        self.updates.clone().into_messages()
    }

    pub(super) fn owners(&self) -> OwningPlugins {
        self.owners.clone().into_message()
    }

    /// Takes up one plugin's answer.
    ///
    /// # Errors
    /// `Unavailable` when another plugin has set the same field, or the plugin asks for an update of
    /// the container that does not exist yet.
    pub(super) fn add(&mut self, plugin: &str, answer: CreateContainerResponse) -> Result<()> {
        let CreateContainerResponse { adjust, update, evict } = answer;
        if let Some(adjust) = adjust {
            self.adjust_by(plugin, adjust)?;
        }
        self.updates.add(plugin, update, Some(&self.pristine.id), &mut self.owners)?;
        self.evictions.extend(evict);
        Ok(())
    }

    fn adjust_by(&mut self, plugin: &str, asked: ContainerAdjustment) -> Result<()> {
        let ContainerAdjustment {
            annotations,
            mounts,
            env,
            hooks,
            linux,
            rlimits,
            cdi_devices,
            args,
        } = asked;
        let all = &mut self.adjust;
        let mut hand = Hand { container: &self.pristine.id, plugin, owners: &mut self.owners };
        hand.merge_map(Field::Annotations, annotations, &mut all.annotations)?;
        hand.merge(Field::Mounts, mounts, &mut all.mounts)?;
        hand.merge(Field::Env, env, &mut all.env)?;
        adjust_args(&mut hand, args, &mut all.args)?;
        if let Some(hooks) = hooks {
            // Several plugins may add hooks: all of them run.
            add_hooks(hooks, all.hooks.get_or_insert_default());
        }
        for limit in rlimits {
            hand.claim(Field::Rlimits, Some(&limit.r#type))?;
            add_rlimit(limit, &mut all.rlimits);
        }
        for device in cdi_devices {
            hand.claim(Field::CdiDevices, Some(&device.name))?;
            all.cdi_devices.retain(|known| known.name != device.name);
            all.cdi_devices.push(device);
        }
        if let Some(linux) = linux {
            adjust_linux(&mut hand, linux, all.linux.get_or_insert_default())?;
        }
        Ok(())
    }

    /// The container as it would be with what has been asked so far.
    pub(super) fn container(&self) -> Container {
        let mut container = self.pristine.clone();
        let all = &self.adjust;
        lay_map(&all.annotations, &mut container.annotations);
        lay_entries(&all.mounts, &mut container.mounts);
        container.env = environment(&container.env, &all.env);
        if !all.args.is_empty() {
            container.args.clone_from(&all.args);
        }
        if let Some(hooks) = &all.hooks {
            add_hooks(hooks.clone(), container.hooks.get_or_insert_default());
        }
        for limit in &all.rlimits {
            add_rlimit(limit.clone(), &mut container.rlimits);
        }
        container.cdi_devices.extend(all.cdi_devices.iter().cloned());
        let Some(linux) = &all.linux else { return container };
        let own = container.linux.get_or_insert_default();
        lay_entries(&linux.devices, &mut own.devices);
        lay_entries(&linux.namespaces, &mut own.namespaces);
        lay_map(&linux.sysctl, &mut own.sysctl);
        lay_map(&linux.net_devices, &mut own.net_devices);
        if let Some(resources) = &linux.resources {
            lay(resources, own.resources.get_or_insert_default());
        }
        if !linux.cgroups_path.is_empty() {
            own.cgroups_path.clone_from(&linux.cgroups_path);
        }
        own.oom_score_adj = linux.oom_score_adj.or(own.oom_score_adj);
        own.io_priority = linux.io_priority.or(own.io_priority);
        own.seccomp_policy = linux.seccomp_policy.clone().or(own.seccomp_policy.take());
        own.scheduler = linux.scheduler.clone().or(own.scheduler.take());
        own.rdt = linux.rdt.clone().or(own.rdt.take());
        container
    }

    pub(super) fn finish(self) -> Creation {
        let container = self.container();
        let Self { adjust, updates, evictions, .. } = self;
        Creation { container, adjust, updates: updates.into_messages(), evictions }
    }
}

/// An empty first word: also when another plugin has set the command line already.
fn adjust_args(
    hand: &mut Hand<'_>,
    mut asked: Vec<String>,
    collected: &mut Vec<String>,
) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    if asked.first().is_some_and(String::is_empty) {
        asked.remove(0);
        hand.clear(Field::Args, None);
    }
    hand.claim(Field::Args, None)?;
    *collected = asked;
    Ok(())
}

fn adjust_linux(
    hand: &mut Hand<'_>,
    asked: LinuxContainerAdjustment,
    all: &mut LinuxContainerAdjustment,
) -> Result<()> {
    let LinuxContainerAdjustment {
        devices,
        resources,
        cgroups_path,
        oom_score_adj,
        io_priority,
        seccomp_policy,
        namespaces,
        sysctl,
        net_devices,
        scheduler,
        rdt,
        memory_policy,
    } = asked;
    hand.merge(Field::Devices, devices, &mut all.devices)?;
    if let Some(resources) = resources {
        let under = all.resources.get_or_insert_default();
        lay_if(&resources, under, &mut |field, key| hand.claim(field, key))?;
    }
    if !cgroups_path.is_empty() {
        hand.claim(Field::CgroupsPath, None)?;
        all.cgroups_path = cgroups_path;
    }
    hand.set(Field::OomScoreAdj, oom_score_adj, &mut all.oom_score_adj)?;
    hand.set(Field::IoPriority, io_priority, &mut all.io_priority)?;
    hand.set(Field::SeccompPolicy, seccomp_policy, &mut all.seccomp_policy)?;
    hand.merge(Field::Namespace, namespaces, &mut all.namespaces)?;
    hand.merge_map(Field::Sysctl, sysctl, &mut all.sysctl)?;
    hand.merge_map::<LinuxNetDevice>(Field::LinuxNetDevices, net_devices, &mut all.net_devices)?;
    hand.set(Field::LinuxSched, scheduler, &mut all.scheduler)?;
    hand.set(Field::MemoryPolicy, memory_policy, &mut all.memory_policy)?;
    match rdt {
        Some(rdt) => adjust_rdt(hand, rdt, all.rdt.get_or_insert_default()),
        None => Ok(()),
    }
}

fn adjust_rdt(hand: &mut Hand<'_>, asked: LinuxRdt, all: &mut LinuxRdt) -> Result<()> {
    let LinuxRdt { clos_id, schemata, enable_monitoring, remove } = asked;
    if remove {
        for field in [Field::RdtClosId, Field::RdtSchemata, Field::RdtEnableMonitoring] {
            hand.clear(field, None);
        }
        *all = LinuxRdt { remove, ..LinuxRdt::default() };
    }
    hand.set(Field::RdtClosId, clos_id, &mut all.clos_id)?;
    hand.set(Field::RdtSchemata, schemata, &mut all.schemata)?;
    hand.set(Field::RdtEnableMonitoring, enable_monitoring, &mut all.enable_monitoring)
}

fn add_hooks(asked: Hooks, all: &mut Hooks) {
    let Hooks { prestart, create_runtime, create_container, start_container, poststart, poststop } =
        asked;
    all.prestart.extend(prestart);
    all.create_runtime.extend(create_runtime);
    all.create_container.extend(create_container);
    all.start_container.extend(start_container);
    all.poststart.extend(poststart);
    all.poststop.extend(poststop);
}

fn add_rlimit(limit: PosixRlimit, all: &mut Vec<PosixRlimit>) {
    all.retain(|known| known.r#type != limit.r#type);
    all.push(limit);
}

/// Adds, replaces and removes entries; a replaced one keeps its place.
fn lay_entries<T: Entry>(over: &[T], under: &mut Vec<T>) {
    for entry in over {
        if let Some(key) = owners::removed(entry.key()) {
            under.retain(|known| known.key() != key);
        } else if let Some(known) = under.iter_mut().find(|known| known.key() == entry.key()) {
            *known = entry.clone();
        } else {
            under.push(entry.clone());
        }
    }
}

fn lay_map<V: Clone>(over: &BTreeMap<String, V>, under: &mut BTreeMap<String, V>) {
    for (key, value) in over {
        match owners::removed(key) {
            Some(key) => drop(under.remove(key)),
            None => drop(under.insert(key.clone(), value.clone())),
        }
    }
}

fn environment(lines: &[String], over: &[KeyValue]) -> Vec<String> {
    let split = |line: &String| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        KeyValue { key: key.to_owned(), value: value.to_owned() }
    };
    let mut all: Vec<KeyValue> = lines.iter().map(split).collect();
    lay_entries(over, &mut all);
    all.into_iter().map(|KeyValue { key, value }| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests;
