//! Which flags help with an error. The library names none, since not only this program uses it; what an error about an
//! unknown flag suggests are flags as `--help` has them, also where a hidden alias is nearest, and the way to turn off
//! what is on.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use wgrad::Error;

/// The flags that an error of the library can be helped with.
pub fn of(error: &Error) -> Option<&'static str> {
    match error {
        Error::Download { .. } => Some("--from URL takes another mirror, --data DIR a folder that has the files"),
        Error::Limit { .. } => {
            Some("--batch-size and --train-limit take less memory, --device cpu computes on the CPU")
        }
        Error::NoAdapter { .. } | Error::DeviceLost { .. } => Some("--device cpu computes on the CPU"),
        _ => None,
    }
}

/// The error with suggestions that help names.
pub fn with_visible_flags(mut error: clap::Error, command: &Command) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let args: Vec<&Arg> =
        std::iter::once(command).chain(command.get_subcommands()).flat_map(Command::get_arguments).collect();
    let flag = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(flag)) => Some(flag.trim_start_matches("--").to_owned()),
        _ => None,
    };
    let (given, suggested) = (flag(ContextKind::InvalidArg), flag(ContextKind::SuggestedArg));
    let has_long = |long: &str| args.iter().any(|arg| arg.get_long() == Some(long));
    if let Some(given) = given.filter(|given| has_long(&format!("no-{given}"))) {
        let on =
            format!("it is on by default; '--no-{given}' turns it off, and '--help' lists what sets it: '--{given}-…'");
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(on)]));
        return error;
    }
    let is_alias = |arg: &&&Arg, name: &str| arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name));
    let visible = suggested.as_ref().and_then(|name| args.iter().find(|arg| is_alias(arg, name))?.get_long());
    if let Some(visible) = visible {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{visible}")));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_flags_that_help_names() {
        let command = Command::new("lenet").arg(Arg::new("monitor").long("monitor").alias("early-stopping-monitor"));
        let command = command.arg(Arg::new("off").long("no-early-stopping"));
        let message = |given: &str| {
            let error = command.clone().try_get_matches_from(["lenet", given]).expect_err("there is no such flag");
            with_visible_flags(error, &command).to_string()
        };
        let on = message("--early-stopping");
        assert!(on.contains("it is on by default; '--no-early-stopping'") && !on.contains("similar"), "{on}");
        let alias = message("--early-stopping-monitr");
        assert!(alias.contains("'--monitor'") && !alias.contains("'--early-stopping-monitor'"), "{alias}");
    }
}
