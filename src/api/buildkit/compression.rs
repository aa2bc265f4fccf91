//! How a client wants layers compressed that leave: attributes of outputs and of caches have the same names.

use std::collections::BTreeMap;

use super::attrs::is_true;
use crate::api::docker::convert::create::unsupported;
use crate::error::{Error, Result};
use crate::image::compression::{Compression, GZIP_LEVELS, Method, ZSTD_LEVELS};

/// gzip if nobody says otherwise, as BuildKit has it.
///
/// # Errors
/// `Unsupported`, by name, for a method that we lack; `InvalidArgument` for a level that the method has not.
pub(super) fn read(attrs: &BTreeMap<String, String>) -> Result<Compression> {
    let attr = |key: &str| attrs.get(key).map(String::as_str).unwrap_or_default();
    let (method, levels) = match attr("compression") {
        "" | "gzip" => (Method::Gzip, Some(GZIP_LEVELS)),
        "zstd" => (Method::Zstd, Some(ZSTD_LEVELS)),
        "uncompressed" => (Method::None, None),
        "estargz" => return unsupported("the compression \"estargz\""),
        other => {
            return Err(Error::invalid(format!("unsupported layer compression type: {other}")));
        }
    };
    let level = match attr("compression-level") {
        "" => None,
        text => {
            let number: Option<i32> = text.parse().ok();
            let wrong = || Error::invalid(format!("invalid compression-level: {text}"));
            let number = number.ok_or_else(wrong)?;
            // What is not compressed has no use for one.
            if levels.is_some_and(|levels| !levels.contains(&number)) {
                return Err(wrong());
            }
            Some(number)
        }
    };
    Ok(Compression { method, level, is_forced: is_true(attr("force-compression")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn of(pairs: &[(&str, &str)]) -> Result<Compression> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        read(&pairs.collect())
    }

    #[test]
    fn methods_and_levels_are_read() {
        assert_eq!(of(&[]).unwrap(), Compression::GZIP);
        assert_eq!(of(&[("compression", "uncompressed")]).unwrap(), Compression::NONE);
        let all =
            [("compression", "zstd"), ("compression-level", "19"), ("force-compression", "true")];
        let expected = Compression { method: Method::Zstd, level: Some(19), is_forced: true };
        assert_eq!(of(&all).unwrap(), expected);
        for (pairs, kind) in [
            (&[("compression", "estargz")][..], Kind::Unsupported),
            (&[("compression", "lz4")], Kind::InvalidArgument),
            (&[("compression-level", "10")], Kind::InvalidArgument),
            (&[("compression-level", "best")], Kind::InvalidArgument),
        ] {
            assert_eq!(of(pairs).unwrap_err().kind(), kind, "{pairs:?}");
        }
    }
}
