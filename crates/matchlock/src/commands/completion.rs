//! `matchlock completion`: a script that asks this binary what can stand at the cursor.

use std::ffi::OsString;

use clap::Command;
use clap_complete::env::Shells;
use clap_complete::{ArgValueCandidates, CompleteEnv, CompletionCandidate};

use crate::cli::{CompletionArgs, Shell, grammar};
use crate::environment::Environment;
use crate::error::CliError;
use crate::printer::Printer;

/// The variable by which a script asks.
const ASKS: &str = "MATCHLOCK_COMPLETE";

/// Commands whose words name sandboxes.
const OF_SANDBOXES: [&[&str]; 20] = [
    &["exec"],
    &["log"],
    &["stats"],
    &["top"],
    &["port-forward"],
    &["get"],
    &["inspect"],
    &["stop"],
    &["kill"],
    &["start"],
    &["restart"],
    &["wait"],
    &["rm"],
    &["gc"],
    &["allow-list", "add"],
    &["allow-list", "delete"],
    &["allow-list", "ls"],
    &["secret", "ls"],
    &["secret", "set"],
    &["secret", "rm"],
];

/// Prints a completion script.
pub(crate) fn run(args: &CompletionArgs, printer: Printer) -> Result<u8, CliError> {
    let shell = match args.shell {
        Shell::Bash => "bash",
        Shell::Fish => "fish",
        Shell::Powershell => "powershell",
        Shell::Zsh => "zsh",
    };
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let writer = shells.completer(shell).ok_or_else(|| CliError::new("no such shell"))?;
    writer
        .write_registration(ASKS, "matchlock", "matchlock", "matchlock", &mut script)
        .map_err(|error| CliError::new(format!("cannot write the script: {error}")))?;
    printer.raw(&script);
    Ok(0)
}

/// Answers a script. False if none has asked, so that the arguments are a command.
pub(crate) fn answer(args: &[OsString]) -> bool {
    let directory = std::env::current_dir().ok();
    let answer = CompleteEnv::with_factory(|| with_sandboxes(grammar())).var(ASKS);
    // A script that asks in a way that is not known gets no answer: there is nobody to read an error.
    answer.try_complete(args, directory.as_deref()).unwrap_or(true)
}

fn with_sandboxes(grammar: Command) -> Command {
    OF_SANDBOXES.iter().fold(grammar, |grammar, path| in_command(grammar, path))
}

fn in_command(command: Command, path: &[&str]) -> Command {
    match path {
        [] => {
            let first = command.get_positionals().next().map(|word| word.get_id().clone());
            let Some(first) = first else { return command };
            // `mut_arg` would put it behind the others, and their order counts.
            command.mut_args(|word| match *word.get_id() == first {
                true => word.add(ArgValueCandidates::new(sandboxes)),
                false => word,
            })
        }
        [name, rest @ ..] => command.mut_subcommand(*name, |command| in_command(command, rest)),
    }
}

/// Ids and names. Where the state cannot be read there are none.
fn sandboxes() -> Vec<CompletionCandidate> {
    let records = Environment::read().state().and_then(|state| Ok(state.list()?));
    let words = records.unwrap_or_default().into_iter().flat_map(|record| {
        let about = format!("{}, {}", record.status, record.image);
        let words = record.name.into_iter().chain([record.id.to_string()]);
        words.map(move |word| CompletionCandidate::new(word).help(Some(about.clone().into())))
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_table_is_there_and_takes_a_word() {
        for path in OF_SANDBOXES {
            let mut command = &grammar();
            for name in path {
                command = command.find_subcommand(name).unwrap_or_else(|| panic!("{path:?}"));
            }
            assert!(command.get_positionals().next().is_some(), "{path:?}");
        }
        with_sandboxes(grammar()).debug_assert();
    }
}
