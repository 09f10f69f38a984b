//! The user's terminal: raw mode that is always undone, and its size.

use std::io::{Stdin, stdin};

use matchlock_core::WindowSize;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::CliError;
use crate::log;

/// Size assumed when the terminal does not tell (termios(3) winsize of 0 too).
const FALLBACK: WindowSize = WindowSize { rows: 24, cols: 80 };

/// Standard input as a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    stdin: Stdin,
}

/// Raw mode; the earlier settings come back when this is dropped. Nothing is logged on the terminal
/// meanwhile.
#[derive(Debug)]
pub(crate) struct RawMode {
    stdin: Stdin,
    earlier: Termios,
    _log: log::Held,
}

impl Terminal {
    /// Standard input, if it is a terminal.
    pub(crate) fn open() -> Option<Self> {
        let stdin = stdin();
        isatty(&stdin).then_some(Self { stdin })
    }

    /// The same for a command that cannot do without.
    pub(crate) fn required() -> Result<Self, CliError> {
        Self::open().ok_or_else(|| {
            // Status 1 is what programs that use the reference look for.
            CliError::new("-it requires a TTY")
                .with_status(1)
                .hinted("use -i alone to forward a pipe")
        })
    }

    /// Current size.
    pub(crate) fn size(&self) -> WindowSize {
        match tcgetwinsize(&self.stdin) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                WindowSize { rows: size.ws_row, cols: size.ws_col }
            }
            _ => FALLBACK,
        }
    }

    /// Switches to raw mode: every key goes to the guest, `^C` too.
    pub(crate) fn raw(&self) -> std::io::Result<RawMode> {
        let earlier = tcgetattr(&self.stdin)?;
        let mut raw = earlier.clone();
        raw.make_raw();
        tcsetattr(&self.stdin, OptionalActions::Now, &raw)?;
        Ok(RawMode { stdin: stdin(), earlier, _log: log::hold() })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.earlier);
    }
}
