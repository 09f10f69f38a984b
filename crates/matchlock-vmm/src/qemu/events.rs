//! What QEMU tells of the disks, over its monitor (QMP): which of their operations failed on the host.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use matchlock_text::escape;
use serde::Deserialize;

use crate::DiskFault;

/// Longest message that is read, in bytes. QEMU's own are far below; a longer one ends the reading.
const LONGEST: u64 = 64 * 1024;

/// Longest reason that is kept, in bytes.
const LONGEST_REASON: usize = 200;

/// The client of one QEMU's monitor: a thread that reads until QEMU ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Events {
    first_fault: Arc<Mutex<Option<DiskFault>>>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    event: String,
    #[serde(default)]
    data: Data,
}

/// Of `BLOCK_IO_ERROR`; other messages have other fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    operation: String,
    reason: String,
    nospace: bool,
}

impl Events {
    /// Enables events and reads them.
    pub(super) fn follow(monitor: UnixStream) -> io::Result<Self> {
        let events = Self::default();
        let reader = events.clone();
        std::thread::Builder::new().name("qmp".into()).spawn(move || {
            if let Err(error) = reader.read(monitor) {
                tracing::debug!(%error, "QEMU's monitor is not read any more");
            }
        })?;
        Ok(events)
    }

    /// The first operation that failed.
    pub(super) fn first_fault(&self) -> Option<DiskFault> {
        self.first_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self, mut monitor: UnixStream) -> io::Result<()> {
        // QEMU sends events only after this; its greeting and its answer need not be waited for.
        monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        self.take(BufReader::new(monitor))
    }

    fn take(&self, mut messages: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            messages.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            if let Ok(message) = serde_json::from_slice::<Message>(&line)
                && message.event == "BLOCK_IO_ERROR"
            {
                let mut first = self.first_fault.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| fault(&message.data));
            }
        }
    }
}

fn fault(data: &Data) -> DiskFault {
    let mut reason = escape::lines(&data.reason);
    reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
    DiskFault { is_write: data.operation != "read", is_full: data.nospace, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Option<DiskFault> {
        let events = Events::default();
        events.take(text.as_bytes()).expect("read");
        events.first_fault()
    }

    #[test]
    fn the_first_operation_that_failed_is_kept() {
        let greeting = r#"{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}"#;
        let full =
            r#"{"timestamp": {"seconds": 1}, "event": "BLOCK_IO_ERROR", "data": {"device": "",
            "nospace": true, "node-name": "disk0", "reason": "No space left on device",
            "operation": "write", "action": "report"}}"#
                .replace('\n', "");
        let other = full.replace("write", "read").replace("true", "false").replace("No space", "x");
        let text = format!("{greeting}\n{{\"return\": {{}}}}\nnonsense\n{full}\n{other}\n");
        let reason = "No space left on device".to_owned();
        assert_eq!(first(&text), Some(DiskFault { is_write: true, is_full: true, reason }));
        let read = first(&format!("{other}\n")).expect("a fault");
        assert_eq!((read.is_write, read.is_full), (false, false));
        assert_eq!(first(&format!("{greeting}\n{{\"event\": \"RESUME\"}}\n")), None);
    }

    #[test]
    fn a_message_without_end_ends_the_reading() {
        let long = format!("{}\n", "x".repeat(usize::try_from(LONGEST).expect("small") + 1));
        assert_eq!(first(&long), None);
        let reason = "\u{1b}é".repeat(1000);
        let event = serde_json::json!({"event": "BLOCK_IO_ERROR", "data": {"reason": reason}});
        let fault = first(&format!("{event}\n")).expect("a fault");
        assert!(fault.reason.len() <= LONGEST_REASON && !fault.reason.contains('\u{1b}'));
    }
}
