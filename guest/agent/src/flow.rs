//! Flow control of an execution's streams, without I/O.
//!
//! Every stream has a credit window of its own ([`INITIAL_WINDOW`]), so that a full one delays no
//! other and nothing here grows beyond a window: [`StdinQueue`] holds what the host sent and the
//! program has not read yet, [`Output`] decides how much may be read from the program.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use matchlock_proto::{INITIAL_WINDOW, MAX_DATA};

/// Credit is returned in pieces of at least this size, unless the queue is empty.
const GRANT_CHUNK: u32 = INITIAL_WINDOW / 4;

/// How long a terminal has to be silent after its program's end to count as drained.
///
/// The kernel moves a terminal's bytes in the background, and a process that ignores `SIGHUP` can
/// keep it open for ever.
const TERMINAL_SILENCE: Duration = Duration::from_millis(50);

/// The host sent more than it had credit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowExceeded;

/// Bytes on their way to standard input.
#[derive(Debug, Default)]
pub struct StdinQueue {
    bytes: VecDeque<u8>,
    /// Consumed, and not yet given back to the host as credit.
    owed: u32,
    /// Written after the last byte: the end-of-file character of a terminal.
    trailer: Vec<u8>,
    last: Option<u8>,
    eof: bool,
    closed: bool,
}

impl StdinQueue {
    /// Takes bytes from the host.
    ///
    /// # Errors
    /// [`WindowExceeded`] when the host had no credit for them.
    pub fn push(&mut self, data: &[u8]) -> Result<(), WindowExceeded> {
        let held = self.bytes.len() + self.owed as usize;
        if held + data.len() > INITIAL_WINDOW as usize {
            return Err(WindowExceeded);
        }
        if self.closed || self.eof {
            // Nobody will read them: consumed at once, as a pipe to nowhere.
            self.owed += data.len() as u32;
        } else {
            self.bytes.extend(data);
            self.last = data.last().copied().or(self.last);
        }
        Ok(())
    }

    /// The host will send no more; `trailer` is written after what it has sent.
    pub fn push_eof(&mut self, trailer: &[u8]) {
        if !self.eof && !self.closed {
            self.eof = true;
            self.trailer = trailer.to_vec();
        }
    }

    /// The last byte that the host has sent.
    #[must_use]
    pub fn last(&self) -> Option<u8> {
        self.last
    }

    /// The next bytes to write; empty when there are none now.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        if self.bytes.is_empty() { &self.trailer } else { self.bytes.as_slices().0 }
    }

    /// So many bytes of [`Self::front`] were written.
    pub fn consume(&mut self, written: usize) {
        if self.bytes.is_empty() {
            self.trailer.drain(..written.min(self.trailer.len()));
            return;
        }
        let written = written.min(self.bytes.len());
        self.bytes.drain(..written);
        self.owed += written as u32;
    }

    /// Nobody reads any more: drops what is held.
    pub fn close(&mut self) {
        self.closed = true;
        self.trailer.clear();
        self.owed += self.bytes.len() as u32;
        self.bytes.clear();
    }

    /// Everything was written and the host has sent its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.closed || (self.eof && self.front().is_empty())
    }

    /// Credit to send to the host now.
    pub fn take_grant(&mut self) -> Option<u32> {
        let due = self.owed > 0 && (self.owed >= GRANT_CHUNK || self.bytes.is_empty());
        due.then(|| std::mem::take(&mut self.owed))
    }
}

/// What to do with an output descriptor that is readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Read at most so many bytes and send them.
    Send(usize),
    /// Read and drop: the bytes are after the end of the program, or nobody listens.
    Discard,
    /// Do not read now.
    Wait,
}

/// One output of a program, from its pipe to the host.
#[derive(Debug)]
pub struct Output {
    credit: u32,
    phase: Phase,
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The program runs.
    Running,
    /// It has ended and so many bytes of its pipe were written before.
    Remaining(usize),
    /// It has ended and its terminal is read until it is silent at this time.
    Silence(Instant),
    /// All that it wrote was taken.
    Delivered,
}

impl Default for Output {
    fn default() -> Self {
        Self { credit: INITIAL_WINDOW, phase: Phase::Running, closed: false }
    }
}

impl Output {
    /// The host has consumed so many bytes. Saturates: more than everything is everything.
    pub fn grant(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes);
    }

    /// Whether to read, when `room` bytes may be queued towards the host.
    #[must_use]
    pub fn reading(&self, room: usize) -> Reading {
        let allowed = room.min(self.credit as usize).min(MAX_DATA);
        let limit = match self.phase {
            _ if self.closed => return Reading::Wait,
            Phase::Delivered => return Reading::Discard,
            Phase::Running | Phase::Silence(_) => allowed,
            Phase::Remaining(left) => allowed.min(left),
        };
        if limit == 0 { Reading::Wait } else { Reading::Send(limit) }
    }

    /// So many bytes were read to be sent.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        self.credit = self.credit.saturating_sub(bytes as u32);
        self.phase = match self.phase {
            Phase::Remaining(left) if left <= bytes => Phase::Delivered,
            Phase::Remaining(left) => Phase::Remaining(left - bytes),
            Phase::Silence(_) => Phase::Silence(now + TERMINAL_SILENCE),
            phase => phase,
        };
    }

    /// The other end was closed by all who had it.
    pub fn end_of_file(&mut self) {
        self.closed = true;
        self.phase = Phase::Delivered;
    }

    /// The program has ended and its pipe holds so many bytes.
    pub fn program_ended(&mut self, in_pipe: usize) {
        if let Phase::Running = self.phase {
            self.phase = if in_pipe == 0 { Phase::Delivered } else { Phase::Remaining(in_pipe) };
        }
    }

    /// The program has ended and its terminal is still open.
    pub fn program_ended_on_terminal(&mut self, now: Instant) {
        if let Phase::Running = self.phase {
            self.phase = Phase::Silence(now + TERMINAL_SILENCE);
        }
    }

    /// Nobody listens: what comes now is dropped.
    pub fn abandon(&mut self) {
        self.phase = Phase::Delivered;
    }

    /// All that the program wrote was taken.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self.phase, Phase::Delivered)
    }

    /// When [`Self::on_time`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Silence(at) => Some(at),
            Phase::Running | Phase::Remaining(_) | Phase::Delivered => None,
        }
    }

    /// Ends the wait for a silent terminal; silence does not count while the host gave no credit.
    pub fn on_time(&mut self, room: usize, now: Instant) {
        if let Phase::Silence(at) = self.phase
            && at <= now
        {
            let listening = matches!(self.reading(room), Reading::Send(_));
            self.phase =
                if listening { Phase::Delivered } else { Phase::Silence(now + TERMINAL_SILENCE) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        HostSends(usize),
        ProgramReads(usize),
        AgentGrants,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..200_000usize).prop_map(Step::HostSends),
            (0..300_000usize).prop_map(Step::ProgramReads),
            Just(Step::AgentGrants),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn stdin_keeps_order_loses_nothing_and_holds_one_window(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let mut queue = StdinQueue::default();
            let (mut credit, mut sent, mut read) = (INITIAL_WINDOW as usize, 0usize, 0usize);
            for step in steps {
                match step {
                    Step::HostSends(wanted) => {
                        let n = wanted.min(credit);
                        let data: Vec<u8> = (sent..sent + n).map(|i| (i % 251) as u8).collect();
                        prop_assert_eq!(queue.push(&data), Ok(()));
                        sent += n;
                        credit -= n;
                        prop_assert_eq!(queue.push(&vec![0; credit + 1]), Err(WindowExceeded));
                    }
                    Step::ProgramReads(wanted) => {
                        let n = wanted.min(queue.front().len());
                        for (i, byte) in queue.front()[..n].iter().enumerate() {
                            prop_assert_eq!(*byte, ((read + i) % 251) as u8);
                        }
                        queue.consume(n);
                        read += n;
                    }
                    Step::AgentGrants => credit += queue.take_grant().unwrap_or(0) as usize,
                }
                prop_assert!(sent - read + credit <= INITIAL_WINDOW as usize);
            }
            while !queue.front().is_empty() {
                let n = queue.front().len();
                queue.consume(n);
                read += n;
            }
            prop_assert_eq!(read, sent);
            credit += queue.take_grant().unwrap_or(0) as usize;
            prop_assert_eq!(credit, INITIAL_WINDOW as usize, "all credit comes back");
        }

        #[test]
        fn output_never_exceeds_its_credit_and_delivers_what_was_in_the_pipe(
            grants in proptest::collection::vec(0..100_000u32, 0..20),
            mut pipe in 0..2_000_000usize,
            room in 1..200_000usize,
        ) {
            let now = Instant::now();
            let mut output = Output::default();
            let (mut allowed, mut sent) = (INITIAL_WINDOW as usize, 0);
            let total = pipe;
            output.program_ended(pipe);
            let mut grants = grants.into_iter();
            while !output.is_delivered() {
                match output.reading(room) {
                    Reading::Send(n) => {
                        prop_assert!(n > 0 && n <= room && n <= MAX_DATA);
                        let n = n.min(pipe);
                        output.sent(n, now);
                        (sent, pipe) = (sent + n, pipe - n);
                        prop_assert!(sent <= allowed, "{} sent with credit for {}", sent, allowed);
                    }
                    Reading::Wait => {
                        let Some(more) = grants.next() else { break };
                        output.grant(more);
                        allowed += more as usize;
                    }
                    Reading::Discard => prop_assert!(false, "discards before the end"),
                }
            }
            prop_assert_eq!(output.is_delivered(), sent == total);
        }
    }

    #[test]
    fn input_after_the_reader_has_gone_is_consumed_so_that_the_host_never_stalls() {
        let mut queue = StdinQueue::default();
        queue.push(b"abc").expect("within the window");
        queue.close();
        assert_eq!(queue.take_grant(), Some(3));
        queue.push(b"de").expect("within the window");
        assert_eq!(queue.front(), b"");
        assert_eq!(queue.take_grant(), Some(2));
        assert!(queue.is_finished());
    }

    #[test]
    fn end_of_input_comes_after_the_bytes_before_it() {
        let mut queue = StdinQueue::default();
        queue.push(b"abc").expect("within the window");
        queue.push_eof(&[4]);
        assert!(!queue.is_finished());
        queue.consume(3);
        assert_eq!(queue.front(), [4]);
        assert_eq!(queue.take_grant(), Some(3));
        queue.consume(1);
        assert!(queue.is_finished());
        assert_eq!(queue.take_grant(), None, "the host has no credit for what it did not send");
    }

    #[test]
    fn a_terminal_is_drained_when_it_was_silent_while_the_host_listened() {
        let start = Instant::now();
        let mut output = Output::default();
        output.program_ended_on_terminal(start);
        output.sent(INITIAL_WINDOW as usize, start);
        output.on_time(1, start + TERMINAL_SILENCE);
        assert!(!output.is_delivered(), "the host has no credit: there may be more");
        output.grant(1);
        output.on_time(1, start + 2 * TERMINAL_SILENCE);
        assert!(output.is_delivered());
        assert_eq!(output.reading(1), Reading::Discard);
    }

    #[test]
    fn what_is_written_after_the_end_of_the_program_is_dropped() {
        let mut output = Output::default();
        output.program_ended(10);
        assert_eq!(output.reading(100), Reading::Send(10));
        output.sent(10, Instant::now());
        assert_eq!(output.reading(100), Reading::Discard);
        output.end_of_file();
        assert_eq!(output.reading(100), Reading::Wait);
    }
}
