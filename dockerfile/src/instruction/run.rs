//! RUN.

use std::fmt;

use crate::error::{Fault, Result};
use crate::quote::quote;
use crate::suggest::{Case, hint};
use crate::syntax::{Heredoc, Node};

use super::CommandLine;
use super::csv::fields;
use super::flags::{Flags, Kind};
use super::mount::{MountFlag, boolean};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    pub command: CommandLine,
    /// In the shell form. The texts are never expanded: that is the shell's work.
    pub heredocs: Vec<Heredoc>,
    pub mounts: Vec<MountFlag>,
    pub network: Network,
    pub security: Security,
    pub devices: Vec<Device>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    Default,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Security {
    #[default]
    Sandbox,
    Insecure,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::None => "none",
            Self::Host => "host",
        })
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sandbox => "sandbox",
            Self::Insecure => "insecure",
        })
    }
}

/// A CDI device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// `vendor.com/class=name`
    pub name: String,
    pub required: bool,
}

impl Run {
    /// What the shell form runs when its whole text is one heredoc: the document. Its first line may name the program
    /// that runs it (`#!`); then it is a file to be executed, otherwise a text for the shell.
    pub fn script(&self) -> Option<String> {
        let [command] = self.command.arguments.as_slice() else { return None };
        let document = self.heredocs.first()?;
        (self.command.is_shell && Heredoc::parse(command).is_some()).then(|| document.text())
    }

    /// The text for the shell of any other heredoc form: the command with its documents below, as a shell reads them.
    pub fn command_with_heredocs(&self) -> String {
        let mut text = self.command.arguments.join(" ");
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        text
    }
}

pub(super) fn run(node: &Node) -> Result<Run> {
    let flags = Flags::read(
        &node.flags,
        &[
            ("mount", Kind::Texts),
            ("network", Kind::Text),
            ("security", Kind::Text),
            ("device", Kind::Texts),
        ],
    )?;
    // Of several mistakes the one in this order is told.
    let devices =
        flags.texts("device").iter().map(|text| device(text)).collect::<Result<Vec<_>>>()?;
    let mounts =
        flags.texts("mount").into_iter().map(MountFlag::read).collect::<Result<Vec<_>>>()?;
    let network = match flags.given("network") {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => {
            return Err(Fault::at(other, format!("invalid network mode {}", quote(other))));
        }
    };
    let security = match flags.given("security") {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => {
            return Err(Fault::at(other, format!("security {} is not valid", quote(other))));
        }
    };
    let command = command_line(node);
    Ok(Run { command, heredocs: node.heredocs.clone(), mounts, network, security, devices })
}

/// The argument of RUN, CMD and ENTRYPOINT in either form.
pub(super) fn command_line(node: &Node) -> CommandLine {
    CommandLine { arguments: node.arguments.clone(), is_shell: !node.is_json }
}

fn device(text: &str) -> Result<Device> {
    let fields = fields(text)
        .map_err(|why| Fault::at(text, format!("failed to parse csv devices: {why}")))?;
    let mut device = Device::default();
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required = boolean(value).ok_or_else(|| {
                    Fault::at(&field, format!("invalid value for {key}: {value}"))
                })?;
            }
            ("name", Some(_)) if !device.name.is_empty() => {
                return Err(Fault::at(
                    &field,
                    format!("device name already set to {}", device.name),
                ));
            }
            ("name", Some(value)) => value.clone_into(&mut device.name),
            // The name of a device has an equals sign.
            _ if device.name.is_empty() => device.name = field,
            (_, None) => {
                return Err(Fault::at(
                    &field,
                    format!("invalid field '{field}' must be a key=value pair"),
                ));
            }
            (_, Some(_)) => {
                let hint = hint(&key, ["name", "required"], Case::Matters);
                return Err(Fault::at(
                    &field,
                    format!("unexpected key '{key}' in '{field}'{hint}"),
                ));
            }
        }
    }
    Ok(device)
}
