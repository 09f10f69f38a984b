//! `matchlock`: run AI agents and arbitrary code in ephemeral micro-VMs.
//!
//! The binary is the only crate that parses arguments, reads the environment, prints and exits.
//! Everything else is in the libraries; [`commands`] has one file for each subcommand.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod embedded;
mod environment;
mod error;
mod event_loop;
mod log;
mod options;
mod printer;
mod signals;
mod terminal;

use std::process::ExitCode;

use crate::cli::{Command, Parsed};
use crate::environment::Environment;
use crate::error::CliError;
use crate::printer::Printer;

fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let printer = Printer::new();
    match dispatch(printer, started) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            printer.error(&error);
            ExitCode::from(error.status())
        }
    }
}

fn dispatch(printer: Printer, started: std::time::Instant) -> Result<u8, CliError> {
    let cli = match cli::parse(std::env::args_os())? {
        Parsed::Run(cli) => cli,
        Parsed::Help(text) => {
            printer.raw(text.as_bytes());
            return Ok(0);
        }
    };
    if cli.version {
        printer.result(&format!("matchlock version {}", env!("CARGO_PKG_VERSION")));
        return Ok(0);
    }
    let environment = Environment::read();
    log::start(&cli.log, environment.log_level()?)?;
    match cli.command {
        Some(Command::Run(args)) => commands::run::run(&args, &environment, printer, started),
        Some(Command::Pull(args)) => commands::pull::run(&args, &environment, printer),
        Some(Command::Build(args)) => commands::build::run(&args, environment, printer),
        Some(Command::Image(args)) => commands::image::run(&args, &environment, printer),
        Some(Command::Volume(args)) => commands::volume::run(&args, &environment, printer),
        Some(Command::Audit(args)) => commands::audit::run(&args, printer),
        Some(Command::Diagnose(args)) => commands::diagnose::run(&args, &environment, printer),
        Some(Command::Version) => {
            commands::version::run(printer);
            Ok(0)
        }
        Some(Command::Completion(args)) => {
            commands::completion::run(&args, printer);
            Ok(0)
        }
        None => {
            printer.raw(cli::help().as_bytes());
            Ok(0)
        }
    }
}
