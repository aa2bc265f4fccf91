//! Our own client, beside docker's, at the same door.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::docker::{Docker, Output, output};
use crate::wait::{LONG, eventually};

/// The program, where `caisd` is.
pub(crate) fn cais() -> PathBuf {
    match std::env::var_os("CAIS_BIN_DIR") {
        Some(directory) => PathBuf::from(directory).join("cais"),
        None => PathBuf::from(env!("CARGO_BIN_EXE_caisd")).with_file_name("cais"),
    }
}

impl Docker {
    /// `cais`, under its own name.
    pub(crate) fn cais_command(&self, words: &[&str]) -> Command {
        self.command_of(cais().to_str().unwrap(), words)
    }

    pub(crate) fn spawn_cais(&self, words: &[&str]) -> Child {
        self.cais_command(words).stdin(Stdio::piped()).spawn().expect("start cais")
    }

    pub(crate) async fn try_cais(&self, words: &[&str]) -> Output {
        let child = self.cais_command(words).spawn().expect("start cais");
        output(child, &format!("cais {}", words.join(" "))).await
    }

    /// It must succeed. What it wrote to standard output, without white space at its end.
    pub(crate) async fn cais(&self, words: &[&str]) -> String {
        let done = self.try_cais(words).await;
        assert_eq!(done.code, 0, "cais {}: {done:?}", words.join(" "));
        done.stdout.trim_end().to_owned()
    }

    /// It must fail. What it wrote to standard error.
    pub(crate) async fn cais_refused(&self, words: &[&str]) -> String {
        let done = self.try_cais(words).await;
        assert_ne!(done.code, 0, "cais {}: {done:?}", words.join(" "));
        done.stderr.trim_end().to_owned()
    }

    /// `cais`, called as `docker`.
    pub(crate) async fn try_cais_as_docker(&self, words: &[&str]) -> Output {
        let mut command = self.cais_command(words);
        command.arg0("docker");
        output(command.spawn().expect("start cais"), &words.join(" ")).await
    }

    /// A shell line on a terminal of its own, in which `$cais` is the program. What is typed comes from standard input.
    pub(crate) fn on_a_terminal(&self, line: &str) -> Child {
        let words = ["-qec", line, "/dev/null"];
        let mut command = self.command_of("script", &words);
        command.env("cais", cais()).env("SHELL", "/bin/sh").stdin(Stdio::piped());
        command.spawn().expect("start script")
    }

    /// Both clients say the same, byte for byte, and end with the same code. Texts with the time in them may change between
    /// two calls, so ours counts when docker said the same before and after it.
    pub(crate) async fn clients_agree(&self, words: &[&str]) {
        let (docker, ours) = eventually("docker to say the same twice", LONG, async || {
            let before = self.try_run(words).await;
            let ours = self.try_cais_as_docker(words).await;
            let after = self.try_run(words).await;
            (before == after).then_some((before, ours))
        })
        .await;
        assert_eq!(docker, ours, "docker {}", words.join(" "));
    }
}
