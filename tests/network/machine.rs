//! Sandboxes that several cases use, one after the other.
//!
//! A case that asks for the same flags as another and needs no boot of its own takes the sandbox of
//! [`NetLab::shared`]. What servers and the audit trail saw before it is forgotten.

use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use matchlock_testkit::{Finished, Invocation, PATIENCE, Running};
use serde_json::{Value, json};

use crate::lab::NetLab;

/// Runs the programs of the cases.
const DRIVER: &str = include_str!("guest/driver.py");

/// Machines that no case uses now.
static FREE: Mutex<Vec<NetLab>> = Mutex::new(Vec::new());

/// How many of them wait for a case; the one that has waited longest is ended for another.
const MOST: usize = 4;

/// A sandbox that runs one program after the other.
#[derive(Debug)]
pub(crate) struct Machine {
    flags: Vec<String>,
    names: Vec<String>,
    running: Running,
}

impl Machine {
    /// Whether it is one with these flags, and its server has these names.
    fn fits(&self, flags: &[&str], names: &[&str]) -> bool {
        self.has(flags) && self.names == names
    }

    /// Whether it was started with these flags.
    pub(crate) fn has(&self, flags: &[&str]) -> bool {
        self.flags == flags
    }

    /// Runs a command to its end.
    pub(crate) fn command(&mut self, argv: &[&str]) -> Finished {
        self.run(&json!({ "argv": argv }))
    }

    /// Runs a Python program to its end.
    pub(crate) fn program(&mut self, program: &str, arguments: &[&str]) -> Finished {
        self.run(&json!({ "program": program, "arguments": arguments }))
    }

    fn run(&mut self, job: &Value) -> Finished {
        self.running.write(format!("{job}\n").as_bytes());
        let line = self.running.line(PATIENCE);
        let ended: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        let bytes = |name: &str| {
            let text = ended[name].as_str().expect("text");
            text.chars().map(|byte| u8::try_from(byte).expect("Latin-1")).collect::<Vec<u8>>()
        };
        let status = ended["status"].as_i64().and_then(|status| i32::try_from(status).ok());
        Finished {
            status: ExitStatus::from_raw(status.expect("a status")),
            stdout: bytes("out"),
            stderr: bytes("err"),
        }
    }
}

/// The lab of a machine that goes back to the others at the end of a case that has succeeded.
#[derive(Debug)]
pub(crate) struct Shared(Option<NetLab>);

impl NetLab {
    /// The lab of a running sandbox with these flags and with a server for these names.
    pub(crate) fn shared(flags: &[&str], names: &[&str]) -> Shared {
        let fits = |lab: &NetLab| lab.machine().is_some_and(|machine| machine.fits(flags, names));
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free.iter().position(fits).map(|index| free.remove(index));
        drop(free);
        let lab = found.unwrap_or_else(|| {
            let lab = Self::with(names);
            let start: Invocation =
                lab.argv(&[&["-i"], flags].concat(), &["/usr/bin/python3", "-c", DRIVER]);
            let running = start.piped().spawn();
            let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
            let machine = Machine { flags: owned(flags), names: owned(names), running };
            lab.with_machine(machine)
        });
        Shared(Some(lab.forgetful()))
    }
}

impl Deref for Shared {
    type Target = NetLab;

    fn deref(&self) -> &NetLab {
        self.0.as_ref().expect("until it is dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(self.0.take());
        let oldest = (free.len() > MOST).then(|| free.remove(0));
        drop(free);
        oldest.into_iter().for_each(end);
    }
}

/// Ends all machines: after the last case, and before the check that nothing is left of them.
pub(crate) fn end_all() {
    let free = std::mem::take(&mut *FREE.lock().unwrap_or_else(PoisonError::into_inner));
    free.into_iter().for_each(end);
}

fn end(mut lab: NetLab) {
    if let Some(Machine { mut running, .. }) = lab.take_machine() {
        running.close_input();
        running.finish(PATIENCE).expect(0);
    }
}
