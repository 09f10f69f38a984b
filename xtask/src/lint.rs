//! `cargo xtask lint`: what can be said about the code without running it.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{check, guest, run, setup};

/// Format, Clippy, dependencies' licences and advisories, documents.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    format(workspace)?;
    // The binary embeds the initramfs, so it does not compile without one.
    guest::run(workspace)?;
    clippy(workspace)?;
    clippy_for_aarch64(workspace)?;
    check::all(workspace.root())?;
    deny(workspace)?;
    println!("lint: clean");
    Ok(())
}

/// Fails when `cargo fmt` would change something.
pub(crate) fn format(workspace: &Workspace) -> Result<()> {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let mut cargo = workspace.cargo();
        cargo.args(["fmt", "--all", "--check", "--manifest-path", manifest]);
        run::checked(&mut cargo).context("the format differs; `cargo fmt --all` makes it right")?;
    }
    Ok(())
}

/// Fails when Clippy or the compiler has something to say.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let mut cargo = workspace.cargo();
        cargo.args(["clippy", "--quiet", "--workspace", "--all-targets"]);
        cargo.args(["--manifest-path", manifest, "--target-dir"]).arg(workspace.target());
        run::checked(cargo.args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// The same for the other processor that Linux hosts have, so that nothing closes that door. The
/// programs are not linked, and nothing runs them.
fn clippy_for_aarch64(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["clippy", "--quiet", "--workspace", "--all-targets", "--target-dir"]);
    cargo.arg(workspace.target());
    if let Err(error) = setup::for_aarch64(&mut cargo) {
        println!("lint: skipped Clippy for aarch64: {error:#}");
        return Ok(());
    }
    run::checked(cargo.args(["--", "-D", "warnings"])).context("the code is not clean on aarch64")
}

fn deny(workspace: &Workspace) -> Result<()> {
    if run::find_program("cargo-deny").is_none() {
        println!("lint: skipped `cargo deny check`; for it: cargo install --locked cargo-deny");
        return Ok(());
    }
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let deny = |checks: &[&str]| {
            let mut cargo = workspace.cargo();
            cargo.args(["deny", "--manifest-path", manifest, "--config", "deny.toml", "check"]);
            cargo.arg("--hide-inclusion-graph").args(checks);
            cargo
        };
        run::checked(&mut deny(&["bans", "licenses", "sources"]))?;
        advisories(&mut deny(&["advisories"]))?;
    }
    Ok(())
}

/// Advisories need a database from elsewhere, which a closed network does not let through.
fn advisories(command: &mut Command) -> Result<()> {
    match run::output(command) {
        Err(error) if format!("{error:#}").contains("failed to fetch advisory database") => {
            println!("lint: skipped the advisories, their database cannot be fetched from here");
            Ok(())
        }
        result => result.map(drop),
    }
}
