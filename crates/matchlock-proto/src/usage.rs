//! What a guest uses, and what runs in it.

use serde::{Deserialize, Serialize};

/// What the guest is asked. It is answered as an execution is: the answer is standard output, and only status
/// 0 makes it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inquiry {
    /// One [`Usage`] as [`crate::list::put`] has it.
    Usage,
    /// A [`ProcessEntry`] for each process, in no order, as many as [`MAX_ANSWER`] has room for.
    Processes,
}

/// The longest answer in bytes: it needs no credit ([`crate::INITIAL_WINDOW`]).
pub const MAX_ANSWER: usize = 384 * 1024;

/// The longest name of a user, and the longest command, in bytes. More is cut off.
pub const MAX_USER: usize = 64;
/// As [`MAX_USER`].
pub const MAX_COMMAND: usize = 512;

/// What the guest uses, by the word of its kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of everything since the start, in microseconds.
    pub cpu_us: u64,
    /// Time since the start, in microseconds.
    pub up_us: u64,
    /// Memory that programs can have, in bytes.
    pub memory_total: u64,
    /// Of it what is free, or would be if it were needed.
    pub memory_available: u64,
    /// Bytes that were read from disks.
    pub disk_read: u64,
    /// Bytes that were written to them.
    pub disk_written: u64,
    /// Processes and threads of executions.
    pub processes: u64,
}

/// A process of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEntry {
    /// Its number, as the agent sees it.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// The number of its user.
    pub uid: u32,
    /// The name of its user in the guest, if it has one.
    pub user: Vec<u8>,
    /// One letter, as in proc(5).
    pub state: u8,
    /// Its CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Its memory in bytes.
    pub memory: u64,
    /// Its arguments with blanks between them, or its name.
    pub command: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list;
    use proptest::prelude::*;

    #[test]
    fn the_longest_process_is_within_the_bound() {
        let process = ProcessEntry {
            pid: u32::MAX,
            parent: u32::MAX,
            uid: u32::MAX,
            user: vec![0xff; MAX_USER],
            state: b'R',
            cpu_ms: u64::MAX,
            memory: u64::MAX,
            command: vec![0xff; MAX_COMMAND],
        };
        let mut bytes = Vec::new();
        list::put(&process, &mut bytes);
        assert_eq!(list::take(&mut bytes.as_slice()), Ok(Some(process)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while let Ok(Some(_)) = list::take::<ProcessEntry>(&mut rest) {}
            let _ = list::take::<Usage>(&mut bytes.as_slice());
        }
    }
}
