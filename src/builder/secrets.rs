//! `RUN --mount=type=secret`: what a client lends to a command. It is held in memory, and is in no
//! layer, no history and no key.

use std::fmt;
use std::path::{Path, PathBuf};

use cais_dockerfile::instruction::Mount;

use super::progress::Failure;
use super::stage::Stage;
use crate::engine::cells::RunMount;
use crate::engine::files::below_root;
use crate::engine::memory::{self, Access};
use crate::error::{Context, Error, Result};

/// Where secrets are that do not say so.
const DIRECTORY: &str = "/run/secrets";
const NAME: &str = "secret";
const MODE: u32 = 0o400;
/// As much as BuildKit takes.
const LARGEST: usize = 500 << 10;

pub(super) struct Secret {
    id: String,
    value: Vec<u8>,
    pub(super) target: PathBuf,
    access: Access,
    /// The variable that has it.
    env: Option<String>,
    is_mounted: bool,
}

/// Without the value.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Secret {
    /// `None` if the client lacks one that need not be there.
    ///
    /// # Errors
    /// `NotFound` if it must.
    pub(super) async fn fetch(stage: &Stage, mount: &Mount) -> Result<Option<Self>, Failure> {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = match mount.id.as_str() {
            "" => last(&mount.target),
            id => id.to_owned(),
        };
        let value = tokio::select! {
            value = stage.build.secret(&id) => value?,
            () = stage.build.cancel.cancelled() => return Err(Failure::cancelled()),
        };
        let Some(value) = value else {
            return match mount.required {
                true => Err(Error::not_found(format!("secret {id}: not found")).into()),
                false => Ok(None),
            };
        };
        if value.len() > LARGEST {
            let text = format!("secret {id} is larger than {LARGEST} bytes");
            return Err(Error::invalid(text).into());
        }
        let target = match mount.target.as_str() {
            "" => Path::new(DIRECTORY).join(last(&id)),
            path => Path::new(&stage.settings.working_dir()).join(path),
        };
        let below = below_root(&target.to_string_lossy());
        if below.as_os_str().is_empty() {
            return Err(Error::invalid("invalid mount target \"/\"").into());
        }
        Ok(Some(Self {
            value,
            target: Path::new("/").join(below),
            access: Access {
                mode: mount.mode.unwrap_or(MODE),
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
            },
            // One that is a variable is a file only if a place for it is named.
            is_mounted: mount.env.is_none() || !mount.target.is_empty(),
            env: mount.env.clone(),
            id,
        }))
    }

    pub(super) fn mount(&self) -> Result<Option<RunMount>> {
        if !self.is_mounted {
            return Ok(None);
        }
        Ok(Some(RunMount::Tree {
            target: self.target.clone(),
            tree: memory::file(NAME, &self.value, self.access)?,
            part: NAME.to_owned(),
            is_directory: false,
            readonly: true,
        }))
    }

    /// `NAME=value`
    pub(super) fn variable(&self) -> Result<Option<String>> {
        let Some(name) = &self.env else { return Ok(None) };
        let text = String::from_utf8(self.value.clone()).ok();
        let text = text.filter(|text| !text.contains('\0'));
        // The value is not repeated.
        let text = text.with_context(|| format!("secret {} cannot be a variable", self.id));
        let text = text.map_err(|error| Error::invalid(error.chain()))?;
        Ok(Some(format!("{name}={text}")))
    }
}
