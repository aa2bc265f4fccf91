//! Member names: where they point, and the ones that speak about the layers below.

use super::tar::shown;
use crate::error::{Error, Result};
use crate::image::pack::DEEPEST;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255;

/// What a member's path asks for; paths are without leading slash, `.` and `..`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The layer's root directory itself.
    Root,
    Member(Place<'a>),
    /// The name is not there any more in this layer.
    Whiteout(Place<'a>),
    /// Nothing of the layers below shows through this directory.
    Opaque(Vec<u8>),
    /// Book-keeping of AUFS that old images still carry.
    Ignored,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// Empty for the root.
    pub(super) parent: Vec<u8>,
    pub(super) name: &'a [u8],
}

impl Place<'_> {
    pub(super) fn path(&self) -> Vec<u8> {
        join(&self.parent, self.name)
    }
}

pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

/// Whether names may speak about layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Names {
    OfLayer,
    /// They are names, whatever they begin with.
    Plain,
}

/// Reads a member's path.
pub(super) fn target(path: &[u8], names: Names) -> Result<Target<'_>> {
    let path = match names {
        Names::OfLayer => path,
        // Below the directory that it is for, as with docker: docker compose writes `/run/secrets/NAME`.
        Names::Plain => match path.iter().position(|byte| *byte != b'/') {
            Some(at) => &path[at..],
            None if path.is_empty() => path,
            None => return Ok(Target::Root),
        },
    };
    let Some(place) = place(path)? else { return Ok(Target::Root) };
    if names == Names::Plain {
        return Ok(Target::Member(place));
    }
    let refuse = |why: &str| Err(Error::invalid(format!("member {}: {why}", shown(path))));
    if place.name.starts_with(AUFS) && place.name != OPAQUE
        || place.parent.split(|byte| *byte == b'/').any(|part| part.starts_with(AUFS))
    {
        return Ok(Target::Ignored);
    }
    if place.parent.split(|byte| *byte == b'/').any(|part| part.starts_with(PREFIX)) {
        return refuse("a whiteout has no members");
    }
    if place.name == OPAQUE {
        return Ok(Target::Opaque(place.parent));
    }
    match place.name.strip_prefix(PREFIX) {
        None => Ok(Target::Member(place)),
        Some(b"") => refuse("a whiteout of nothing"),
        Some(b"." | b"..") => refuse("a whiteout must name something inside the layer"),
        Some(name) => Ok(Target::Whiteout(Place { parent: place.parent, name })),
    }
}

/// Splits a path that must stay inside the layer; `None` is the root.
pub(super) fn place(path: &[u8]) -> Result<Option<Place<'_>>> {
    let refuse = |why: &str| Err(Error::invalid(format!("member {}: {why}", shown(path))));
    if path.is_empty() {
        return refuse("the name is empty");
    }
    if path.len() > LONGEST_PATH {
        return refuse("the path is longer than 4096 bytes");
    }
    if path.starts_with(b"/") {
        return refuse("the path is absolute");
    }
    if path.contains(&0) {
        return refuse("the path has a NUL in it");
    }
    let mut parent: Vec<u8> = Vec::new();
    let mut name: &[u8] = b"";
    let mut depth = 0;
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return refuse("the path leaves the layer"),
            part if part.len() > LONGEST_NAME => return refuse("a name is longer than 255 bytes"),
            _ => {}
        }
        if !name.is_empty() {
            parent = join(&parent, name);
        }
        name = part;
        depth += 1;
    }
    if depth > DEEPEST {
        return refuse("the path is deeper than 256 directories");
    }
    Ok((!name.is_empty()).then_some(Place { parent, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_brought_to_one_form() {
        for path in [&b"./etc//hosts"[..], b"etc/hosts", b"etc/./hosts/"] {
            let place = place(path).unwrap().unwrap();
            assert_eq!((place.parent.as_slice(), place.name), (&b"etc"[..], &b"hosts"[..]));
        }
        for path in [&b"."[..], b"./", b"././/"] {
            assert_eq!(target(path, Names::OfLayer).unwrap(), Target::Root);
        }
    }

    #[test]
    fn whiteouts_are_told_from_files() {
        let at = |parent: &[u8], name: &'static [u8]| Place { parent: parent.to_vec(), name };
        assert_eq!(
            target(b"etc/.wh.hosts", Names::OfLayer).unwrap(),
            Target::Whiteout(at(b"etc", b"hosts"))
        );
        assert_eq!(target(b".wh.etc", Names::OfLayer).unwrap(), Target::Whiteout(at(b"", b"etc")));
        assert_eq!(
            target(b"etc/.wh..wh..opq", Names::OfLayer).unwrap(),
            Target::Opaque(b"etc".to_vec())
        );
        assert_eq!(target(b".wh..wh.plnk/1.2", Names::OfLayer).unwrap(), Target::Ignored);
        assert_eq!(
            target(b".whatever", Names::OfLayer).unwrap(),
            Target::Member(at(b"", b".whatever"))
        );
        assert_eq!(target(b".wh.x", Names::Plain).unwrap(), Target::Member(at(b"", b".wh.x")));
    }

    #[test]
    fn in_an_archive_that_is_no_layer_the_root_is_its_directory() {
        let at = |parent: &[u8], name: &'static [u8]| Place { parent: parent.to_vec(), name };
        assert_eq!(
            target(b"/run/secrets/a", Names::Plain).unwrap(),
            Target::Member(at(b"run/secrets", b"a"))
        );
        assert_eq!(target(b"//", Names::Plain).unwrap(), Target::Root);
        for path in [&b"/../a"[..], b"/a/../../b", b""] {
            assert!(target(path, Names::Plain).is_err(), "{path:?}");
        }
    }

    #[test]
    fn paths_that_leave_the_layer_are_refused_by_name() {
        let long = [b'a'; 256];
        let longer = b"a/".repeat(2100);
        let deep = b"a/".repeat(257);
        for path in [
            &b"/etc/passwd"[..],
            b"../x",
            b"a/../../x",
            b"..",
            b"",
            b"a\0b",
            b".wh.",
            b".wh..",
            b".wh...",
            b"a/.wh..",
            b".wh.a/b",
            &long,
            &longer,
            &deep,
        ] {
            let error = target(path, Names::OfLayer).unwrap_err().chain();
            assert!(error.starts_with("member "), "{error}");
        }
    }
}
