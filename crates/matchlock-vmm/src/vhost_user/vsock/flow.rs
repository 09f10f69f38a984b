//! One stream, without any I/O: which packets may be sent, what an arriving packet means.
//!
//! The host dials, so a flow has exactly one way to be born, and the phases only go forward:
//!
//! ```text
//!   Dialling --REQUEST--> Requested --RESPONSE--> Open
//!      |                     |   `-RST-.           |  `-RST, or our RST sent-.
//!      `----- host end gone -+---------+-----------+------------------------> Over
//! ```
//!
//! `Resetting` stands before `Over` where a RST of ours has still to be sent. Beside the phase, each
//! direction has a small state of its own (half close), and each side its credit (virtio 1.2, section
//! 5.10.6.3): a sender may have at most `buf_alloc` bytes on the way that the receiver has not
//! forwarded.

use super::wire::{Credit, Ends, Op};

/// The receive buffer that we grant to the guest for each stream: what may lie in our memory when
/// nobody reads the host end. Linux grants as much by default.
pub const BUF_ALLOC: u32 = 256 * 1024;

/// The life of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// REQUEST has still to be sent.
    Dialling,
    /// REQUEST is sent, no answer yet.
    Requested,
    /// Data may flow.
    Open,
    /// RST has still to be sent.
    Resetting,
    /// Nothing more goes over the wire, ever.
    Over,
}

/// Bytes from the host to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToGuest {
    Open,
    /// The host end wrote its last byte, and it is sent.
    Finished,
    /// The guest does not want any more.
    Unwanted,
}

/// Bytes from the guest to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FromGuest {
    Open,
    /// The guest sent its last byte.
    Finished,
    /// The host end does not read any more.
    Unwanted,
}

/// Our question for credit, asked once each time that we run out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    None,
    Owed,
    Asked,
}

/// Whether the guest has to hear of our credit although there is nothing else to tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    None,
    Owed,
}

/// What an arriving packet means for whoever holds the host end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// The guest accepted.
    Connected,
    /// The guest refused.
    Refused,
    /// The payload is for the host end.
    Deliver,
    /// The payload is for nobody: the host end reads no more.
    Discard,
}

/// One stream.
#[derive(Debug)]
pub struct Flow {
    phase: Phase,
    to_guest: ToGuest,
    from_guest: FromGuest,
    /// Ends that our SHUTDOWN packets have told.
    told: Ends,
    question: Question,
    update: Update,
    peer: Credit,
    /// Payload sent to the guest so far, modulo 2^32, as all counts.
    sent: u32,
    received: u32,
    forwarded: u32,
    /// `forwarded` as the guest last heard it.
    advertised: u32,
}

impl Flow {
    /// A stream that has to be asked for.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a flow is dialled, there is no neutral one")]
    pub fn new() -> Self {
        Self {
            phase: Phase::Dialling,
            to_guest: ToGuest::Open,
            from_guest: FromGuest::Open,
            told: Ends::default(),
            question: Question::None,
            update: Update::None,
            peer: Credit::default(),
            sent: 0,
            received: 0,
            forwarded: 0,
            advertised: 0,
        }
    }

    /// Where in its life the stream is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How many bytes of payload the guest has room for now; 0 when none may be sent at all.
    #[must_use]
    pub fn window(&self) -> u32 {
        if self.phase != Phase::Open || self.to_guest != ToGuest::Open {
            return 0;
        }
        // A guest that counts more forwarded than we sent gets a huge "in flight" and no window.
        self.peer.buf_alloc.saturating_sub(self.sent.wrapping_sub(self.peer.fwd_cnt))
    }

    /// Whether bytes of the host end may still go to the guest, now or later.
    #[must_use]
    pub fn wants_host_bytes(&self) -> bool {
        matches!(self.phase, Phase::Dialling | Phase::Requested | Phase::Open)
            && self.to_guest == ToGuest::Open
    }

    /// Whether the guest has nothing more to say: once what it said is delivered, the host end gets
    /// its end of stream.
    #[must_use]
    pub fn guest_finished(&self) -> bool {
        self.from_guest != FromGuest::Open || self.phase == Phase::Over
    }

    /// Whether the host end is closed. What is left concerns only the guest, which may delay it for
    /// as long as it likes.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.phase == Phase::Open && self.from_guest == FromGuest::Unwanted
    }

    /// Takes a packet of `len` bytes of payload.
    pub fn on_packet(&mut self, op: Op, len: u32, credit: Credit) -> Event {
        match (self.phase, op) {
            (Phase::Over | Phase::Resetting, Op::Reset) => {
                self.phase = Phase::Over;
                Event::None
            }
            (Phase::Over | Phase::Resetting, _) => Event::None,
            (Phase::Dialling | Phase::Requested, Op::Reset) => {
                self.phase = Phase::Over;
                Event::Refused
            }
            (Phase::Requested, Op::Response) => {
                self.phase = Phase::Open;
                self.learn(credit);
                Event::Connected
            }
            // Whatever else comes before we are connected breaks the handshake.
            (Phase::Dialling | Phase::Requested, _) => {
                self.phase = Phase::Resetting;
                Event::Refused
            }
            (Phase::Open, op) => self.on_open(op, len, credit),
        }
    }

    fn on_open(&mut self, op: Op, len: u32, credit: Credit) -> Event {
        self.learn(credit);
        match op {
            Op::Data => return self.on_data(len),
            Op::CreditUpdate => {}
            Op::CreditRequest => self.update = Update::Owed,
            Op::Shutdown(ends) => self.on_shutdown(ends),
            Op::Reset => self.phase = Phase::Over,
            // The host accepts nobody, and nobody is accepted twice.
            Op::Request | Op::Response => self.phase = Phase::Resetting,
        }
        Event::None
    }

    fn on_data(&mut self, len: u32) -> Event {
        let held = self.received.wrapping_sub(self.forwarded);
        // `held` never exceeds BUF_ALLOC, by this very check.
        if len > BUF_ALLOC - held || self.from_guest == FromGuest::Finished {
            self.phase = Phase::Resetting;
            return Event::None;
        }
        self.received = self.received.wrapping_add(len);
        if self.from_guest == FromGuest::Unwanted {
            return Event::Discard;
        }
        Event::Deliver
    }

    /// "These hints are permanent once sent" (section 5.10.6.6); both together end the connection,
    /// which the other side confirms with a RST.
    fn on_shutdown(&mut self, ends: Ends) {
        if ends.receive {
            self.to_guest = ToGuest::Unwanted;
        }
        if ends.send && self.from_guest == FromGuest::Open {
            self.from_guest = FromGuest::Finished;
        }
        if self.to_guest == ToGuest::Unwanted && (ends.send || self.guest_finished()) {
            self.phase = Phase::Resetting;
        }
    }

    fn learn(&mut self, credit: Credit) {
        self.peer = credit;
        if self.window() > 0 {
            self.question = Question::None;
        }
    }

    /// `len` bytes that the guest sent have left our memory.
    pub fn on_forwarded(&mut self, len: u32) {
        self.forwarded = self.forwarded.wrapping_add(len);
        // What the guest believes to be on its way to the host. At half of the buffer it is told
        // better: late enough to save packets, early enough to keep it sending.
        let believed = self.received.wrapping_sub(self.advertised);
        if self.forwarded != self.advertised && believed >= BUF_ALLOC / 2 {
            self.update = Update::Owed;
        }
    }

    /// The host end has written its last byte, and all of them are sent.
    pub fn on_host_finished(&mut self) {
        if self.to_guest == ToGuest::Open {
            self.to_guest = ToGuest::Finished;
        }
    }

    /// The host end reads no more.
    pub fn on_host_deaf(&mut self) {
        match self.phase {
            // The guest never heard of it.
            Phase::Dialling => self.phase = Phase::Over,
            Phase::Requested => self.phase = Phase::Resetting,
            Phase::Open | Phase::Resetting | Phase::Over => {}
        }
        if self.from_guest == FromGuest::Open {
            self.from_guest = FromGuest::Unwanted;
        }
    }

    /// The host end has bytes, but there is no window.
    pub fn on_starved(&mut self) {
        if self.phase == Phase::Open && self.question == Question::None {
            self.question = Question::Owed;
        }
    }

    /// Ends the stream from our side at once.
    pub fn abort(&mut self) {
        self.phase = match self.phase {
            Phase::Dialling | Phase::Over => Phase::Over,
            Phase::Requested | Phase::Open | Phase::Resetting => Phase::Resetting,
        };
    }

    /// The next packet without payload that has to be sent.
    #[must_use]
    pub fn control(&self) -> Option<Op> {
        match self.phase {
            Phase::Dialling => Some(Op::Request),
            Phase::Resetting => Some(Op::Reset),
            Phase::Requested | Phase::Over => None,
            Phase::Open => {
                let ends = self.ends();
                if ends != self.told {
                    Some(Op::Shutdown(ends))
                } else if self.update == Update::Owed {
                    Some(Op::CreditUpdate)
                } else if self.question == Question::Owed {
                    Some(Op::CreditRequest)
                } else {
                    None
                }
            }
        }
    }

    /// A packet has been sent; `len` is its payload, at most [`Flow::window`].
    pub fn on_sent(&mut self, op: Op, len: u32) {
        match op {
            Op::Request => self.phase = Phase::Requested,
            Op::Reset => self.phase = Phase::Over,
            Op::Shutdown(ends) => self.told = ends,
            Op::Data => self.sent = self.sent.wrapping_add(len),
            Op::CreditRequest => self.question = Question::Asked,
            Op::CreditUpdate | Op::Response => {}
        }
        // Every packet carries our credit.
        self.advertised = self.forwarded;
        self.update = Update::None;
    }

    /// The credit to write into a packet.
    #[must_use]
    pub fn credit(&self) -> Credit {
        Credit { buf_alloc: BUF_ALLOC, fwd_cnt: self.forwarded }
    }

    /// The ends that the host has given up, of which none can be taken back. Not those that the
    /// guest gave up: it knows.
    fn ends(&self) -> Ends {
        Ends {
            receive: self.told.receive || self.from_guest == FromGuest::Unwanted,
            send: self.told.send || self.to_guest == ToGuest::Finished,
        }
    }
}
