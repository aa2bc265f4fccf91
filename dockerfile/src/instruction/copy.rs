//! COPY and ADD.

use crate::error::Result;
use crate::syntax::{Heredoc, Node};

use super::flags::{Flags, Kind};

/// What COPY and ADD take, and where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    pub paths: Vec<String>,
    /// From heredocs; they are copied after the paths.
    pub files: Vec<InlineFile>,
    pub destination: String,
}

/// A file whose content stands in the Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InlineFile {
    pub name: String,
    pub content: String,
    /// Variables in the content are expanded; not when the heredoc's name is quoted.
    pub expands: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    pub sources: Sources,
    /// The name or index of a stage, a named context or an image; empty for the context. Never expanded.
    pub from: String,
    /// `user:group`, numbers or names; may be empty.
    pub chown: String,
    /// Octal or symbolic; may be empty.
    pub chmod: String,
    pub link: bool,
    pub parents: bool,
    /// Patterns in the manner of `.dockerignore`. Not expanded.
    pub exclude: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Add {
    pub sources: Sources,
    pub chown: String,
    pub chmod: String,
    pub link: bool,
    pub exclude: Vec<String>,
    /// `sha256:…`, or a commit for git; may be empty.
    pub checksum: String,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
}

pub(super) fn copy(node: &Node) -> Result<Copy> {
    has_destination(node, "COPY")?;
    let flags = Flags::read(
        &node.flags,
        &[
            ("chown", Kind::Text),
            ("from", Kind::Text),
            ("chmod", Kind::Text),
            ("link", Kind::Switch),
            ("exclude", Kind::Texts),
            ("parents", Kind::Switch),
        ],
    )?;
    Ok(Copy {
        sources: sources(node, "COPY")?,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.texts("exclude"),
    })
}

pub(super) fn add(node: &Node) -> Result<Add> {
    has_destination(node, "ADD")?;
    let flags = Flags::read(
        &node.flags,
        &[
            ("chown", Kind::Text),
            ("chmod", Kind::Text),
            ("link", Kind::Switch),
            ("keep-git-dir", Kind::Switch),
            ("checksum", Kind::Text),
            ("unpack", Kind::Switch),
            ("exclude", Kind::Texts),
        ],
    )?;
    Ok(Add {
        sources: sources(node, "ADD")?,
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link").unwrap_or(false),
        exclude: flags.texts("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

fn has_destination(node: &Node, keyword: &str) -> Result<()> {
    if node.arguments.len() < 2 {
        return Err(format!(
            "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
        .into());
    }
    Ok(())
}

fn sources(node: &Node, keyword: &str) -> Result<Sources> {
    let Some((destination, sources)) = node.arguments.split_last() else {
        return Ok(Sources::default());
    };
    if Heredoc::parse(destination).is_some() {
        return Err(format!("{keyword} cannot accept a heredoc as a destination").into());
    }
    let mut found = Sources { destination: destination.clone(), ..Sources::default() };
    for source in sources {
        let Some(heredoc) = Heredoc::parse(source) else {
            found.paths.push(source.clone());
            continue;
        };
        // Of two with the same name the later counts.
        let content = node.heredocs.iter().rfind(|known| known.name == heredoc.name);
        found.files.push(InlineFile {
            content: content
                .map(|known| Heredoc { content: known.content.clone(), ..heredoc.clone() }.text())
                .unwrap_or_default(),
            expands: heredoc.expands,
            name: heredoc.name,
        });
    }
    Ok(found)
}
