//! What docker's flags have in common, given to every one of clap's.

use cais_dockerfile::instruction::boolean;
use clap::{Arg, ArgAction, Command};

/// Flags that are true or false take `=true` and `=false`, the last of several wins, a value may begin with a hyphen, and
/// only `--help` asks for help where `-h` means something else.
pub(super) fn shaped(command: Command) -> Command {
    let has_short_h = command.get_arguments().any(|it| it.get_short() == Some('h'));
    let help = Arg::new("help")
        .long("help")
        .help("Print usage")
        .action(ArgAction::Help)
        .display_order(1000);
    command
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .help_template("Usage:  {usage}\n\n{about}\n\n{all-args}{after-help}")
        .mut_args(argument)
        .arg(if has_short_h { help } else { help.short('h') })
        .mut_subcommands(shaped)
}

fn argument(argument: Arg) -> Arg {
    if argument.is_positional() {
        return argument;
    }
    if !matches!(argument.get_action(), ArgAction::SetTrue) {
        return argument.allow_hyphen_values(true);
    }
    let is_on = argument.get_default_values().iter().any(|it| *it == "true");
    argument
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(truth)
        .default_missing_value("true")
        .default_value(if is_on { "true" } else { "false" })
        .hide_default_value(true)
        .hide_possible_values(true)
        .value_name("BOOL")
}

/// Go's `ParseBool`.
fn truth(text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
}
