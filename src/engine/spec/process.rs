//! Which command runs, and whether it has a terminal.

use super::{Draft, Input, field};
use crate::engine::container::config::Config;
use crate::error::{Error, Result};
use crate::image::config::ImageConfig;

pub(super) fn apply(input: &Input<'_>, draft: &mut Draft) -> Result<()> {
    let args = arguments(input.config, input.image)?;
    draft.process.set_args(Some(args)).set_terminal(Some(input.config.tty));
    Ok(())
}

/// A command replaces the image's whole command line, arguments alone only its CMD.
fn arguments(config: &Config, image: &ImageConfig) -> Result<Vec<String>> {
    for (name, list) in [("command", &config.command), ("args", &config.args)] {
        for (index, text) in list.iter().enumerate() {
            field::no_nul(&format!("{name}[{index}]"), text.as_bytes())?;
        }
    }
    let (first, then) = if !config.command.is_empty() {
        (&config.command, &config.args)
    } else if !config.args.is_empty() {
        (&image.entrypoint, &config.args)
    } else {
        (&image.entrypoint, &image.cmd)
    };
    let args: Vec<String> = first.iter().chain(then).cloned().collect();
    if args.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::invalid("the image's command has a NUL byte"));
    }
    Ok(args)
}
