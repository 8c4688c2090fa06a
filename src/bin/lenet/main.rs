//! `lenet`: the command line of wgrad. Each subcommand is one file that parses options and prints results; the library
//! does the work.

mod bars;
mod compare;
mod console;
mod data;
mod devices;
mod eval;
mod export;
mod lr_find;
mod model;
mod networks;
mod options;
mod picture;
mod plan;
mod predict;
mod profile;
mod ranks;
mod schedule;
mod signals;
mod summary;
mod sweep;
mod train;
mod verify;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use options::{Cli, Command, as_flag};

/// Mesa's drivers need this variable and print "error: XDG_RUNTIME_DIR is invalid or not set" without it, which users
/// would take for an error of this program. Nothing needs to persist in the folder.
fn name_runtime_folder() {
    const NAME: &str = "XDG_RUNTIME_DIR";
    if cfg!(target_os = "linux") && std::env::var_os(NAME).is_none() {
        #[expect(unsafe_code, reason = "setting a variable of the environment")]
        // SAFETY: the first thing that the program does, while it has one thread.
        unsafe {
            std::env::set_var(NAME, std::env::temp_dir());
        }
    }
}

/// The exit code of a usage error.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    name_runtime_folder();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let error = options::tips::with_visible_flags(error, &Cli::command());
            // A closed pipe is not an error.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        None => train::run(cli.train),
        Some(Command::Train(options)) => train::run(*options),
        Some(Command::Eval(options)) => eval::run(*options),
        Some(Command::Predict(options)) => predict::run(*options),
        Some(Command::Export(options)) => export::run(*options),
        Some(Command::Data(command)) => data::run(command),
        Some(Command::Schedule(options)) => schedule::run(*options),
        Some(Command::LrFind(options)) => lr_find::run(*options),
        Some(Command::Compare(options)) => compare::run(options),
        Some(Command::Sweep(options)) => sweep::run(*options),
        Some(Command::Devices) => devices::run(),
        Some(Command::Networks(options)) => networks::run(*options),
        Some(Command::Summary(options)) => summary::run(*options),
        Some(Command::Plan(options)) => plan::run(*options),
        Some(Command::Profile(options)) => profile::run(*options),
        Some(Command::Verify(options)) => verify::run(*options),
    };
    done.unwrap_or_else(|error| ExitCode::from(report(error, "error")))
}

fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(arguments())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(subcommand(&mut command, &matches)))
}

/// The arguments; `lenet help --help`, which clap takes for a subcommand called `--help`, is `lenet help`.
fn arguments() -> Vec<OsString> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let names: Vec<Option<&str>> = args.iter().skip(1).take(2).map(|arg| arg.to_str()).collect();
    if matches!(names[..], [Some("help"), ..] | [Some("data"), Some("help")]) {
        args.retain(|arg| arg != "--help" && arg != "-h");
    }
    args
}

/// The subcommand that was called, whose usage an error shows.
fn subcommand<'a>(command: &'a mut clap::Command, matches: &ArgMatches) -> &'a mut clap::Command {
    let Some((name, inner)) = matches.subcommand() else { return command };
    match command.find_subcommand(name) {
        Some(_) => subcommand(command.find_subcommand_mut(name).expect("it was found"), inner),
        None => command,
    }
}

/// Says on standard error what went wrong and what helps, in the program's flags; gives the exit code.
fn report(error: wgrad::Error, who: &str) -> u8 {
    let error = as_flag(error);
    console::complain(who, &error.to_string());
    if let Some(tip) = options::tips::of(&error) {
        console::complain("tip", tip);
    }
    exit_code(&error)
}

fn exit_code(error: &wgrad::Error) -> u8 {
    if error.is_usage() { USAGE } else { 1 }
}
