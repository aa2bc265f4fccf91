//! The pods' network by CNI plugins: executed one after the other, each fed the one before.
//!
//! ```text
//!   ADD    plugin 1 ─result▶ plugin 2 ─result▶ …  ─▶ Attachment     any failure: DEL on all
//!   DEL    … plugin 2 ◀ plugin 1                                     in reverse, all of them
//!
//!   STATE/cni/<pod>.json   written before the first ADD, with the result after the last,
//!                          removed after a whole DEL
//! ```
//!
//! The record holds the configuration the pod was added with, so DEL tells the plugins the same
//! after a restart and after the operator changed the files. A record whose pod is gone is a DEL
//! that is still owed: [`Cni::collect`] pays it at the next start, [`Cni::pay`] before that.

pub(in crate::net) mod bandwidth;
mod config;
mod debts;
mod exec;
mod result;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::config::{Chain, Plugin, Version};
use self::exec::{Plugins, Subject, Verb};
use super::{Attachment, PodIdentity};
use crate::error::{Context, Error, Result};
use crate::id::PodId;
use crate::store::atomic::Durability;
use crate::store::table::Table;

const INTERFACE: &str = "eth0";

#[derive(Debug, Clone)]
pub(crate) struct CniConfig {
    pub(crate) config_dirs: Vec<PathBuf>,
    pub(crate) plugin_dirs: Vec<PathBuf>,
    /// How long one plugin may take.
    pub(crate) timeout: Duration,
    /// Where the records are.
    pub(crate) records: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Cni {
    config_dirs: Vec<PathBuf>,
    plugins: Plugins,
    records: Table<Record>,
    loaded: Mutex<Option<Loaded>>,
    /// Pods that are gone and whose DEL failed.
    owed: Mutex<BTreeSet<PodId>>,
    /// The protocol versions each program said it speaks, while the file stays the same.
    spoken: Mutex<BTreeMap<PathBuf, (SystemTime, Vec<String>)>>,
}

/// A configuration and the marks by which a changed file is recognised.
#[derive(Debug, Clone)]
struct Loaded {
    path: PathBuf,
    marks: (SystemTime, u64, u64),
    chain: Chain,
}

/// How a pod was added: all that CHECK and DEL need.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    identity: PodIdentity,
    version: Version,
    chain: Chain,
    arguments: Map<String, Value>,
    /// The last plugin's answer; none while ADD is under way.
    result: Option<Value>,
}

impl Cni {
    pub(crate) fn open(config: CniConfig) -> Result<Self> {
        Ok(Self {
            config_dirs: config.config_dirs,
            plugins: Plugins { directories: config.plugin_dirs, timeout: config.timeout },
            records: Table::open(&config.records, Durability::UntilReboot)?,
            loaded: Mutex::new(None),
            owed: Mutex::default(),
            spoken: Mutex::new(BTreeMap::new()),
        })
    }

    /// Whether there is a configuration file, right or wrong.
    pub(crate) fn is_configured(&self) -> Result<bool> {
        Ok(config::find(&self.config_dirs)?.is_some())
    }

    /// Whether a pod has, or had, its network from here.
    #[cfg(test)]
    pub(crate) fn knows(&self, pod: &PodId) -> Result<bool> {
        Ok(self.records.get(pod.as_str())?.is_some())
    }

    /// Fails with the reason why no pod can be added now.
    pub(crate) async fn ready(&self) -> Result<()> {
        let chain = self.chain()?;
        for plugin in &chain.plugins {
            self.plugins.find(&plugin.kind)?;
        }
        let version = self.negotiate(&chain).await?;
        if version < Version::V1_1_0 {
            return Ok(());
        }
        for plugin in &chain.plugins {
            let input = input(&chain, plugin, version, &Map::new(), None);
            self.plugins.run(&plugin.kind, Verb::Status, &Subject::default(), &input).await?;
        }
        Ok(())
    }

    /// Adds the pod. After an error the plugins were told to take everything back.
    pub(crate) async fn add(
        &self,
        identity: &PodIdentity,
        netns: &Path,
        arguments: Map<String, Value>,
    ) -> Result<Attachment> {
        check_identity(identity)?;
        let chain = self.chain()?;
        let version = self.negotiate(&chain).await?;
        let mut record =
            Record { identity: identity.clone(), version, chain, arguments, result: None };
        let key = identity.pod.as_str();
        self.records.put(key, &record)?;
        let added = self.add_all(&record, netns).await.and_then(|result| {
            let attachment = result::attachment(&result, INTERFACE)?;
            record.result = Some(result);
            self.records.put(key, &record)?;
            Ok(attachment)
        });
        if added.is_err()
            && let Err(error) = self.delete(&identity.pod, Some(netns)).await
        {
            tracing::warn!(pod = %identity.pod, error = error.chain(), "undo a failed CNI ADD");
            self.owed().insert(identity.pod.clone());
        }
        added
    }

    /// Asks the plugins whether the pod's network is still as they made it.
    pub(crate) async fn check(&self, pod: &PodId, netns: &Path) -> Result<()> {
        let record = self.records.get(pod.as_str())?;
        let record = record.with_context(|| format!("no CNI record of pod {pod}"))?;
        if record.version < Version::V0_4_0 || !record.chain.is_checked {
            return Ok(());
        }
        let subject = record.subject(Some(netns));
        for plugin in &record.chain.plugins {
            let input = record.input(plugin, record.result.as_ref());
            self.plugins.run(&plugin.kind, Verb::Check, &subject, &input).await?;
        }
        Ok(())
    }

    /// Takes the pod's network back. `netns` is given only while it is surely the pod's. After an
    /// error the record stays, so that the next try, or the next daemon, asks again.
    pub(crate) async fn delete(&self, pod: &PodId, netns: Option<&Path>) -> Result<()> {
        let Some(record) = self.records.get(pod.as_str())? else { return Ok(()) };
        let subject = record.subject(netns);
        let mut failure = None;
        for plugin in record.chain.plugins.iter().rev() {
            let input = record.input(plugin, record.result.as_ref());
            let delete = || self.plugins.run(&plugin.kind, Verb::Delete, &subject, &input);
            let mut deleted = delete().await;
            if deleted.is_err() {
                // Many failures are of the moment, such as a firewall lock held by another.
                deleted = delete().await;
            }
            // The others still get their turn: what they hold does not depend on this one.
            if let Err(error) = deleted {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)?;
        self.records.remove(pod.as_str())?;
        self.owed().remove(pod);
        Ok(())
    }

    /// Pays the DELs owed for pods that are gone, and lets plugins that can (CNI 1.1) drop
    /// whatever belongs to no living pod.
    pub(crate) async fn collect(&self, living: &BTreeSet<PodId>) -> Result<()> {
        for (_, record) in self.records.scan()? {
            let pod = record.identity.pod;
            if !living.contains(&pod)
                && let Err(error) = self.delete(&pod, None).await
            {
                tracing::warn!(%pod, error = error.chain(), "CNI DEL of a pod that is gone");
                self.owed().insert(pod);
            }
        }
        if !self.is_configured()? {
            return Ok(());
        }
        let chain = self.chain()?;
        let version = self.negotiate(&chain).await?;
        if version < Version::V1_1_0 || !chain.is_collected {
            return Ok(());
        }
        let valid: Vec<Value> = living
            .iter()
            .map(|pod| json!({"containerID": pod.as_str(), "ifname": INTERFACE}))
            .collect();
        for plugin in &chain.plugins {
            let mut object = object(&chain, plugin, version, &Map::new(), None);
            object.insert("cni.dev/valid-attachments".to_owned(), valid.clone().into());
            let input = Value::Object(object).to_string();
            let subject = Subject::default();
            self.plugins.run(&plugin.kind, Verb::Collect, &subject, input.as_bytes()).await?;
        }
        Ok(())
    }

    async fn add_all(&self, record: &Record, netns: &Path) -> Result<Value> {
        let subject = record.subject(Some(netns));
        let mut result = None;
        for plugin in &record.chain.plugins {
            let input = record.input(plugin, result.as_ref());
            let answer = self.plugins.run(&plugin.kind, Verb::Add, &subject, &input).await?;
            let answer = result::previous(&answer, record.version)
                .with_context(|| format!("CNI plugin {} ADD", plugin.kind))?;
            result = Some(answer);
        }
        result.context("the CNI chain has no plugin")
    }

    /// The chain of the file that counts, read again when the file changed. Looking is three
    /// system calls; a watch would have to be right across every way of replacing a file.
    fn chain(&self) -> Result<Chain> {
        use std::os::unix::fs::MetadataExt;

        let Some(path) = config::find(&self.config_dirs)? else {
            let searched: Vec<_> =
                self.config_dirs.iter().map(|d| d.display().to_string()).collect();
            let message = format!("no CNI configuration in {}", searched.join(" or "));
            return Err(Error::wrong_state(message));
        };
        let describe = || format!("CNI configuration {}", path.display());
        let metadata = std::fs::metadata(&path).with_context(describe)?;
        let modified = metadata.modified().with_context(describe)?;
        let marks = (modified, metadata.size(), metadata.ino());
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = loaded.as_ref().filter(|l| l.path == path && l.marks == marks) {
            return Ok(loaded.chain.clone());
        }
        let chain = config::load(&path)?;
        *loaded = Some(Loaded { path, marks, chain: chain.clone() });
        Ok(chain)
    }

    /// The newest version that the configuration allows and every plugin speaks.
    async fn negotiate(&self, chain: &Chain) -> Result<Version> {
        let mut versions = chain.versions.clone();
        for plugin in &chain.plugins {
            let Some(spoken) = self.versions_of(plugin).await? else { continue };
            let before = versions.clone();
            versions.retain(|version| spoken.iter().any(|spoken| spoken == version.as_str()));
            if versions.is_empty() {
                let wanted: Vec<_> = before.iter().map(|version| version.as_str()).collect();
                let message = format!(
                    "CNI plugin {} speaks {}, network {} needs {}",
                    plugin.kind,
                    spoken.join(", "),
                    chain.name,
                    wanted.join(" or ")
                );
                return Err(Error::wrong_state(message));
            }
        }
        versions.last().copied().context("the CNI configuration names no version")
    }

    /// `None` for a plugin that does not answer VERSION: it is taken at the configuration's word.
    async fn versions_of(&self, plugin: &Plugin) -> Result<Option<Vec<String>>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spoken {
            supported_versions: Vec<String>,
        }
        let path = self.plugins.find(&plugin.kind)?;
        let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let modified = modified.with_context(|| format!("CNI plugin {}", path.display()))?;
        let known = {
            let spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
            spoken.get(&path).filter(|(seen, _)| *seen == modified).cloned()
        };
        if let Some((_, versions)) = known {
            return Ok(Some(versions));
        }
        let input = json!({"cniVersion": Version::V1_1_0.as_str()}).to_string();
        let subject = Subject::default();
        let answer =
            self.plugins.run(&plugin.kind, Verb::Version, &subject, input.as_bytes()).await;
        let parsed = answer.and_then(|answer| {
            serde_json::from_slice::<Spoken>(&answer).context("read the versions")
        });
        match parsed {
            Ok(Spoken { supported_versions: versions }) => {
                let mut spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
                spoken.insert(path, (modified, versions.clone()));
                Ok(Some(versions))
            }
            Err(error) => {
                tracing::debug!(plugin = plugin.kind, error = error.chain(), "no CNI VERSION");
                Ok(None)
            }
        }
    }
}

impl Record {
    fn subject(&self, netns: Option<&Path>) -> Subject {
        let PodIdentity { pod, name, namespace, uid } = &self.identity;
        Subject {
            container_id: pod.to_string(),
            netns: netns.map(|netns| netns.display().to_string()).unwrap_or_default(),
            interface: INTERFACE.to_owned(),
            arguments: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
                 K8S_POD_INFRA_CONTAINER_ID={pod};K8S_POD_UID={uid}"
            ),
        }
    }

    fn input(&self, plugin: &Plugin, previous: Option<&Value>) -> Vec<u8> {
        input(&self.chain, plugin, self.version, &self.arguments, previous)
    }
}

/// The names become a list that `;` and `=` divide.
fn check_identity(identity: &PodIdentity) -> Result<()> {
    let fields =
        [("name", &identity.name), ("namespace", &identity.namespace), ("uid", &identity.uid)];
    for (field, value) in fields {
        if value.chars().any(|c| c.is_control() || matches!(c, ';' | '=')) {
            let message = format!("pod {field} {value:?} cannot be told to CNI plugins");
            return Err(Error::invalid(message));
        }
    }
    Ok(())
}

fn input(
    chain: &Chain,
    plugin: &Plugin,
    version: Version,
    arguments: &Map<String, Value>,
    previous: Option<&Value>,
) -> Vec<u8> {
    Value::Object(object(chain, plugin, version, arguments, previous)).to_string().into_bytes()
}

/// What the plugin reads from its standard input: its own configuration and what the runtime adds.
fn object(
    chain: &Chain,
    plugin: &Plugin,
    version: Version,
    arguments: &Map<String, Value>,
    previous: Option<&Value>,
) -> Map<String, Value> {
    let mut object = plugin.config.clone();
    object.insert("name".to_owned(), chain.name.clone().into());
    object.insert("cniVersion".to_owned(), version.as_str().into());
    let wanted: Map<String, Value> = arguments
        .iter()
        .filter(|(name, _)| plugin.capabilities.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !wanted.is_empty() {
        object.insert("runtimeConfig".to_owned(), Value::Object(wanted));
    }
    if let Some(previous) = previous {
        object.insert("prevResult".to_owned(), previous.clone());
    }
    object
}
