//! Chores of the workspace: `cargo xtask <command>`.

mod kernel;

use clap::Parser;

/// Chores of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
enum Command {
    /// Build the guest kernel, or check the committed one.
    Kernel(kernel::Args),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Kernel(args) => kernel::run(&args),
    }
}
