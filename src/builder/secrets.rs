//! `RUN --mount=type=secret`: what a client lends to a command. Its value is in no layer, no history
//! and no key. As a file it is in memory alone; one that is a variable is also where every variable of
//! a container is: in the cell's record below the state directory, and before NRI's plugins.

use std::fmt;
use std::path::{Path, PathBuf};

use cais_dockerfile::instruction::Mount;

use super::key::Key;
use super::mounts::place;
use super::progress::Failure;
use super::stage::Stage;
use crate::engine::cells::RunMount;
use crate::engine::memory::{self, Access};
use crate::error::{Context, Error, Result};

/// Where secrets are that do not say so.
const DIRECTORY: &str = "/run/secrets";
const NAME: &str = "secret";
const MODE: u32 = 0o400;
/// As much as BuildKit takes.
const LARGEST: usize = 500 << 10;

/// One that a command asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    id: String,
    target: PathBuf,
    access: Access,
    /// The variable that has it.
    env: Option<String>,
    is_mounted: bool,
    is_required: bool,
}

pub(super) struct Secret {
    wanted: Wanted,
    value: Vec<u8>,
}

/// Without the value.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("id", &self.wanted.id).finish_non_exhaustive()
    }
}

impl Wanted {
    /// # Errors
    /// `InvalidArgument` for a place that cannot be.
    pub(super) fn read(working_dir: &str, mount: &Mount) -> Result<Self> {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = match mount.id.as_str() {
            "" => last(&mount.target),
            id => id.to_owned(),
        };
        let target = match mount.target.as_str() {
            "" => Path::new(DIRECTORY).join(last(&id)),
            path => PathBuf::from(path),
        };
        Ok(Self {
            target: place(working_dir, &target)?,
            access: Access {
                mode: mount.mode.unwrap_or(MODE),
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
            },
            // One that is a variable is a file only if a place for it is named.
            is_mounted: mount.env.is_none() || !mount.target.is_empty(),
            env: mount.env.clone(),
            is_required: mount.required,
            id,
        })
    }

    /// What a layer is made from has the place of a secret in it, and not its value.
    pub(super) fn key(&self, key: Key) -> Key {
        let Access { mode, uid, gid } = self.access;
        let env = self.env.as_ref();
        key.with("kind", "secret")
            .with("id", &self.id)
            .with("target", self.target.as_os_str().as_encoded_bytes())
            .with("is mounted", [u8::from(self.is_mounted)])
            .with_all("env", env)
            .with("access", format!("{mode:o} {uid} {gid}"))
    }

    /// `None` if the client lacks one that need not be there.
    ///
    /// # Errors
    /// `NotFound` if it must.
    pub(super) async fn fetch(self, stage: &Stage) -> Result<Option<Secret>, Failure> {
        let value = stage.build.secret(&self.id).await?;
        let id = &self.id;
        match value {
            Some(value) if value.len() > LARGEST => {
                let text = format!("secret {id} is larger than {LARGEST} bytes");
                Err(Error::invalid(text).into())
            }
            Some(value) => Ok(Some(Secret { wanted: self, value })),
            None if self.is_required => {
                Err(Error::not_found(format!("secret {id}: not found")).into())
            }
            None => Ok(None),
        }
    }
}

impl Secret {
    pub(super) fn target(&self) -> &Path {
        &self.wanted.target
    }

    pub(super) fn mount(&self) -> Result<Option<RunMount>> {
        if !self.wanted.is_mounted {
            return Ok(None);
        }
        Ok(Some(RunMount::Tree {
            target: self.wanted.target.clone(),
            tree: memory::file(NAME, &self.value, self.wanted.access)?,
            is_mapped: false,
            part: NAME.to_owned(),
            is_directory: false,
            readonly: true,
        }))
    }

    /// `NAME=value`
    pub(super) fn variable(&self) -> Result<Option<String>> {
        let Some(name) = &self.wanted.env else { return Ok(None) };
        let text = String::from_utf8(self.value.clone()).ok();
        let text = text.filter(|text| !text.contains('\0'));
        // The value is not repeated.
        let text = text.with_context(|| format!("secret {} cannot be a variable", self.wanted.id));
        let text = text.map_err(|error| Error::invalid(error.chain()))?;
        Ok(Some(format!("{name}={text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_secret_is_makes_a_key_and_what_it_is_does_not() {
        let mount = |id: &str| Mount { id: id.to_owned(), ..Mount::default() };
        let as_variable = |name: &str| Mount { env: Some(name.to_owned()), ..mount("a") };
        let mounts = [
            mount("a"),
            mount("b"),
            Mount { target: "/a".to_owned(), ..mount("a") },
            as_variable("A"),
            as_variable("B"),
            Mount { target: "/run/secrets/a".to_owned(), ..as_variable("A") },
            Mount { mode: Some(0o444), ..mount("a") },
            Mount { uid: Some(1), ..mount("a") },
            Mount { gid: Some(1), ..mount("a") },
        ];
        let key =
            |mount: &Mount| Wanted::read("/", mount).unwrap().key(Key::new("mounts")).finish();
        let keys: std::collections::BTreeSet<_> = mounts.iter().map(key).collect();
        assert_eq!(keys.len(), mounts.len());
        assert!(keys.contains(&key(&Mount { required: true, ..mount("a") })));
    }
}
