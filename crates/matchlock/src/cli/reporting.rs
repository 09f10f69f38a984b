//! How a command reports: where its JSON goes, and the status of an error of ours.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Arg, CommandFactory};

use super::{
    AllowListCommand, AuditCommand, Cli, Command, ImageCommand, SecretCommand, VolumeCommand,
};
use crate::printer::JsonOutput;

/// Exit status for errors of our own in a command whose status is otherwise that of a program, as
/// Docker's.
const FAILED_BESIDE_A_PROGRAM: u8 = 125;

/// Exit status for errors of every other command.
const FAILED: u8 = 1;

/// How a command reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reporting {
    pub(crate) json: JsonOutput,
    /// Exit status for errors that have none of their own.
    pub(crate) failed: u8,
}

impl Reporting {
    /// What the arguments say.
    pub(crate) fn of(cli: &Cli) -> Self {
        match &cli.command {
            Some(Command::Run(args)) => Self::of_run(args.json.as_deref()),
            Some(Command::Exec(_)) => Self::of_run(None),
            Some(command) => Self::of_others(flag(command)),
            None => Self::of_others(None),
        }
    }

    /// What arguments say that are wrong elsewhere.
    ///
    /// Only what is certainly ours counts, for a word that belongs to a command must not decide which
    /// file is written: an option that is not known may or may not have a value.
    pub(crate) fn of_unparsed(args: &[OsString]) -> Self {
        let mut grammar = Cli::command();
        grammar.build();
        let mut command = &grammar;
        let mut json = None;
        let mut unknown = false;
        let mut after_unknown = false;
        let mut words = args.iter().skip(1);
        while let Some(word) = words.next() {
            let text = word.as_bytes();
            let may_be_a_value = std::mem::take(&mut after_unknown);
            match text {
                b"--" => break,
                b"--json" => json = Some(OsStr::new("")),
                [b'-', b'-', b'j', b's', b'o', b'n', b'=', file @ ..] => {
                    json = Some(if unknown { OsStr::new("") } else { OsStr::from_bytes(file) });
                }
                [b'-', _, ..] => match last_option(command, text) {
                    Some((arg, false)) if wants_a_word(arg) => drop(words.next()),
                    Some(_) => {}
                    None => (unknown, after_unknown) = (true, true),
                },
                _ => match command.find_subcommand(word) {
                    Some(found) => command = found,
                    None if has_a_program(command) && !may_be_a_value => break,
                    None => {}
                },
            }
        }
        if has_a_program(command) { Self::of_run(json) } else { Self::of_others(json) }
    }

    fn of_run(json: Option<&OsStr>) -> Self {
        let json = JsonOutput::new(json, JsonOutput::Stderr);
        Self { json, failed: FAILED_BESIDE_A_PROGRAM }
    }

    fn of_others(json: Option<&OsStr>) -> Self {
        Self { json: JsonOutput::new(json, JsonOutput::Stdout), failed: FAILED }
    }
}

fn flag(command: &Command) -> Option<&OsStr> {
    let flag = match command {
        Command::Run(args) => &args.json,
        Command::List(args) => &args.json,
        Command::Get(args)
        | Command::Inspect(args)
        | Command::Start(args)
        | Command::Wait(args)
        | Command::Prune(args)
        | Command::Top(args) => &args.json,
        Command::Stats(args) => &args.json,
        Command::Stop(args) | Command::Restart(args) => &args.json,
        Command::Kill(args) => &args.json,
        Command::Rm(args) => &args.json,
        Command::Gc(args) => &args.json,
        Command::Log(args) => return args.json.then_some(OsStr::new("")),
        Command::Pull(args) => &args.json,
        Command::Build(args) => &args.json,
        Command::Image(args) => match &args.command {
            ImageCommand::Ls(args)
            | ImageCommand::Rm(args)
            | ImageCommand::Import(args)
            | ImageCommand::Gc(args) => &args.json,
        },
        Command::Volume(args) => match &args.command {
            VolumeCommand::Create(args) => &args.json,
            VolumeCommand::Ls(args) | VolumeCommand::Rm(args) | VolumeCommand::Cp(args) => {
                &args.json
            }
        },
        Command::AllowList(args) => match &args.command {
            AllowListCommand::Add(args)
            | AllowListCommand::Delete(args)
            | AllowListCommand::Ls(args) => &args.json,
        },
        Command::Secret(args) => match &args.command {
            SecretCommand::Ls(args) | SecretCommand::Set(args) | SecretCommand::Rm(args) => {
                &args.json
            }
        },
        Command::Audit(args) => match &args.command {
            AuditCommand::Show(args) => &args.json,
            AuditCommand::Verify(args) => &args.json,
        },
        Command::Cp(args) => &args.json,
        Command::Diagnose(args) => &args.json,
        Command::Version(args) => &args.json,
        Command::Completion(_) | Command::Exec(_) | Command::PortForward(_) | Command::Rpc(_) => {
            &None
        }
    };
    flag.as_deref()
}

/// Whether words of a program can follow.
fn has_a_program(command: &clap::Command) -> bool {
    command.get_positionals().any(Arg::is_trailing_var_arg_set)
}

/// The option that a word of options ends with, and whether its value is in the word.
fn last_option<'a>(command: &'a clap::Command, text: &[u8]) -> Option<(&'a Arg, bool)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(long) = text.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name))?;
        return Some((arg, value.is_some()));
    }
    let mut letters = text.strip_prefix('-')?.chars();
    loop {
        let letter = letters.next()?;
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        let rest = letters.as_str();
        if rest.is_empty() || wants_a_word(arg) || rest.starts_with('=') {
            return Some((arg, !rest.is_empty()));
        }
    }
}

/// Whether the next word is the value of the option.
fn wants_a_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn unparsed(line: &str) -> (JsonOutput, u8) {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let Reporting { json, failed } = Reporting::of_unparsed(&args);
        (json, failed)
    }

    #[test]
    fn wrong_arguments_are_reported_where_right_ones_would_be() {
        let file = JsonOutput::File(Path::new("f"));
        let cases = [
            ("matchlock", JsonOutput::Off, 1),
            ("matchlock --json", JsonOutput::Stdout, 1),
            ("matchlock frobnicate --json", JsonOutput::Stdout, 1),
            ("matchlock volume create a --size 2q --json", JsonOutput::Stdout, 1),
            ("matchlock volume create --json=f --size=2q a", file, 1),
            ("matchlock image ls --no-such --json", JsonOutput::Stdout, 1),
            ("matchlock run --memory 2q --json -- x", JsonOutput::Stderr, 125),
            ("matchlock run --memory 2q -e A=1 -it --json=f x", file, 125),
            ("matchlock run -ti -uweb -w /x --json --no-such x", JsonOutput::Stderr, 125),
            ("matchlock run --no-such value --json x", JsonOutput::Stderr, 125),
        ];
        for (line, json, failed) in cases {
            assert_eq!(unparsed(line), (json, failed), "{line}");
        }
    }

    #[test]
    fn no_word_of_a_program_decides_where_json_is_written() {
        for line in [
            "matchlock run --memory 2q prog --json=f",
            "matchlock run --memory 2q -- --json=f",
            "matchlock run -e --json=f --memory 2q",
            "matchlock run --memory --json=f x",
            "matchlock run --no-such prog x --json=f",
        ] {
            assert_eq!(unparsed(line), (JsonOutput::Off, 125), "{line}");
        }
        // The word may be the value of the option that is not known: an object may be asked for, and
        // no file is.
        let line = "matchlock run --no-such prog --json=f";
        assert_eq!(unparsed(line), (JsonOutput::Stderr, 125));
    }
}
