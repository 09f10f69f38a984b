//! Builds and checks the guest kernel.

/// Runs `cargo xtask kernel`.
///
/// # Errors
/// Always: the kernel's own branch brings the command.
pub(crate) fn run(_args: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("`cargo xtask kernel` is not part of this tree yet")
}
