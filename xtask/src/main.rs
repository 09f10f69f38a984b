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

mod bench;
mod build;
mod check;
mod cpio;
mod demo;
mod fuzz;
mod guest;
mod image;
mod kernel;
mod lint;
mod run;
mod sanitize;
mod schema;
mod setup;
mod soak;
mod template;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures matchlock", version)]
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
    /// Build the released binary: one static file.
    Build,
    /// Install what is missing, build, and show an agent at work in a sandbox.
    Demo(demo::Args),
    /// Measure; JSON on standard output.
    Bench(bench::Args),
    /// Run every test; installs and builds what that needs.
    Test(test::Args),
    /// Kill processes, start programs and cancel them, many times.
    Soak(soak::Args),
    /// Check the format, the lints, the dependencies and the documents.
    Lint,
    /// Search for inputs that break a decoder, guided by coverage; installs the fuzzer.
    Fuzz(fuzz::Args),
    /// Run the tests of the crates with unsafe code under the address sanitizer.
    Sanitize,
    /// Write the JSON Schema of JSON-RPC and its reference page.
    Schema,
    /// Make the images of the tests, and import one of Debian.
    Image(image::Args),
    /// Make or check the empty ext4 image that becomes the writable layer of a sandbox.
    Template(template::Args),
    /// Build or check the guest kernel.
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
        Command::Build => build::run(&workspace).map(drop),
        Command::Demo(args) => demo::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Soak(args) => soak::run(&workspace, &args),
        Command::Lint => lint::run(&workspace),
        Command::Fuzz(args) => fuzz::run(&workspace, &args),
        Command::Sanitize => sanitize::run(&workspace),
        Command::Schema => schema::run(&workspace),
        Command::Image(args) => image::run(&workspace, &args),
        Command::Template(args) => template::run(&workspace, &args),
        Command::Kernel(args) => kernel::run(&args),
    }
}
