//! The sources of ADD that are elsewhere: git repositories, and files behind an address.
//!
//! ```text
//!   https://host/repository.git#reference:directory        http only with .git at the end
//!   https://host/repository.git?tag=v1&subdir=a&checksum=… instead of the fragment
//!   git@host:repository, ssh://…, git://…
//! ```

use crate::error::{Fault, Result};
use crate::instruction::mount::boolean;
use crate::quote::quote;

/// Where a source of ADD comes from, when it is not in the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    Git(Git),
    /// To be fetched as it is.
    Http,
}

/// A git repository, and what of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Git {
    /// For git: without query and fragment.
    pub remote: String,
    /// A branch, tag or commit; empty for the remote's default.
    pub reference: String,
    /// Relative; it cannot leave the repository. Empty for the whole.
    pub directory: String,
    /// The commit that the reference must be; may be empty.
    pub checksum: String,
    pub keep_git_dir: Option<bool>,
    pub submodules: Option<bool>,
    /// `checkout`, `commit` or empty.
    pub mtime: String,
    /// The checksum is fetched itself, whatever the reference is by now.
    pub fetch_by_commit: bool,
}

impl Remote {
    /// None for a path in the context. `github.com/…` without a scheme is one.
    ///
    /// # Errors
    /// A query that BuildKit refuses: `unexpected query "x"`
    pub fn parse(source: &str) -> Result<Option<Self>> {
        if let Some(parts) = Parts::parse(source) {
            return parts
                .git()
                .map(|git| Some(Self::Git(git)))
                .map_err(|why| Fault::at(source, why));
        }
        let is_http = source.starts_with("http://") || source.starts_with("https://");
        Ok(is_http.then_some(Self::Http))
    }
}

/// The address of a repository, cut.
struct Parts {
    remote: String,
    query: Vec<(String, String)>,
    fragment: String,
}

impl Parts {
    fn parse(source: &str) -> Option<Self> {
        match source.split_once("://") {
            Some((scheme, rest))
                if !scheme.is_empty() && scheme.bytes().all(|it| it.is_ascii_alphanumeric()) =>
            {
                Self::of_url(&scheme.to_ascii_lowercase(), rest)
            }
            _ => Self::of_scp(source),
        }
    }

    fn of_url(scheme: &str, rest: &str) -> Option<Self> {
        if rest.contains(|it: char| it.is_ascii_control()) {
            return None;
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let slash = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(slash);
        let decoded = decode(path)?;
        let fits = match scheme {
            "http" | "https" => decoded.ends_with(".git"),
            "git" | "ssh" => true,
            _ => false,
        };
        if !fits || !is_host(host) {
            return None;
        }
        Some(Self {
            remote: format!("{scheme}://{host}{}", encode(path)),
            // What cannot be read of it is not there.
            query: pairs(query).flatten().collect(),
            fragment: decode(fragment)?,
        })
    }

    /// `user@host:path`, as scp has it.
    fn of_scp(source: &str) -> Option<Self> {
        let (user, rest) = source.split_once('@')?;
        let (host, rest) = rest.split_once(':')?;
        let is_name = |text: &str, marks: &[u8]| {
            let mut bytes = text.bytes();
            !text.is_empty() && bytes.all(|it| it.is_ascii_alphanumeric() || marks.contains(&it))
        };
        if !is_name(user, b"-_") || !is_name(host, b"-.") || rest.contains('\n') {
            return None;
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Some(Self {
            remote: format!("{user}@{host}:{path}"),
            query: pairs(query).collect::<Option<_>>()?,
            fragment: fragment.to_owned(),
        })
    }

    fn git(self) -> std::result::Result<Git, String> {
        let (reference, directory) = self.fragment.split_once(':').unwrap_or((&self.fragment, ""));
        let mut git = Git {
            remote: self.remote,
            reference: reference.to_owned(),
            directory: cleaned(directory),
            ..Git::default()
        };
        let (mut tag, mut branch) = (String::new(), String::new());
        for (index, (name, value)) in self.query.iter().enumerate() {
            if self.query[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(format!("query {} has multiple values", quote(name)));
            }
            let may_be_bare =
                matches!(name.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !may_be_bare {
                return Err(format!("query {} has no value", quote(name)));
            }
            let switch = || match value.as_str() {
                "" => Ok(true),
                _ => {
                    boolean(value).ok_or_else(|| format!("invalid {name} value: {}", quote(value)))
                }
            };
            match name.as_str() {
                "ref" => same(&mut git.reference, value, "ref")?,
                "subdir" => same(&mut git.directory, value, "subdir")?,
                "tag" => tag.clone_from(value),
                "branch" => branch.clone_from(value),
                "checksum" | "commit" => git.checksum.clone_from(value),
                "keep-git-dir" => git.keep_git_dir = Some(switch()?),
                "submodules" => git.submodules = Some(switch()?),
                "fetch-by-commit" => git.fetch_by_commit = switch()?,
                "mtime" if value == "checkout" || value == "commit" => git.mtime.clone_from(value),
                "mtime" => {
                    let value = quote(value);
                    return Err(format!(
                        "invalid mtime value: {value} (must be \"checkout\" or \"commit\")"
                    ));
                }
                _ => return Err(format!("unexpected query {}", quote(name))),
            }
        }
        if !tag.is_empty() {
            same(&mut git.reference, &prefixed("refs/tags/", &tag), "ref")?;
            if !branch.is_empty() {
                return Err("branch conflicts with tag".to_owned());
            }
        }
        if !branch.is_empty() {
            same(&mut git.reference, &prefixed("refs/heads/", &branch), "ref")?;
        }
        // BuildKit cleans it when it checks out.
        git.directory = cleaned(&git.directory);
        Ok(git)
    }
}

/// Told twice, it must be the same.
fn same(known: &mut String, value: &str, what: &str) -> std::result::Result<(), String> {
    if !known.is_empty() && known != value {
        return Err(format!("{what} conflicts: {} vs {}", quote(known), quote(value)));
    }
    value.clone_into(known);
    Ok(())
}

fn prefixed(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Relative, without `..`: what leads out of the repository leads to its top.
fn cleaned(directory: &str) -> String {
    crate::dockerignore::clean(&format!("/{directory}")).trim_start_matches('/').to_owned()
}

/// `user@host:port`; the port is a number.
fn is_host(authority: &str) -> bool {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = match host.rsplit_once(']') {
        Some((_, port)) => port.strip_prefix(':').or(port.is_empty().then_some("")),
        None => host.split_once(':').map_or(Some(""), |(_, port)| Some(port)),
    };
    let is_written = |it: char| !it.is_whitespace() && !"<>\"%\\^`{|}".contains(it);
    port.is_some_and(|port| port.bytes().all(|it| it.is_ascii_digit()))
        && authority.chars().all(is_written)
}

/// The pairs of a query; None for one that cannot be read.
fn pairs(query: &str) -> impl Iterator<Item = Option<(String, String)>> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| decode(&text.replace('+', " "));
        (!pair.contains(';')).then_some(())?;
        Some((decoded(name)?, decoded(value)?))
    })
}

/// None for a percent sign without two digits behind it.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).filter(|it| it.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Escapes what an address cannot hold as it is.
fn encode(path: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte);
    path.bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(source: &str) -> Git {
        match Remote::parse(source) {
            Ok(Some(Remote::Git(git))) => git,
            other => panic!("{source}: {other:?}"),
        }
    }

    #[test]
    fn a_repository_is_told_from_a_file_and_from_a_path() {
        assert_eq!(git("https://x.io/a.git").remote, "https://x.io/a.git");
        assert_eq!(
            git("git@x.io:a/b#v1:c/../../d"),
            Git {
                remote: "git@x.io:a/b".to_owned(),
                reference: "v1".to_owned(),
                directory: "d".to_owned(),
                ..Git::default()
            }
        );
        assert_eq!(git("ssh://me@x.io:22/a").remote, "ssh://me@x.io:22/a");
        assert_eq!(Remote::parse("https://x.io/a.tgz"), Ok(Some(Remote::Http)));
        for path in ["a", "./a.git", "github.com/a/b", "ftp://x/a.git", "a@b", "c:\\a"] {
            assert_eq!(Remote::parse(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn a_query_says_the_same_as_a_fragment_and_more() {
        let found =
            git("https://x.io/a.git?tag=v1&subdir=s&commit=abc&submodules=false&keep-git-dir");
        assert_eq!((found.reference.as_str(), found.directory.as_str()), ("refs/tags/v1", "s"));
        assert_eq!((found.submodules, found.keep_git_dir), (Some(false), Some(true)));
        assert_eq!(found.checksum, "abc");
        for (query, why) in [
            ("x=1", "unexpected query \"x\""),
            ("ref", "query \"ref\" has no value"),
            ("ref=a&ref=b", "query \"ref\" has multiple values"),
            ("tag=a&branch=b", "branch conflicts with tag"),
            ("submodules=maybe", "invalid submodules value: \"maybe\""),
            ("ref=b#a", "ref conflicts: \"a\" vs \"b\""),
        ] {
            let source = format!("https://x.io/a.git?{query}");
            assert_eq!(Remote::parse(&source).unwrap_err().message, why);
        }
    }
}
