//! `matchlock version`.

use crate::printer::Printer;

/// Prints the version, the commit and the day of the build.
pub(crate) fn run(printer: Printer) {
    printer.result(&format!(
        "matchlock {} (commit: {}, built: {})",
        env!("CARGO_PKG_VERSION"),
        env!("MATCHLOCK_COMMIT"),
        env!("MATCHLOCK_BUILT"),
    ));
}
