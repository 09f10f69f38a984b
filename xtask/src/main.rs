//! Everything that is done with this repository beside writing it: `cargo xtask COMMAND`.
//!
//! One file holds one command. A command makes sure by itself that what it needs is there
//! ([`setup`]), so that each works on a machine that has only the Rust toolchain.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool: its output is for the terminal that called it"
)]

mod cpio;
mod guest;
mod kernel;
mod run;
mod setup;
mod template;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Builds, tests and measures matchlock",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building and testing need, as far as it is missing.
    Setup,
    /// Build the agent and pack the guest's initramfs.
    Guest,
    /// Make or check the empty ext4 image that becomes the writable layer of a sandbox.
    Template(template::Args),
    /// Build the guest kernel, or check the committed one.
    Kernel(kernel::Args),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Setup => setup::run(),
        Command::Guest => guest::run(&workspace).map(drop),
        Command::Template(args) => template::run(&workspace, &args),
        Command::Kernel(args) => kernel::run(&args),
    }
}
