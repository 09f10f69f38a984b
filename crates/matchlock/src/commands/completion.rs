//! `matchlock completion`.

use clap_complete::{Shell as Generator, generate};

use crate::cli::{CompletionArgs, Shell, grammar};
use crate::printer::Printer;

/// Prints a completion script.
pub(crate) fn run(args: &CompletionArgs, printer: Printer) {
    let generator = match args.shell {
        Shell::Bash => Generator::Bash,
        Shell::Fish => Generator::Fish,
        Shell::Powershell => Generator::PowerShell,
        Shell::Zsh => Generator::Zsh,
    };
    let mut script = Vec::new();
    generate(generator, &mut grammar(), "matchlock", &mut script);
    printer.raw(&script);
}
