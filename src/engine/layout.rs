//! Where things are on disk.
//!
//! ```text
//! STATE/  daemon.lock  streams.sock           (dies with the boot)
//!         pods/<id>.json  pods/<id>/…          record, monitor's directory
//!         making/<id>.json                     cgroup of a container that has no record yet
//!         containers/<id>.json  <id>.process   record, what an exec starts from
//!         containers/<id>.nri                  what NRI plugins made of it
//!         events/                              journal of what happened
//!         checkpoints/<pod>.json               checkpoint or restore under way
//! ROOT/   containers/<id>/{upper,work}         writable layers
//!         checkpoints/<container>/             files of a checkpoint or restore under way
//!         standalone/<id>.json  <id>/…         containers of Docker's clients: record, log
//!         volumes/<name>/…                     files of volumes, and what they are filled with
//!         volume-records/<name>.json           which volumes there are
//!         networks/<id>.json                   networks of Docker's clients
//!         trash/                               being deleted
//!         images/                              owned by `image`
//! ```

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::id::{ContainerId, PodId, random_hex};

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    state: PathBuf,
    root: PathBuf,
}

impl Layout {
    /// Makes the directories, for root's eyes only.
    pub(crate) fn open(state: &Path, root: &Path) -> Result<Self> {
        let layout = Self { state: state.to_owned(), root: root.to_owned() };
        for directory in [
            layout.pods(),
            layout.containers(),
            layout.checkpoints_under_way(),
            layout.root.join("containers"),
            layout.standalones(),
            layout.root.join("volumes"),
            layout.root.join("trash"),
        ] {
            make_private(&directory)?;
        }
        Ok(layout)
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    pub(crate) fn pod(&self, id: &PodId) -> PathBuf {
        self.pods().join(id.as_str())
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// Records of the networks that Docker's clients made.
    pub(crate) fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.state.join("events")
    }

    pub(crate) fn checkpoints_under_way(&self) -> PathBuf {
        self.state.join("checkpoints")
    }

    /// Where a container's checkpoint is put together, or its restore leaves its results.
    pub(crate) fn checkpoint(&self, container: &str) -> PathBuf {
        self.root.join("checkpoints").join(container)
    }

    /// Groups of containers that have no record yet.
    pub(crate) fn making(&self) -> PathBuf {
        self.state.join("making")
    }

    /// The file that holds what an exec starts from.
    pub(crate) fn process(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(Self::process_name(id))
    }

    pub(crate) fn process_name(id: &ContainerId) -> String {
        format!("{id}.process")
    }

    pub(crate) fn description_name(id: &ContainerId) -> String {
        format!("{id}.nri")
    }

    pub(crate) fn container_root(&self, id: &ContainerId) -> PathBuf {
        self.root.join("containers").join(id.as_str())
    }

    /// Makes the writable layer of a container: (upper, work). That of a standalone container may
    /// be there from an earlier run.
    pub(crate) fn make_container_root(&self, id: &ContainerId) -> Result<(PathBuf, PathBuf)> {
        let root = self.container_root(id);
        let (upper, work) = (root.join("upper"), root.join("work"));
        make_private(&work)?;
        // What overlayfs leaves so that a volatile layer is not used after a crash. Nothing crashed:
        // the container is started again in the same boot, or is gone.
        let mark = work.join("work/incompat");
        if mark.exists() {
            std::fs::remove_dir_all(&mark).with_context(|| format!("remove {}", mark.display()))?;
        }
        // The upper directory is `/` inside: every user of the container must get through.
        make_open(&upper)?;
        Ok((upper, work))
    }

    pub(crate) fn volume_records(&self) -> PathBuf {
        self.root.join("volume-records")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// The directory that containers see.
    pub(crate) fn volume_data(&self, name: &str) -> PathBuf {
        self.volume(name).join("_data")
    }

    pub(crate) fn make_volume(&self, name: &str) -> Result<()> {
        make_private(&self.volume(name))?;
        make_open(&self.volume_data(name))
    }

    /// Records of standalone containers, and their directories.
    pub(crate) fn standalones(&self) -> PathBuf {
        self.root.join("standalone")
    }

    /// The directory that keeps a standalone container's log.
    pub(crate) fn standalone(&self, id: &ContainerId) -> PathBuf {
        self.standalones().join(id.as_str())
    }

    /// Names of the directories of standalone containers.
    pub(crate) fn standalone_directories(&self) -> Result<Vec<String>> {
        let mut names = list(&self.standalones())?;
        names.retain(|name| self.standalones().join(name).is_dir());
        Ok(names)
    }

    /// Makes a tree disappear at once and deletes it in the background. Succeeds on what is gone.
    pub(crate) fn discard(&self, tree: &Path) -> Result<()> {
        let trash = self.root.join("trash").join(random_hex()?);
        match std::fs::rename(tree, &trash) {
            Ok(()) => {
                delete_in_background(trash);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("discard {}", tree.display())),
        }
    }

    /// Deletes what an earlier daemon had discarded and did not get to delete.
    pub(crate) fn empty_trash(&self) -> Result<()> {
        for tree in list(&self.root.join("trash"))? {
            delete_in_background(self.root.join("trash").join(tree));
        }
        Ok(())
    }

    /// Names of the writable layers there are.
    pub(crate) fn container_roots(&self) -> Result<Vec<String>> {
        list(&self.root.join("containers"))
    }

    /// Names in the directory of pod directories: records and directories both.
    pub(crate) fn pod_directories(&self) -> Result<Vec<String>> {
        let mut names = list(&self.pods())?;
        names.retain(|name| self.pods().join(name).is_dir());
        Ok(names)
    }
}

pub(crate) fn make_private(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("make {}", directory.display()))
}

/// For a directory that the users of a container get through. Succeeds on one that is there.
fn make_open(directory: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("make {}", directory.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn list(directory: &Path) -> Result<Vec<String>> {
    let entries = directory.read_dir().with_context(|| format!("list {}", directory.display()))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn delete_in_background(tree: PathBuf) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = crate::store::remove::remove_tree(&tree) {
            // The next start tries again.
            tracing::warn!(error = error.chain(), "delete a discarded tree");
        }
    });
}
