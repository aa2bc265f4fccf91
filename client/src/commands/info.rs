//! `info`.

use clap::Args;

use super::version::VERSION;
use crate::client::Path;
use crate::error::Result;
use crate::json::Value;
use crate::{Cais, output, table, units};

/// Display system-wide information
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// Format output using 'json' or a Go template
    #[arg(short, long, default_value = "")]
    format: String,
}

impl Info {
    pub(crate) fn run(&self, cais: &Cais) -> Result<()> {
        let info = cais.client.read(Path::new(&["info"]))?;
        if !self.format.is_empty() {
            return output::line(&table::object(&self.format, &with_client(info))?);
        }
        output::raw(&format!(
            "Client: Cais\n Version:    {VERSION}\n Context:    default\n Debug Mode: false\n\n"
        ))?;
        output::raw(&text(&info))?;
        for warning in info["Warnings"].items() {
            output::notice(warning.text());
        }
        Ok(())
    }
}

/// The daemon's members, and the client's own beside them.
fn with_client(info: Value) -> Value {
    let Value::Object(mut members) = info else { return info };
    let client = vec![
        ("Debug".to_owned(), false.into()),
        ("Version".to_owned(), VERSION.into()),
        ("Context".to_owned(), "default".into()),
        ("Plugins".to_owned(), Value::Array(Vec::new())),
        ("Warnings".to_owned(), Value::Null),
    ];
    members.push(("ClientInfo".to_owned(), Value::Object(client)));
    Value::Object(members)
}

fn text(info: &Value) -> String {
    let mut text = "Server:\n".to_owned();
    let mut line = |indent: usize, key: &str, value: &str| {
        text.push_str(&format!("{}{key}: {value}\n", " ".repeat(indent)));
    };
    for (indent, key, member) in [
        (1, "Containers", "Containers"),
        (2, "Running", "ContainersRunning"),
        (2, "Paused", "ContainersPaused"),
        (2, "Stopped", "ContainersStopped"),
        (1, "Images", "Images"),
    ] {
        line(indent, key, &info[member].integer().to_string());
    }
    line(1, "Server Version", info["ServerVersion"].text());
    line(1, "Storage Driver", info["Driver"].text());
    for pair in info["DriverStatus"].items() {
        if let [key, value] = pair.items() {
            line(2, key.text(), value.text());
        }
    }
    for (key, member) in [
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ] {
        line(1, key, info[member].text());
    }
    let words = |value: &Value| value.items().iter().map(Value::text).collect::<Vec<_>>().join(" ");
    text.push_str(" Plugins:\n");
    for key in ["Volume", "Network", "Log"] {
        text.push_str(&format!("  {key}: {}\n", words(&info["Plugins"][key])));
    }
    text.push_str(&format!(" Swarm: {}\n", info["Swarm"]["LocalNodeState"].text()));
    let runtimes: Vec<_> = info["Runtimes"].members().iter().map(|it| it.0.as_str()).collect();
    text.push_str(&format!(
        " Runtimes: {}\n Default Runtime: {}\n",
        runtimes.join(" "),
        info["DefaultRuntime"].text()
    ));
    text.push_str(" Security Options:\n");
    for option in info["SecurityOptions"].items() {
        text.push_str(&security_option(option.text()));
    }
    for (key, member) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ] {
        text.push_str(&format!(" {key}: {}\n", info[member].text()));
    }
    text.push_str(&format!(
        " CPUs: {}\n Total Memory: {}\n Name: {}\n ID: {}\n Docker Root Dir: {}\n Debug Mode: {}\n",
        info["NCPU"].integer(),
        units::binary_size(info["MemTotal"].float()),
        info["Name"].text(),
        info["ID"].text(),
        info["DockerRootDir"].text(),
        info["Debug"].is_true(),
    ));
    for label in info["Labels"].items() {
        text.push_str(&format!(" Label: {}\n", label.text()));
    }
    text.push_str(&format!(" Experimental: {}\n", info["ExperimentalBuild"].is_true()));
    text.push_str(&format!(" Live Restore Enabled: {}\n\n", info["LiveRestoreEnabled"].is_true()));
    text
}

/// `name=seccomp,profile=builtin` as a line with lines below.
fn security_option(option: &str) -> String {
    let mut name = option;
    let mut text = String::new();
    for pair in option.split(',') {
        match pair.split_once('=') {
            Some(("name", value)) => name = value,
            Some(("profile", value)) => text.push_str(&format!("   Profile: {value}\n")),
            Some((key, value)) => text.push_str(&format!("   {key}: {value}\n")),
            None => {}
        }
    }
    format!("  {name}\n{text}")
}
