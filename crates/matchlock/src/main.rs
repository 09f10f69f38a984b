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
mod hardening;
mod log;
mod options;
mod printer;
mod signals;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::{Cli, Command, Parsed, Reporting};
use crate::commands::sandboxes;
use crate::environment::Environment;
use crate::error::CliError;
use crate::printer::{JsonOutput, Printer};

fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let args: Vec<OsString> = std::env::args_os().collect();
    if commands::completion::answer(&args) {
        return ExitCode::SUCCESS;
    }
    let parsed = cli::parse(args.iter().cloned());
    let reporting = match &parsed {
        Ok(Parsed::Run(cli)) => Reporting::of(cli),
        Ok(Parsed::Help(_)) | Err(_) => Reporting::of_unparsed(&args),
    };
    let printer = Printer::new(reporting.json);
    let carried_out = parsed.and_then(|parsed| match parsed {
        Parsed::Run(cli) => {
            printer.check()?;
            dispatch(cli, printer, started)
        }
        Parsed::Help(text) => {
            Printer::new(JsonOutput::Off).raw(text.as_bytes());
            Ok(0)
        }
    });
    let status = carried_out.unwrap_or_else(|error| {
        let status = error.status().unwrap_or(reporting.failed);
        printer.failure(&error, status);
        status
    });
    ExitCode::from(status)
}

fn dispatch(cli: Cli, printer: Printer, started: std::time::Instant) -> Result<u8, CliError> {
    if cli.version {
        printer.result(&format!("matchlock version {}", env!("CARGO_PKG_VERSION")));
        return Ok(0);
    }
    let environment = Environment::read();
    log::start(&cli.log, environment.log_level()?)?;
    match cli.command {
        Some(Command::Run(args)) => commands::run::run(*args, &environment, printer, started),
        Some(Command::Exec(args)) => commands::exec::run(&args, &environment),
        Some(Command::Cp(args)) => commands::cp::run(&args, &environment, printer),
        Some(Command::Log(args)) => commands::logs::run(&args, &environment),
        Some(Command::Stats(args)) => commands::stats::run(&args, &environment, printer),
        Some(Command::Top(args)) => commands::top::run(&args, &environment, printer),
        Some(Command::PortForward(args)) => {
            commands::port_forward::run(&args, &environment, printer)
        }
        Some(Command::AllowList(args)) => commands::allow_list::run(&args, &environment, printer),
        Some(Command::Secret(args)) => commands::secret::run(&args, &environment, printer),
        Some(Command::List(args)) => sandboxes::list(&args, &environment, printer),
        Some(Command::Get(args)) => sandboxes::get(&args, &environment, printer),
        Some(Command::Inspect(args)) => sandboxes::inspect(&args, &environment, printer),
        Some(Command::Stop(args)) => sandboxes::stop(&args, &environment, printer),
        Some(Command::Start(args)) => commands::run::start(&args, &environment, printer, started),
        Some(Command::Restart(args)) => commands::run::restart(&args, &environment, printer),
        Some(Command::Kill(args)) => sandboxes::kill(&args, &environment, printer),
        Some(Command::Wait(args)) => sandboxes::wait(&args, &environment, printer),
        Some(Command::Rm(args)) => sandboxes::rm(&args, &environment, printer),
        Some(Command::Prune(args)) => sandboxes::prune(&args, &environment, printer),
        Some(Command::Gc(args)) => sandboxes::gc(&args, &environment, printer),
        Some(Command::Pull(args)) => commands::pull::run(&args, &environment, printer),
        Some(Command::Build(args)) => commands::build::run(&args, environment, printer),
        Some(Command::Image(args)) => commands::image::run(&args, &environment, printer),
        Some(Command::Volume(args)) => commands::volume::run(&args, &environment, printer),
        Some(Command::Audit(args)) => commands::audit::run(&args, &environment, printer),
        Some(Command::Rpc(args)) => commands::rpc::run(&args, environment, printer),
        Some(Command::Diagnose(_)) => commands::diagnose::run(&environment, printer),
        Some(Command::Version(_)) => commands::version::run(printer),
        Some(Command::Completion(args)) => commands::completion::run(&args, printer),
        None => {
            printer.raw(cli::help().as_bytes());
            Ok(0)
        }
    }
}
