//! `--platform`: images for other machines than this one are neither pulled nor run.

use cais_dockerfile::Platform;

use crate::error::{Error, Result};
use crate::image::Image;

/// # Errors
/// `NotFound` for a platform that is not the host's, `InvalidArgument` for what is none.
pub(crate) fn check_pull(wanted: Option<&str>) -> Result<()> {
    let Some(text) = wanted else { return Ok(()) };
    let host = Platform::host();
    if parse(text)?.fits(&host) {
        return Ok(());
    }
    let text = format!("no matching manifest for {text}: only images for {host} can be pulled");
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
    use crate::error::Kind;

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
}
