//! `build --secret`: values that commands of a build see, and no image has.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;

use crate::create::values;
use crate::error::{Context as _, Failure, Result};

/// Bytes of a value; BuildKit's own limit.
const LARGEST: usize = 500 << 10;

pub(super) struct Secret {
    pub(super) id: String,
    pub(super) value: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret").field(&self.id).finish_non_exhaustive()
    }
}

impl Secret {
    pub(super) fn check(&self) -> Result<()> {
        if self.value.len() > LARGEST {
            return Err(Failure::new(format!("secret {:?} too big. max size 500KB", self.id)));
        }
        Ok(())
    }
}

/// `id=ID[,src=FILE|,env=NAME][,type=file|env]`. With neither it is the variable, or else the file, that is called as the id.
pub(super) fn read(text: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<Secret> {
    let (mut id, mut file, mut name, mut kind) =
        (String::new(), String::new(), String::new(), String::new());
    for field in values::fields(text) {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            Failure::new(format!("invalid field '{field}' must be a key=value pair"))
        })?;
        match key.to_ascii_lowercase().as_str() {
            "id" => value.clone_into(&mut id),
            "source" | "src" => value.clone_into(&mut file),
            "env" => value.clone_into(&mut name),
            "type" if matches!(value, "file" | "env") => value.clone_into(&mut kind),
            "type" => return Err(Failure::new(format!("unsupported secret type {value:?}"))),
            _ => return Err(Failure::new(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    if id.is_empty() {
        return Err(Failure::new("secret missing ID"));
    }
    if kind == "env" && name.is_empty() {
        name = std::mem::take(&mut file);
    }
    if name.is_empty() && file.is_empty() {
        let is_variable = kind != "file" && (kind == "env" || variable(&id).is_some());
        id.clone_into(if is_variable { &mut name } else { &mut file });
    }
    let value = if name.is_empty() {
        std::fs::read(&file).context(format_args!("failed to read secret {id}: {file}"))?
    } else {
        variable(&name).unwrap_or_default().into_vec()
    };
    Ok(Secret { id, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let read = |text: &str| {
            let variable = |name: &str| (name == "TOKEN").then(|| OsString::from("t"));
            read(text, variable).map(|it| (it.id, it.value)).map_err(|it| it.message)
        };
        let is = |id: &str, value: &[u8]| Ok((id.to_owned(), value.to_vec()));
        assert_eq!(read("id=TOKEN"), is("TOKEN", b"t"));
        assert_eq!(read("id=a,env=TOKEN"), is("a", b"t"));
        assert_eq!(read("type=env,id=a,src=TOKEN"), is("a", b"t"));
        // A variable that is not set is an empty value, as with docker.
        assert_eq!(read("id=a,env=OTHER"), is("a", b""));
        assert_eq!(read("id=a,src=/dev/null"), is("a", b""));
        assert_eq!(read("id=/dev/null"), is("/dev/null", b""));
        for (text, why) in [
            ("src=/dev/null", "secret missing ID"),
            ("a", "key=value pair"),
            ("id=a,type=x", "unsupported secret type"),
            ("id=a,b=c", "unexpected key 'b'"),
            ("id=a,src=/nowhere/a", "failed to read secret a"),
            ("id=TOKEN,type=file", "failed to read secret TOKEN"),
        ] {
            assert!(read(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn a_secret_has_a_largest_size() {
        let of = |bytes: usize| Secret { id: "a".to_owned(), value: vec![0; bytes] };
        of(LARGEST).check().unwrap();
        assert!(of(LARGEST + 1).check().unwrap_err().message.contains("too big"));
    }
}
