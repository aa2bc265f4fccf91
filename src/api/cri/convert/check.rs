//! What names, paths and numbers of a request must look like.
//!
//! Each check takes the field's name as something to print, so that a request that passes formats
//! nothing.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// Kubernetes objects have names of at most this many bytes.
const LONGEST_NAME: usize = 253;
/// The kernel's `PATH_MAX`, with its terminating zero.
const LONGEST_PATH: usize = 4095;
/// The kernel's `NAME_MAX`.
const LONGEST_COMPONENT: usize = 255;

/// How much of a refused value an error shows.
const SHOWN: usize = 120;

pub(crate) fn refuse(field: impl Display, why: impl Display) -> Error {
    Error::invalid(format!("{field}: {why}"))
}

/// A value as an error shows it: quoted, and cut when it is long.
pub(crate) fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", value.get(..end).unwrap_or_default()),
        None => format!("{value:?}"),
    }
}

pub(crate) fn required<T>(field: impl Display, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::invalid(format!("{field} is missing")))
}

pub(crate) fn not_empty(field: impl Display, value: String) -> Result<String> {
    if value.is_empty() { Err(Error::invalid(format!("{field} is empty"))) } else { Ok(value) }
}

/// The name of an object: one line of a length that clients can show.
pub(crate) fn name(field: impl Display, value: String) -> Result<String> {
    let value = not_empty(&field, value)?;
    if value.len() > LONGEST_NAME {
        let length = value.len();
        return Err(refuse(field, format_args!("{length} bytes, the longest is {LONGEST_NAME}")));
    }
    one_line(field, value)
}

/// Text that may stand in a file of lines: no line break, no other control character.
pub(crate) fn one_line(field: impl Display, value: String) -> Result<String> {
    if value.chars().any(char::is_control) {
        return Err(refuse(field, format_args!("{} holds a control character", shown(&value))));
    }
    Ok(value)
}

/// A word of a line: nothing that separates words or lines.
pub(crate) fn word(field: impl Display, value: String) -> Result<String> {
    let value = not_empty(&field, value)?;
    if value.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Err(refuse(field, format_args!("{} holds white space", shown(&value))));
    }
    Ok(value)
}

/// Text that is handed to the kernel as a C string.
pub(crate) fn no_zero_byte(field: impl Display, value: String) -> Result<String> {
    if value.contains('\0') {
        return Err(refuse(field, format_args!("{} holds a zero byte", shown(&value))));
    }
    Ok(value)
}

pub(crate) fn absolute_path(field: impl Display, value: String) -> Result<PathBuf> {
    let value = not_empty(&field, value)?;
    if !value.starts_with('/') {
        return Err(refuse(field, format_args!("{} is not an absolute path", shown(&value))));
    }
    path(field, value)
}

pub(crate) fn relative_path(field: impl Display, value: String) -> Result<PathBuf> {
    let value = not_empty(&field, value)?;
    if value.starts_with('/') {
        return Err(refuse(field, format_args!("{} is not a relative path", shown(&value))));
    }
    path(field, value)
}

/// A path, absolute or not. `..` is refused: nobody needs it, and it is how paths escape.
pub(crate) fn path(field: impl Display, value: String) -> Result<PathBuf> {
    let value = no_zero_byte(&field, value)?;
    if value.len() > LONGEST_PATH {
        let length = value.len();
        return Err(refuse(field, format_args!("{length} bytes, the longest is {LONGEST_PATH}")));
    }
    for component in value.split('/') {
        if component == ".." {
            return Err(refuse(field, format_args!("{} must not contain ..", shown(&value))));
        }
        if component.len() > LONGEST_COMPONENT {
            return Err(refuse(
                field,
                format_args!(
                    "{} has a component longer than {LONGEST_COMPONENT} bytes",
                    shown(&value)
                ),
            ));
        }
    }
    Ok(PathBuf::from(value))
}

/// A path as it was received. It came as text, so nothing is lost.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A user or group number. The highest is `-1` to the kernel: "leave unchanged".
pub(crate) fn id(field: impl Display, value: i64) -> Result<u32> {
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        Ok(_) | Err(_) => Err(refuse(
            field,
            format_args!("{value} is not a user or group number (0 to {})", u32::MAX - 1),
        )),
    }
}

/// A timeout in whole seconds. Beyond a year, where clocks overflow, it is as good as for ever.
pub(crate) fn seconds(field: impl Display, value: i64) -> Result<Duration> {
    const YEAR: u64 = 365 * 24 * 3600;
    u64::try_from(value)
        .map(|seconds| Duration::from_secs(seconds.min(YEAR)))
        .map_err(|_| refuse(field, format_args!("{value} is negative")))
}

/// Reads an enum by its number, where the generated accessors turn a stranger into zero.
pub(crate) fn known<E: TryFrom<i32>>(
    field: impl Display,
    value: i32,
    enumeration: &str,
) -> Result<E> {
    let article = if enumeration.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    E::try_from(value)
        .map_err(|_| refuse(field, format_args!("{value} is not {article} {enumeration}")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::Kind;

    /// What a request is told that was refused for what stands in it.
    pub(in super::super) fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        error.chain()
    }

    #[test]
    fn a_name_is_one_line_of_at_most_253_bytes() {
        assert_eq!(name("f", "a".repeat(253)).unwrap().len(), 253);
        assert_eq!(refused(name("f", String::new())), "f is empty");
        assert_eq!(refused(name("f", "a".repeat(254))), "f: 254 bytes, the longest is 253");
        assert_eq!(refused(name("f", "a\nb".into())), r#"f: "a\nb" holds a control character"#);
    }

    #[test]
    fn a_path_with_dots_or_too_long_a_component_is_refused() {
        assert!(absolute_path("f", "/a/..b/c...".into()).is_ok());
        for text in ["/..", "/a/../b", "/a/.."] {
            assert!(refused(absolute_path("f", text.into())).ends_with("must not contain .."));
        }
        assert!(refused(absolute_path("f", format!("/{}", "a".repeat(256)))).contains("component"));
        assert!(refused(absolute_path("f", "/a".repeat(2048))).contains("4096 bytes"));
        assert!(refused(absolute_path("f", "a".into())).contains("not an absolute path"));
        assert!(refused(absolute_path("f", "/a\0b".into())).contains("zero byte"));
        assert!(refused(relative_path("f", "/a".into())).contains("not a relative path"));
    }

    #[test]
    fn the_number_that_means_unchanged_is_no_user() {
        assert_eq!(id("f", 4_294_967_294).unwrap(), u32::MAX - 1);
        for number in [-1, 4_294_967_295, i64::MAX, i64::MIN] {
            assert!(refused(id("f", number)).starts_with(&format!("f: {number} is not")));
        }
    }

    #[test]
    fn a_timeout_is_not_negative_and_does_not_overflow() {
        assert_eq!(seconds("f", 10).unwrap(), Duration::from_secs(10));
        assert!(std::time::Instant::now().checked_add(seconds("f", i64::MAX).unwrap()).is_some());
        assert_eq!(refused(seconds("f", -1)), "f: -1 is negative");
    }

    #[test]
    fn an_error_shows_no_more_than_the_beginning_of_a_long_value() {
        assert!(shown(&"é".repeat(5000)).len() < 300);
    }
}
