//! `--platform`: images for other machines than this one are neither pulled nor run.

use cais_dockerfile::Platform;
use serde::Deserialize;

use crate::error::{Context, Error, Kind, Result};
use crate::image::Image;

/// A platform as `docker save` and `docker load` send it, `{"os":"linux","architecture":"arm64"}`, as all others do.
///
/// # Errors
/// `InvalidArgument` for what is none.
pub(crate) fn spelled(json: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Parts {
        os: String,
        architecture: String,
        #[serde(default)]
        variant: String,
    }
    let parts: Parts =
        serde_json::from_str(json).context("invalid platform").kind(Kind::InvalidArgument)?;
    let text = format!("{}/{}/{}", parts.os, parts.architecture, parts.variant);
    Ok(text.trim_end_matches('/').to_owned())
}

/// # Errors
/// `NotFound` for a platform that is not the host's, `InvalidArgument` for what is none.
pub(crate) fn check_pull(wanted: Option<&str>) -> Result<()> {
    let Some(text) = wanted else { return Ok(()) };
    let host = Platform::host();
    if parse(text)?.fits(&host) {
        return Ok(());
    }
    let text = format!("no matching manifest for {text}: only images for {host} are taken in");
    Err(Error::not_found(text))
}

/// # Errors
/// `NotFound`, so that a client asks for one that fits, if the image `name` is for another platform.
pub(crate) fn check_image(wanted: Option<&str>, image: &Image, name: &str) -> Result<()> {
    let Some(text) = wanted else { return Ok(()) };
    let own = &image.config.platform;
    // An image need not say what it is for, and then is for us.
    let own = match (own.os.as_str(), own.architecture.as_str()) {
        ("", _) | (_, "") => Platform::host(),
        (os, architecture) => parse(&format!("{os}/{architecture}"))?,
    };
    if parse(text)?.fits(&own) {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "image with reference {name} was found but does not provide the specified platform ({text})"
    )))
}

fn parse(text: &str) -> Result<Platform> {
    Platform::parse(text).map_err(Error::invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_platform_is_pulled_in_every_spelling() {
        let host = Platform::host();
        for wanted in ["linux", host.architecture.as_str(), &format!("linux/{}", host.architecture)]
        {
            check_pull(Some(wanted)).unwrap();
        }
        check_pull(None).unwrap();
        for (wanted, kind) in [
            ("linux/s390x", Kind::NotFound),
            ("windows/amd64", Kind::NotFound),
            ("nonsense", Kind::InvalidArgument),
            ("a/b/c/d/e", Kind::InvalidArgument),
        ] {
            assert_eq!(check_pull(Some(wanted)).unwrap_err().kind(), kind, "{wanted}");
        }
    }

    #[test]
    fn a_platform_is_sent_as_an_object_too() {
        let read = |json: &str| spelled(json).map_err(|error| error.kind());
        assert_eq!(read(r#"{"os":"linux","architecture":"arm64"}"#).unwrap(), "linux/arm64");
        let json = r#"{"architecture":"arm","os":"linux","variant":"v7","os.version":""}"#;
        assert_eq!(read(json).unwrap(), "linux/arm/v7");
        for other in ["linux/arm64", "{}", "[]"] {
            assert_eq!(read(other), Err(Kind::InvalidArgument), "{other}");
        }
    }
}
