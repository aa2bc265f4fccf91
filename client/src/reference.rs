//! Names of images: which registry, repository and tag a user's word means.

/// The key under which credentials for this image's registry are kept.
pub(crate) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if is_host(host) && host != "docker.io" && host != "index.docker.io" => {
            host
        }
        _ => crate::config_file::HUB,
    }
}

fn is_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost"
}

/// The name, and the tag or digest behind it, if any.
pub(crate) fn split(image: &str) -> (&str, Option<&str>) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, Some(digest));
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    }
}

/// With `:latest`, unless it says another tag or a digest.
pub(crate) fn tagged(image: &str) -> String {
    match split(image) {
        (_, Some(_)) => image.to_owned(),
        (name, None) => format!("{name}:latest"),
    }
}

/// Whether it can be a name at all.
///
/// # Errors
/// Docker's words.
pub(crate) fn check(image: &str) -> Result<(), String> {
    let full = canonical(image);
    let (name, _) = split(&full);
    let (_, repository) = name.split_once('/').unwrap_or(("", name));
    if image.is_empty() || repository.is_empty() || repository.split('/').any(str::is_empty) {
        return Err("invalid reference format".to_owned());
    }
    if repository.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(format!(
            "invalid reference format: repository name ({repository}) must be lowercase"
        ));
    }
    let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    if repository.contains(|c: char| !is_known(c)) {
        return Err("invalid reference format".to_owned());
    }
    Ok(())
}

/// In full: `docker.io/library/busybox:latest`.
pub(crate) fn canonical(image: &str) -> String {
    let tagged = tagged(image);
    match tagged.split_once('/') {
        Some(("index.docker.io", rest)) => format!("docker.io/{rest}"),
        Some((host, _)) if is_host(host) => tagged,
        Some(_) => format!("docker.io/{tagged}"),
        None => format!("docker.io/library/{tagged}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(split("busybox"), ("busybox", None));
        assert_eq!(split("localhost:5000/a/b"), ("localhost:5000/a/b", None));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", Some("1")));
        assert_eq!(split("a@sha256:12"), ("a", Some("sha256:12")));
        assert_eq!(tagged("a"), "a:latest");
        assert_eq!(tagged("a:1"), "a:1");
        assert_eq!(canonical("a"), "docker.io/library/a:latest");
        assert_eq!(canonical("a/b:1"), "docker.io/a/b:1");
        assert_eq!(canonical("localhost:5000/b"), "localhost:5000/b:latest");
        assert_eq!(check("reg:5000/a/b@sha256:0"), Ok(()));
        assert_eq!(
            check("A").unwrap_err(),
            "invalid reference format: repository name (library/A) must be lowercase"
        );
        assert!(check("a b").is_err() && check("").is_err() && check("a//b").is_err());
        for (image, registry) in [
            ("busybox", crate::config_file::HUB),
            ("library/busybox", crate::config_file::HUB),
            ("docker.io/x/y", crate::config_file::HUB),
            ("localhost/x", "localhost"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }
}
