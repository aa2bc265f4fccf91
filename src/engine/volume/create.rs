//! Making a volume, or finding the one of that name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Claim, Record, Volume};
use crate::engine::{Shared, clock, operation};
use crate::error::{Error, Kind, Result};
use crate::id::random_hex;

/// The longest name that a record can have.
const LONGEST: usize = 200;

/// What a volume is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// Empty: it is anonymous, and its name is of our choice.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    begins && bytes.len() > 0 && bytes.all(is_plain) && text.len() <= LONGEST
}

/// One that is there already is found, whatever it was made with.
///
/// # Errors
/// `InvalidArgument` for a name that is none, `Unsupported` for options of another kind of volume.
pub(crate) async fn create(shared: Arc<Shared>, request: Request) -> Result<Arc<Volume>> {
    operation::run(async move { Ok(ensure(&shared, request).await?.0.volume.clone()) }).await
}

/// As [`create`], for a caller that is about to mount it; true if it was made.
pub(in crate::engine) async fn ensure(shared: &Shared, request: Request) -> Result<(Claim, bool)> {
    let Request { name, labels, options } = request;
    let is_anonymous = name.is_empty();
    let name = if is_anonymous { random_hex()? } else { check_name(name)? };
    check_options(&name, &options)?;
    let _changes = shared.volumes.changes.lock().await;
    if let Ok(found) = shared.volumes.find(&name) {
        return Ok((Claim::of(found), false));
    }
    let record = Record { name, created_at: clock::now(), labels, options, is_anonymous };
    shared.layout.make_volume(&record.name)?;
    if let Err(error) = shared.volume_records.put(&record.name, &record) {
        shared.layout.discard(&shared.layout.volume(&record.name))?;
        return Err(error);
    }
    let volume = Arc::new(Volume::new(record));
    shared.volumes.insert(volume.clone());
    shared.tell_of_volume("create", &volume.record.name, &[]);
    Ok((Claim::of(volume), true))
}

fn check_name(name: String) -> Result<String> {
    if is_name(&name) {
        return Ok(name);
    }
    let shown: String = name.chars().take(80).collect();
    if name.len() == 1 && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::invalid(format!(
            "create {shown}: volume name is too short, names should be at least two alphanumeric \
             characters"
        )));
    }
    Err(Error::invalid(format!(
        "create {shown}: {shown:?} includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use \
         absolute path"
    )))
}

/// None, or those of a directory of the host.
fn check_options(name: &str, options: &BTreeMap<String, String>) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    let of = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    if let Some(key) = options.keys().find(|key| !["type", "o", "device"].contains(&key.as_str())) {
        return Err(Error::invalid(format!("create {name}: invalid option: {key:?}")));
    }
    let is_bind = of("o").split(',').any(|word| matches!(word, "bind" | "rbind"));
    if !matches!(of("type"), "" | "none") || !is_bind {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "create {name}: a volume of other options than those of a bind is not supported yet"
            ),
        ));
    }
    if !Path::new(of("device")).is_absolute() {
        return Err(Error::invalid(format!("create {name}: missing device in volume options")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere() {
        for name in ["ab", "a.b", "A-1_x", &"a".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a", ".", "..", "a/b", "../x", "-ab", "a b", "a\0b", &"a".repeat(201)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn options_are_those_of_a_bind() {
        let options = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let bind = options(&[("type", "none"), ("o", "bind,rw"), ("device", "/srv")]);
        assert!(check_options("x", &bind).is_ok());
        assert!(check_options("x", &options(&[])).is_ok());
        for (pairs, kind) in [
            (&[("type", "nfs"), ("o", "addr=1"), ("device", ":/x")][..], Kind::Unsupported),
            (&[("type", "tmpfs"), ("device", "tmpfs")], Kind::Unsupported),
            (&[("o", "bind"), ("device", "srv")], Kind::InvalidArgument),
            (&[("colour", "red")], Kind::InvalidArgument),
        ] {
            assert_eq!(check_options("x", &options(pairs)).unwrap_err().kind(), kind, "{pairs:?}");
        }
    }
}
