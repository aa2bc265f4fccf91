//! `build`: an image from a Dockerfile, made by the daemon.

use std::collections::BTreeMap;
use std::io::{self, Cursor, IsTerminal as _, Read, Write as _};
use std::path::{Path as LocalPath, PathBuf};

use cais_dockerfile::remote::Remote;
use clap::Args;
use serde_json::{Map, Value as Json};

use super::lint;
use crate::client::Path;
use crate::context::{Context, Dockerfile};
use crate::create::values;
use crate::error::{Context as _, Failure, Result};
use crate::http::{Payload, Response};
use crate::lending::Lending;
use crate::{Cais, board, output, progress, units};

/// Build an image from a Dockerfile
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are docker's flags")]
pub(crate) struct Build {
    /// Add a custom host-to-IP mapping ("host:ip")
    #[arg(long, value_name = "LIST")]
    add_host: Vec<String>,
    /// Allow extra privileged entitlement (e.g., "network.host", "security.insecure")
    #[arg(long, value_name = "LIST")]
    allow: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "LIST")]
    build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "LIST")]
    build_context: Vec<String>,
    /// Images to consider as cache sources; layers are found by what they are made from
    #[arg(long, value_name = "STRINGS")]
    cache_from: Vec<String>,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, default_value = "")]
    cgroup_parent: String,
    /// Check the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// Limit the CPU CFS (Completely Fair Scheduler) period
    #[arg(long)]
    cpu_period: Option<i64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long)]
    cpu_shares: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, default_value = "")]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, default_value = "")]
    cpuset_mems: String,
    /// Name of the Dockerfile (Default is "PATH/Dockerfile")
    #[arg(short, long, value_name = "STRING")]
    file: Option<String>,
    /// Always remove intermediate containers; none ever stays
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Write the image ID to the file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "LIST")]
    label: Vec<String>,
    /// Memory limit
    #[arg(short, long, value_parser = units::parse_bytes)]
    memory: Option<i64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_parser = values::swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, default_value = "")]
    platform: String,
    /// Set type of progress output ("auto", "plain", "tty"). Use plain to show the output of commands as it comes
    #[arg(long, default_value = "auto", value_parser = ["auto", "plain", "tty", "quiet"])]
    progress: String,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pull: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Remove intermediate containers after a successful build; none ever stays
    #[arg(long, hide = true, default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    rm: Option<String>,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "LIST")]
    secret: Vec<String>,
    /// Size of "/dev/shm"
    #[arg(long, value_parser = units::parse_bytes)]
    shm_size: Option<i64>,
    /// SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")
    #[arg(long, value_name = "STRINGS")]
    ssh: Vec<String>,
    /// Name and optionally a tag in the "name:tag" format
    #[arg(short, long, value_name = "LIST")]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, default_value = "")]
    target: String,
    /// Ulimit options
    #[arg(long)]
    ulimit: Vec<String>,
    /// A directory, the address of a git repository, an archive or a Dockerfile, or `-` for one of the latter two on standard input
    #[arg(value_name = "PATH | URL | -")]
    path: String,
}

/// Where the daemon gets what it builds from.
enum Source {
    Directory(Context),
    /// An archive that somebody else made, and the Dockerfile's place in it.
    Archive(Box<dyn Read>, String),
    /// An address for the daemon to fetch, and the Dockerfile's place there.
    Elsewhere(String, String),
}

impl Build {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let source = self.source()?;
        if self.check {
            let Source::Directory(context) = source else {
                return Err(Failure::new(
                    "--check needs a directory, or a Dockerfile on standard input",
                ));
            };
            return lint::check(&context, &self.target, &self.arguments());
        }
        let is_drawn = self.is_drawn()?;
        let mut lending = self.lending()?;
        let mut reply = self.begin(cais, source, &mut lending)?;
        lending.begin(cais);
        let is_quiet = self.quiet || self.progress == "quiet";
        let mut id = String::new();
        if is_quiet {
            id = progress::stream_of(reply.body)?;
            output::line(id.trim())?;
        } else {
            let on_aux = |aux: &crate::json::Value| id = aux["ID"].text().to_owned();
            let mut out = io::stdout();
            match is_drawn {
                true => board::show(&mut reply.body, &mut out, on_aux)?,
                false => progress::show(&mut reply.body, &mut out, on_aux)?,
            }
        }
        let Some(file) = &self.iidfile else { return Ok(()) };
        write(file, id.trim()).context(file.display())
    }

    /// Whether the build is drawn on the terminal.
    fn is_drawn(&self) -> Result<bool> {
        match self.progress.as_str() {
            _ if self.quiet => Ok(false),
            "auto" => Ok(io::stdout().is_terminal()),
            "tty" if io::stdout().is_terminal() => Ok(true),
            "tty" => Err(Failure::new("--progress tty: standard output is no terminal")),
            _ => Ok(false),
        }
    }

    fn lending(&self) -> Result<Lending> {
        let mut lending = Lending::default();
        self.ssh.iter().try_for_each(|it| lending.add_agent(it))?;
        self.secret.iter().try_for_each(|it| lending.add_secret(it))?;
        for text in &self.build_context {
            let invalid =
                || Failure::new(format!("invalid context value: {text}, expected key=value"));
            let (name, value) = text.split_once('=').ok_or_else(invalid)?;
            lending.add_context(name, value)?;
        }
        Ok(lending)
    }

    fn source(&self) -> Result<Source> {
        if self.path == "-" {
            if self.file.as_deref() == Some("-") {
                return Err(Failure::new(
                    "invalid argument: can't use stdin for both build context and dockerfile",
                ));
            }
            return self.standard_input();
        }
        let is_elsewhere = matches!(Remote::parse(&self.path), Ok(Some(_)) | Err(_))
            || (self.path.starts_with("github.com/") && !LocalPath::new(&self.path).exists());
        if is_elsewhere {
            return match self.file.as_deref() {
                Some("-") => Err(Failure::new(
                    "a Dockerfile on standard input for a context from elsewhere is not there yet: docker's buildx has it, with this daemon too",
                )),
                _ => Ok(Source::Elsewhere(self.path.clone(), self.dockerfile())),
            };
        }
        let mut text = String::new();
        let absolute;
        let dockerfile = match self.file.as_deref() {
            Some("-") => {
                io::stdin().read_to_string(&mut text).context("read the Dockerfile")?;
                Dockerfile::Inline(&text)
            }
            Some(file) => {
                // As with docker, the file's path is the user's and not the directory's.
                absolute = std::path::absolute(file)?;
                Dockerfile::File(absolute.to_str().unwrap_or(file))
            }
            None => Dockerfile::File("Dockerfile"),
        };
        Context::open(&std::path::absolute(&self.path)?, dockerfile).map(Source::Directory)
    }

    /// In a context that is no directory here.
    fn dockerfile(&self) -> String {
        self.file.clone().unwrap_or_else(|| "Dockerfile".to_owned())
    }

    /// An archive, or else the text of a Dockerfile that has no context.
    fn standard_input(&self) -> Result<Source> {
        let mut start = Vec::new();
        io::stdin().take(512).read_to_end(&mut start)?;
        let magics: [&[u8]; 4] =
            [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
        let is_archive = start.get(257..262) == Some(b"ustar")
            || magics.iter().any(|magic| start.starts_with(magic));
        if is_archive {
            let whole = Cursor::new(start).chain(io::stdin());
            return Ok(Source::Archive(Box::new(whole), self.dockerfile()));
        }
        io::stdin().read_to_end(&mut start)?;
        let text = String::from_utf8_lossy(&start);
        Ok(Source::Directory(Context::without_files(&text)))
    }

    fn begin(&self, cais: &Cais, source: Source, lending: &mut Lending) -> Result<Response> {
        let config = cais.config_or_none();
        let proxies = config.proxies(&cais.client.host.to_string());
        let mut path = |dockerfile: &str| lending.announced(self.path(dockerfile, &proxies)?);
        match source {
            Source::Directory(context) => context.send(cais, path(&context.dockerfile)?),
            Source::Archive(mut archive, dockerfile) => {
                let headers = cais.registry_config()?;
                let payload = Payload::Archive(&mut archive);
                cais.client.call("POST", path(&dockerfile)?, payload, headers)
            }
            Source::Elsewhere(address, dockerfile) => {
                let headers = cais.registry_config()?;
                let path = path(&dockerfile)?.with("remote", &address);
                cais.client.call("POST", path, Payload::None, headers)
            }
        }
    }

    /// `NAME=VALUE`, and names alone with the value that they have here.
    fn arguments(&self) -> BTreeMap<String, Option<String>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), std::env::var(text).ok()),
        };
        self.build_arg.iter().map(pair).collect()
    }

    fn path(&self, dockerfile: &str, proxies: &[(String, &str)]) -> Result<Path> {
        let mut arguments: Map<String, Json> =
            self.arguments().into_iter().map(|(name, value)| (name, value.into())).collect();
        for (name, value) in proxies {
            arguments.entry(name.clone()).or_insert_with(|| (*value).into());
        }
        let hosts = values::extra_hosts(&self.add_host).map_err(Failure::new)?;
        let ulimits: std::result::Result<Vec<Json>, _> =
            self.ulimit.iter().map(|it| values::ulimit(it)).collect();
        let ulimits = ulimits.map_err(Failure::new)?;
        let mut path = Path::new(&["build"])
            .with("version", "1")
            .with("rm", "1")
            .with("dockerfile", dockerfile)
            .with("buildargs", &Json::from(arguments).to_string())
            .with("labels", &values::pairs(&self.label).to_string())
            .with("networkmode", &self.network)
            .with_text("target", &self.target)
            .with_text("platform", &self.platform)
            .with_text("cgroupparent", &self.cgroup_parent)
            .with_text("cpusetcpus", &self.cpuset_cpus)
            .with_text("cpusetmems", &self.cpuset_mems)
            .with_flag("nocache", self.no_cache)
            .with_flag("pull", self.pull)
            .with_flag("q", self.quiet || self.progress == "quiet");
        if self.is_drawn()? {
            path = board::asked(path);
        }
        for tag in &self.tag {
            path = path.with("t", tag);
        }
        for allowed in &self.allow {
            path = path.with("allow", allowed);
        }
        for host in &hosts {
            path = path.with("extrahosts", host);
        }
        for (key, number) in [
            ("memory", self.memory),
            ("memswap", self.memory_swap),
            ("cpushares", self.cpu_shares),
            ("cpuperiod", self.cpu_period),
            ("cpuquota", self.cpu_quota),
            ("shmsize", self.shm_size),
        ] {
            if let Some(number) = number {
                path = path.with(key, &number.to_string());
            }
        }
        if !ulimits.is_empty() {
            path = path.with("ulimits", &Json::from(ulimits).to_string());
        }
        if !self.cache_from.is_empty() {
            path = path.with("cachefrom", &Json::from(self.cache_from.clone()).to_string());
        }
        Ok(path)
    }
}

fn write(file: &LocalPath, id: &str) -> io::Result<()> {
    std::fs::File::create(file)?.write_all(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        build: Build,
    }

    fn build(words: &[&str]) -> Build {
        Line::parse_from([&["build"], words].concat()).build
    }

    #[test]
    fn flags_become_the_words_of_the_call() {
        let words = [
            "-t",
            "a:1",
            "-tb",
            "--build-arg",
            "X=1=2",
            "--add-host=h=1.2.3.4",
            "-m64m",
            "--no-cache",
            ".",
        ];
        let path = format!("{:?}", build(&words).path("Dockerfile", &[]).unwrap());
        for expected in [
            "t=a%3A1&t=b",
            "extrahosts=h%3A1%2E2%2E3%2E4",
            "memory=67108864",
            "nocache=1",
            "%22X%22%3A%221%3D2%22",
        ] {
            assert!(path.contains(expected), "{expected} is not in {path}");
        }
        assert!(build(&["--ulimit", "nofile", "."]).path("x", &[]).is_err());
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (words, expected) in [
            (vec!["--secret", "id=/nowhere/x", "."], "failed to read secret"),
            (vec!["--build-context", "x", "."], "expected key=value"),
            (vec!["--build-context", "x=/nowhere/x", "."], "context x"),
            (vec!["--ssh=default=/etc/passwd", "."], "no agent's socket"),
            (vec!["-f", "-", "https://example.com/x.git"], "a context from elsewhere"),
            (vec!["-f", "-", "-"], "stdin for both"),
        ] {
            let build = build(&words);
            let failure =
                build.lending().map(drop).and_then(|()| build.source().map(drop)).unwrap_err();
            assert!(failure.message.contains(expected), "{}", failure.message);
        }
        let source = build(&["-fsub/D", "github.com/a/b"]).source().unwrap();
        assert!(
            matches!(source, Source::Elsewhere(address, file) if address == "github.com/a/b" && file == "sub/D")
        );
    }
}
