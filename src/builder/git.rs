//! Git repositories as sources of ADD and as contexts, by the node's own `git`.
//!
//! Nothing of the node's configuration takes part, no helper is started that git does not bring, and a repository leads to
//! no files of the node: neither it nor its submodules may be named by a path.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cais_dockerfile::remote::Git;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::copy::Owners;
use super::download::{Fetched, without_secrets};
use super::progress::Failure;
use super::stage::Stage;
use super::{Context, blocking};
use crate::engine::files::open_below;
use crate::error::{Context as _, Error, Kind, Result};
use crate::image::{ImageStore, Workplace};

const TREE: &str = "tree";
/// Of what git says when it fails, and of what it answers.
const MOST_SAID: u64 = 2_000;
/// For one call of git: a server may be slow, and not silent for ever.
const PATIENCE: Duration = Duration::from_secs(3600);
/// ssh(1): nothing of the user that git is run by, and nobody is asked.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o IdentitiesOnly=yes \
                   -o IdentityAgent=none -o ConnectTimeout=30 -o ServerAliveInterval=30";
/// git(1): how a repository and its submodules may be reached; not by a path of the node.
const PROTOCOLS: &str = "https:http:git:ssh";
/// git-config(1): what a repository cannot make git do.
const SETTINGS: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "credential.helper=",
    "advice.detachedHead=false",
    // Bytes in a second, and for how many.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];

/// Checks a repository out into a directory of its own. What ADD was told by flags takes part as what stands in the address.
///
/// # Errors
/// `Unsupported` on a node without git; `Unavailable` with git's words; `InvalidArgument` for another commit than the wanted
/// one, and for a directory that the commit does not have.
pub(super) async fn check_out(stage: &Stage, git: Git) -> Result<Fetched, Failure> {
    let shown = format!("ADD failed: {}", without_secrets(&git.remote));
    let checking_out = fetched(stage.build.store(), git);
    Ok(stage.build.unless_cancelled(checking_out).await?.context(shown)?)
}

/// The same as a context of its own.
pub(super) async fn context(store: &ImageStore, git: Git) -> Result<Context> {
    let (workplace, tree) = repository(store, &git).await?;
    blocking(move || Context::of(workplace, settled(&tree, &git)?)).await
}

async fn fetched(store: &ImageStore, git: Git) -> Result<Fetched> {
    let (workplace, tree) = repository(store, &git).await?;
    let settled = blocking(move || settled(&tree, &git).map(|root| (root, git)));
    let (root, git) = settled.await?;
    let shown = without_secrets(&git.remote);
    Ok(Fetched::tree(root, Owners::AreNobodys, shown, workplace))
}

/// A repository, checked out with its submodules, and where it is.
async fn repository(store: &ImageStore, git: &Git) -> Result<(Arc<Workplace>, PathBuf)> {
    if git.mtime == "commit" {
        let text = "mtime=commit of a git repository is not supported yet";
        return Err(Error::new(Kind::Unsupported, text));
    }
    let workplace = Arc::new(store.workplace()?);
    let tree = workplace.make(TREE, 0o755)?;
    let home = workplace.path().to_owned();
    let place = Place { home, tree: tree.clone(), login: Login::of(&git.remote) };
    let commit = place.fetch(git).await?;
    if !git.checksum.is_empty() && !commit.starts_with(&git.checksum) {
        let text = format!("expected checksum to match {}, got {commit}", git.checksum);
        return Err(Error::invalid(text));
    }
    place.run(&["checkout", "--quiet", "--force", "--detach", &commit]).await?;
    if git.submodules != Some(false) && tree.join(".gitmodules").is_file() {
        let words = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
        place.run(&words).await?;
    }
    Ok((workplace, tree))
}

/// Where one repository is checked out.
struct Place {
    /// Of the user that git takes itself to be run by: there is no configuration.
    home: PathBuf,
    tree: PathBuf,
    login: Option<Login>,
}

/// A password in an address. Nobody is to be told of it: git has it from its environment, so that it is not in the repository's
/// configuration, which may become a part of an image.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    /// The beginning of an address, up to its path.
    with: String,
    without: String,
}

impl Login {
    /// `None` for an address that has none; ssh(1) needs the user.
    fn of(remote: &str) -> Option<Self> {
        let (scheme, rest) = remote.split_once("://")?;
        let authority = rest.split('/').next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@')?;
        let is_secret = user.contains(':') || scheme.starts_with("http");
        // The end of the host is a part of it: what is for one host is not for those that are called alike.
        is_secret.then(|| Self {
            with: format!("{scheme}://{user}@{host}/"),
            without: format!("{scheme}://{host}/"),
        })
    }

    /// An address, or a text that has some, without it.
    fn hidden(&self, text: &str) -> String {
        let bare = (self.with.trim_end_matches('/'), self.without.trim_end_matches('/'));
        text.replace(bare.0, bare.1)
    }
}

impl Place {
    /// The commit, which is in the repository then.
    async fn fetch(&self, git: &Git) -> Result<String> {
        self.run(&["init", "--quiet", "--template="]).await?;
        let origin = match &self.login {
            // One without a path has the host's end all the same, which git looks for.
            Some(login) if !git.remote.starts_with(&login.with) => login.without.clone(),
            Some(login) => login.hidden(&git.remote),
            None => git.remote.clone(),
        };
        self.run(&["remote", "add", "--", "origin", &origin]).await?;
        let reference = match (git.reference.as_str(), git.fetch_by_commit) {
            (_, true) if !git.checksum.is_empty() => git.checksum.as_str(),
            ("", _) => "HEAD",
            (given, _) => given,
        };
        if reference.starts_with('-') {
            return Err(Error::invalid(format!("no reference: {reference}")));
        }
        let one = ["fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", reference];
        match self.run(&one).await {
            Ok(_) => self.commit("FETCH_HEAD").await,
            // Not every server gives commits that nothing points to, and none gives a short name of one.
            Err(error) if is_commit(reference) => {
                let heads = "+refs/heads/*:refs/remotes/origin/*";
                let all = ["fetch", "--quiet", "--tags", "--", "origin", heads];
                self.run(&all).await?;
                self.commit(reference).await.map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    async fn commit(&self, reference: &str) -> Result<String> {
        let words = ["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")];
        Ok(self.run(&words).await?.trim().to_owned())
    }

    /// What git prints. It is killed when nobody waits for it any more.
    async fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GIT_") {
                command.env_remove(name);
            }
        }
        command
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .args(words)
            .current_dir(&self.tree)
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", &self.home)
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", SSH)
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(Login { with, without }) = &self.login {
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("url.{with}.insteadOf"))
                .env("GIT_CONFIG_VALUE_0", without);
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = "a git repository needs the program git on the node";
                return Err(Error::new(Kind::Unsupported, text));
            }
            Err(error) => return Err(error).context("run git"),
        };
        let mut group = Group(child);
        let ended = tokio::time::timeout(PATIENCE, group.end()).await;
        let ended = ended
            .map_err(|_| Error::new(Kind::Timeout, format!("no end of it within {PATIENCE:?}")));
        let (status, answer, said) = ended??;
        if status.success() {
            return Ok(answer);
        }
        let verb = words.first().unwrap_or(&"");
        let said = said.trim();
        let said = self.login.as_ref().map_or_else(|| said.to_owned(), |login| login.hidden(said));
        Err(Error::new(Kind::Unavailable, format!("git {verb}: {status}: {said}")))
    }
}

/// A call of git with what that starts: all of it is killed when nobody waits for it any more.
struct Group(Child);

impl Group {
    /// How it ended, and the beginning of what it wrote to its two streams.
    async fn end(&mut self) -> Result<(ExitStatus, String, String)> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let (answer, said) = tokio::join!(start_of(stdout), start_of(stderr));
        let status = self.0.wait().await.context("wait for git")?;
        Ok((status, answer.context("read from git")?, said.context("read from git")?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Without a number it has been waited for, and its number may be another's.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = id {
            // Who has ended meanwhile is a zombie of ours until the runtime waits for it.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end, and keeps no more than a message has.
async fn start_of(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let mut start = Vec::new();
    (&mut stream).take(MOST_SAID).read_to_end(&mut start).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&start).into_owned())
}

fn is_commit(reference: &str) -> bool {
    (7..=64).contains(&reference.len()) && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The part that is wanted, with the modes that git knows, whatever this process's mask is.
fn settled(tree: &Path, git: &Git) -> Result<OwnedFd> {
    let keeps_git = git.keep_git_dir == Some(true);
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).context("list a repository")? {
            let entry = entry.context("list a repository")?;
            let (path, kind) = (entry.path(), entry.file_type().context("stat")?);
            // Git checks out nothing of this name: its own, and that of a submodule, which is a file.
            if entry.file_name() == ".git" {
                match (keeps_git, kind.is_dir()) {
                    (true, _) => {}
                    (false, true) => std::fs::remove_dir_all(&path).context("remove .git")?,
                    (false, false) => std::fs::remove_file(&path).context("remove .git")?,
                }
            } else if !kind.is_symlink() {
                let mode = entry.metadata().context("stat")?.permissions().mode();
                let bits = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                std::fs::set_permissions(&path, PermissionsExt::from_mode(bits))
                    .context("chmod")?;
                if kind.is_dir() {
                    directories.push(path);
                }
            }
        }
    }
    let root = super::download::open(tree)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match git.directory.as_str() {
        "" => Ok(root),
        directory => {
            use std::os::fd::AsFd;

            open_below(root.as_fd(), Path::new(directory), flags)
                .with_context(|| format!("open {directory}"))
                .kind(Kind::InvalidArgument)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_kept_in_part_and_read_to_its_end() {
        let long = vec![b'x'; 100_000];
        let kept = start_of(Some(long.as_slice())).await.unwrap();
        assert_eq!(kept.len() as u64, MOST_SAID);
    }

    #[test]
    fn a_password_is_no_part_of_what_a_repository_knows() {
        let login = Login::of("https://u:p@x.io:8443/a/b.git").unwrap();
        assert_eq!(login.with, "https://u:p@x.io:8443/");
        assert_eq!(login.without, "https://x.io:8443/");
        assert_eq!(login.hidden("no 'https://u:p@x.io:8443/a'"), "no 'https://x.io:8443/a'");
        assert_eq!(Login::of("https://token@x.io").unwrap().without, "https://x.io/");
        for plain in ["https://x.io/a@b", "ssh://git@x.io/a", "git@x.io:a/b", "git://x.io/a"] {
            assert_eq!(Login::of(plain), None, "{plain}");
        }
    }

    #[test]
    fn commits_are_told_from_other_references() {
        for (reference, expected) in
            [("0123456", true), ("012345", false), ("v1.0.0", false), ("deadbeefcafe", true)]
        {
            assert_eq!(is_commit(reference), expected, "{reference}");
        }
    }
}
