//! A pseudo-terminal with a test at the other end.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::wait::wait_until;

/// A pseudo-terminal (pty(7)).
#[derive(Debug)]
pub struct Pty {
    controller: File,
    user: OwnedFd,
    seen: mpsc::Receiver<Vec<u8>>,
    heard: Vec<u8>,
}

impl Pty {
    /// A terminal of this size.
    ///
    /// # Panics
    /// When the system has none.
    #[must_use]
    pub fn new(rows: u16, cols: u16) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("openpt");
        grantpt(&controller).expect("grantpt");
        unlockpt(&controller).expect("unlockpt");
        let name = ptsname(&controller, Vec::new()).expect("ptsname");
        let user = open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let controller = File::from(controller);
        let mut reader = controller.try_clone().expect("dup");
        let (report, seen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                if report.send(chunk.get(..n).unwrap_or_default().to_vec()).is_err() {
                    return;
                }
            }
        });
        let this = Self { controller, user: user.expect("open the pts"), seen, heard: Vec::new() };
        this.resize(rows, cols);
        this
    }

    /// The end that a program gets.
    ///
    /// # Panics
    /// When no descriptor is left.
    #[must_use]
    pub fn user_end(&self) -> Stdio {
        self.user.try_clone().expect("dup").into()
    }

    /// Sets the size. A program without this as its controlling terminal gets no SIGWINCH: send one.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.controller, size).expect("resize");
    }

    /// Types these bytes.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.controller.write_all(bytes).expect("type");
    }

    /// Whether keys are echoed and lines are edited: false in raw mode.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[must_use]
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.user).expect("tcgetattr").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits until the screen has shown `text`; returns everything up to now.
    ///
    /// # Panics
    /// When it has not within `limit`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> String {
        let (seen, heard) = (&self.seen, &mut self.heard);
        wait_until(&format!("{text:?} on the terminal"), limit, || {
            while let Ok(chunk) = seen.try_recv() {
                heard.extend(chunk);
            }
            let shown = String::from_utf8_lossy(heard).into_owned();
            shown.contains(text).then_some(shown)
        })
    }
}
