//! The packet header of virtio-vsock (virtio 1.2, section 5.10.6), checked once.
//!
//! [`Header::parse`] takes any 44 bytes. [`Packet::check`] then admits only what the guest may say to
//! the host at all; whoever holds a [`Packet`] need not doubt its addresses, type and operation again.

/// Size of the header on the wire.
pub const HEADER_LEN: usize = 44;

/// The context id of the host (`VMADDR_CID_HOST`).
pub const HOST_CID: u64 = 2;

/// `VIRTIO_VSOCK_TYPE_STREAM`.
const STREAM: u16 = 1;

/// All fields of the header, of any content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Context id of the sender.
    pub src_cid: u64,
    /// Context id of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of payload behind the header.
    pub len: u32,
    /// Socket type (`type` in the specification).
    pub kind: u16,
    /// Operation.
    pub op: u16,
    /// Meaning depends on the operation.
    pub flags: u32,
    /// Receive buffer of the sender, for this stream.
    pub buf_alloc: u32,
    /// Bytes that the sender has taken out of that buffer so far, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads the little-endian fields.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            src_cid: u64::from_le_bytes(fields.next()),
            dst_cid: u64::from_le_bytes(fields.next()),
            src_port: u32::from_le_bytes(fields.next()),
            dst_port: u32::from_le_bytes(fields.next()),
            len: u32::from_le_bytes(fields.next()),
            kind: u16::from_le_bytes(fields.next()),
            op: u16::from_le_bytes(fields.next()),
            flags: u32::from_le_bytes(fields.next()),
            buf_alloc: u32::from_le_bytes(fields.next()),
            fwd_cnt: u32::from_le_bytes(fields.next()),
        }
    }

    /// Writes the little-endian fields.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The RST that answers this packet: its addresses swapped.
    fn reset(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            op: Op::Reset.code(),
            ..Self::default()
        }
    }
}

/// Takes fields off the front of a buffer that is known to be long enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("field sizes add up to HEADER_LEN");
        self.0 = rest;
        *field
    }
}

/// One end or both of a stream, from the view of who says it (`VIRTIO_VSOCK_SHUTDOWN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Receives no more.
    pub receive: bool,
    /// Sends no more.
    pub send: bool,
}

impl Ends {
    fn from_flags(flags: u32) -> Self {
        Self { receive: flags & 1 != 0, send: flags & 2 != 0 }
    }

    fn flags(self) -> u32 {
        u32::from(self.receive) | u32::from(self.send) << 1
    }

    /// Both ends: the stream is over.
    #[must_use]
    pub fn both(self) -> bool {
        self.receive && self.send
    }
}

/// What a packet does (`VIRTIO_VSOCK_OP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Asks for a connection.
    Request,
    /// Accepts one.
    Response,
    /// Refuses or ends one.
    Reset,
    /// Will not receive or send any more.
    Shutdown(Ends),
    /// Carries payload.
    Data,
    /// Carries only the credit fields.
    CreditUpdate,
    /// Asks for a credit update.
    CreditRequest,
}

impl Op {
    fn from_header(header: &Header) -> Option<Self> {
        Some(match header.op {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown(Ends::from_flags(header.flags)),
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    fn code(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown(_) => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}

/// What each side tells of its receive buffer in every packet (section 5.10.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credit {
    /// Size of the buffer.
    pub buf_alloc: u32,
    /// Bytes taken out of it so far, modulo 2^32.
    pub fwd_cnt: u32,
}

/// A packet between a port of this guest and a port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The guest's port.
    pub guest_port: u32,
    /// The host's port.
    pub host_port: u32,
    /// What it does.
    pub op: Op,
    /// Bytes of payload; only [`Op::Data`] has any.
    pub len: u32,
    /// The sender's receive buffer.
    pub credit: Credit,
}

/// A header that is no [`Packet`], and what it deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// No answer: a forged source, or a RST.
    Ignore,
    /// This RST.
    Answer(Header),
}

impl Packet {
    /// Admits what the guest may send to the host: from its own context id, to the host's, streams
    /// only, known operations only.
    ///
    /// # Errors
    /// [`Rejected`] tells how to answer anything else.
    pub fn check(header: &Header, guest_cid: u64) -> Result<Self, Rejected> {
        if header.src_cid != guest_cid {
            return Err(Rejected::Ignore);
        }
        let op = Op::from_header(header);
        match op {
            Some(op) if header.dst_cid == HOST_CID && header.kind == STREAM => Ok(Self {
                guest_port: header.src_port,
                host_port: header.dst_port,
                op,
                len: if op == Op::Data { header.len } else { 0 },
                credit: Credit { buf_alloc: header.buf_alloc, fwd_cnt: header.fwd_cnt },
            }),
            // A RST is never answered with a RST: two peers that disagree would not stop.
            Some(Op::Reset) => Err(Rejected::Ignore),
            _ => Err(Rejected::Answer(header.reset())),
        }
    }

    /// The header for a packet in the other direction.
    #[must_use]
    pub fn header(&self, guest_cid: u64) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: guest_cid,
            src_port: self.host_port,
            dst_port: self.guest_port,
            len: self.len,
            kind: STREAM,
            op: self.op.code(),
            flags: if let Op::Shutdown(ends) = self.op { ends.flags() } else { 0 },
            buf_alloc: self.credit.buf_alloc,
            fwd_cnt: self.credit.fwd_cnt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUEST: u64 = 3;

    fn header(src_cid: u64, dst_cid: u64, kind: u16, op: u16) -> Header {
        Header { src_cid, dst_cid, src_port: 7, dst_port: 9, kind, op, ..Header::default() }
    }

    #[test]
    fn a_forged_source_is_ignored() {
        let forged = header(4, HOST_CID, STREAM, 1);
        assert_eq!(Packet::check(&forged, GUEST), Err(Rejected::Ignore));
    }

    #[test]
    fn what_is_not_for_the_host_is_reset() {
        for bad in [
            header(GUEST, 1, STREAM, 1),
            header(GUEST, GUEST, STREAM, 5),
            header(GUEST, HOST_CID, 2, 1),
            header(GUEST, HOST_CID, STREAM, 0),
            header(GUEST, HOST_CID, STREAM, 99),
        ] {
            let Err(Rejected::Answer(reset)) = Packet::check(&bad, GUEST) else {
                panic!("{bad:?} must be answered");
            };
            assert_eq!((reset.op, reset.kind), (3, bad.kind));
            assert_eq!((reset.src_cid, reset.dst_cid), (bad.dst_cid, GUEST));
            assert_eq!((reset.src_port, reset.dst_port), (9, 7));
        }
    }

    #[test]
    fn a_reset_is_never_answered() {
        for bad in [header(GUEST, 1, STREAM, 3), header(GUEST, HOST_CID, 2, 3)] {
            assert_eq!(Packet::check(&bad, GUEST), Err(Rejected::Ignore));
        }
    }

    proptest! {
        #[test]
        fn bytes_round_trip(bytes: [u8; HEADER_LEN]) {
            prop_assert_eq!(Header::parse(&bytes).to_bytes(), bytes);
        }
    }
}
