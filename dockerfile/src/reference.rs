//! Whether a text can name an image. Reading the name is the business of who pulls it.

use std::sync::LazyLock;

use regex::Regex;

/// What a repository's path may have.
const LONGEST_PATH: usize = 255;

/// # Errors
/// In the words of the distribution project: `invalid reference format`
pub fn check(text: &str) -> Result<(), String> {
    if text.len() == 64
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    {
        return Err(format!(
            "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        ));
    }
    let (domain, rest) = split_domain(text);
    let path = rest.split(':').next().unwrap_or_default();
    if path != path.to_lowercase() {
        return Err(format!(
            "invalid reference format: repository name ({path}) must be lowercase"
        ));
    }
    let invalid = || "invalid reference format".to_owned();
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest.as_str(), None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let Some(grammar) = GRAMMAR.as_ref() else { return Err(invalid()) };
    let is_valid = grammar.domain.is_match(&domain)
        && path.split('/').all(|component| grammar.component.is_match(component))
        && tag.is_none_or(|tag| grammar.tag.is_match(tag))
        && digest.is_none_or(|digest| grammar.digest.is_match(digest));
    if !is_valid {
        return Err(invalid());
    }
    if path.len() > LONGEST_PATH {
        return Err("repository name must not be more than 255 characters".to_owned());
    }
    digest.map_or(Ok(()), check_digest)
}

struct Grammar {
    domain: Regex,
    component: Regex,
    tag: Regex,
    digest: Regex,
}

static GRAMMAR: LazyLock<Option<Grammar>> = LazyLock::new(|| {
    let whole = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).ok();
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    Some(Grammar {
        domain: whole(&format!(r"(?:{label}(?:[.]{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"))?,
        component: whole("[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*")?,
        tag: whole("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")?,
        digest: whole("[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")?,
    })
});

/// A first part with a dot, a port or capitals is a registry; without one it is Docker Hub.
fn split_domain(text: &str) -> (String, String) {
    let hub = "docker.io";
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.to_lowercase() != first =>
        {
            let domain = if first == "index.docker.io" { hub } else { first };
            (domain, rest)
        }
        _ => (hub, text),
    };
    let rest = if domain == hub && !rest.contains('/') {
        format!("library/{rest}")
    } else {
        rest.to_owned()
    };
    (domain.to_owned(), rest)
}

/// # Errors
/// `unsupported digest algorithm` and its like
pub fn check_digest(digest: &str) -> Result<(), String> {
    let invalid = || "invalid checksum digest format".to_owned();
    let (algorithm, hex) = digest.split_once(':').ok_or_else(invalid)?;
    if algorithm.is_empty() || hex.is_empty() {
        return Err(invalid());
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if is_digest(algorithm, hex) => return Err("unsupported digest algorithm".to_owned()),
        _ => return Err(invalid()),
    };
    if hex.len() != length {
        return Err("invalid checksum digest length".to_owned());
    }
    if !hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(invalid());
    }
    Ok(())
}

/// Whether it could be one of an algorithm that is not known.
fn is_digest(algorithm: &str, encoded: &str) -> bool {
    let mut parts = algorithm.split(['.', '+', '_', '-']);
    parts.all(|part| {
        !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
    }) && encoded.bytes().all(|it| it.is_ascii_alphanumeric() || b"=_-".contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_told_from_other_texts() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        for name in ["a", "a/b:1", "localhost/a", "r.io:5000/a/b_c__d-e.f", "[::1]:5000/a"] {
            assert_eq!(check(name), Ok(()), "{name}");
            assert_eq!(check(&format!("{name}{digest}")), Ok(()), "{name}");
        }
        for (name, why) in [
            ("", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a b", "invalid reference format"),
            (":1", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("aB", "invalid reference format: repository name (library/aB) must be lowercase"),
            ("a@sha256:abcd", "invalid reference format"),
            ("a@md5:0123456789abcdef0123456789abcdef", "unsupported digest algorithm"),
        ] {
            assert_eq!(check(name), Err(why.to_owned()), "{name}");
        }
    }
}
