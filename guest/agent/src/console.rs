//! The console: the one place where the agent can complain when nobody is connected.

use std::fmt;

use rustix::stdio::stderr;

/// Writes one line. Nothing can be done about a console that does not take it.
pub(crate) fn line(message: fmt::Arguments<'_>) {
    raw(&format!("matchlock-agent: {message}\n"));
}

/// Reports the failure of a step that the guest can live without.
pub(crate) fn optional<T, E: fmt::Display>(what: &str, result: Result<T, E>) -> Option<T> {
    result.map_err(|error| line(format_args!("{what}: {error}"))).ok()
}

/// Writes text as it is.
pub(crate) fn raw(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(stderr(), rest) {
            Ok(n) if n > 0 => rest = rest.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Ends the machine after the console has sent everything.
///
/// A restart and not a power-off: without ACPI only a reset reaches the monitor, which ends on it
/// (`-no-reboot`). In the first process of an execution it ends that PID namespace only
/// (pid_namespaces(7)).
pub(crate) fn halt() -> ! {
    let _not_a_terminal = rustix::termios::tcdrain(stderr());
    let error = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    line(format_args!("cannot restart the machine: {error:?}"));
    // The kernel panics when PID 1 ends, which is the last way to stop the machine.
    std::process::exit(1)
}

/// Makes a panic one line and the end of the machine.
pub(crate) fn halt_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        line(format_args!("{info}"));
        halt()
    }));
}
