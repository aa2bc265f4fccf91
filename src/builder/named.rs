//! Names that a client gives a meaning of its own to (`--build-context`): what FROM and `--from` find under them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cais_dockerfile::Platform;

use super::Built;
use crate::image::reference::Reference;

/// What a client gives a name to.
#[derive(Clone)]
pub(crate) enum Named {
    /// A reference.
    Image(String),
    /// Files that it has, as [`super::Client::named_context`] is asked for them.
    Files(String),
    /// What another build made.
    Built(Arc<Built>),
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(name) => f.debug_tuple("Image").field(name).finish(),
            Self::Files(key) => f.debug_tuple("Files").field(key).finish(),
            Self::Built(_) => f.write_str("Built"),
        }
    }
}

/// All names of one client, each for one platform or for any.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(BTreeMap<String, Vec<(Option<Platform>, Named)>>);

impl Names {
    /// What was said before of the same name and platform does not count any more.
    pub(crate) fn add(&mut self, name: &str, platform: Option<Platform>, means: Named) {
        let all = self.0.entry(context_name(name)).or_default();
        all.retain(|(known, _)| *known != platform);
        all.push((platform, means));
    }

    /// What is said of the platform goes before what is said of all.
    pub(crate) fn find(&self, name: &str, platform: &Platform) -> Option<&Named> {
        let all = self.0.get(&context_name(name))?;
        let exact = all.iter().find(|(of, _)| of.as_ref() == Some(platform));
        let fits = || all.iter().find(|(of, _)| of.as_ref().is_some_and(|of| of.fits(platform)));
        let any = || all.iter().find(|(of, _)| of.is_none());
        exact.or_else(fits).or_else(any).map(|(_, means)| means)
    }
}

/// One form for all spellings of a name: `docker.io/library/busybox:latest` is `busybox`.
pub(crate) fn context_name(text: &str) -> String {
    let Ok(name) = Reference::parse(text) else { return text.to_owned() };
    let name = name.familiar();
    name.strip_suffix(":latest").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_meaning_for_each_platform_however_it_is_spelt() {
        let mut names = Names::default();
        let platform = |text: &str| Platform::parse(text).unwrap();
        names.add("busybox", None, Named::Image("any".to_owned()));
        names.add("busybox", Some(platform("linux/arm64")), Named::Image("arm".to_owned()));
        names.add(
            "Lib",
            Some(platform("linux/arm64")),
            Named::Files("Lib::linux/arm64".to_owned()),
        );
        let found = |name: &str, on: &str| match names.find(name, &platform(on)) {
            Some(Named::Image(text) | Named::Files(text)) => text.clone(),
            Some(Named::Built(_)) | None => "none".to_owned(),
        };
        assert_eq!(found("docker.io/library/busybox:latest", "linux/amd64"), "any");
        assert_eq!(found("busybox", "linux/arm64"), "arm");
        assert_eq!(found("Lib", "linux/arm64"), "Lib::linux/arm64");
        assert_eq!(found("Lib", "linux/amd64"), "none");
        assert_eq!(found("lib", "linux/arm64"), "none");
    }
}
