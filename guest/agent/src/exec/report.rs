//! What the processes of an execution tell the agent: the protocol's own frames, one a packet.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use matchlock_proto::{AgentFrame, Decoder, WireMessage};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Longest report: a failure's text quotes its request in excerpts only.
const MAX_REPORT: usize = 4096;

/// A packet socket pair: the agent's end, which does not block, and the execution's.
pub(crate) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Sends one frame, with a descriptor when there is one to pass.
pub(crate) fn send(
    channel: impl AsFd,
    frame: &AgentFrame,
    passed: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut packet = Vec::new();
    frame.encode(&mut packet);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let passed = passed.as_slice();
    if !passed.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(passed));
    }
    sendmsg(channel, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next frame, `None` at the end, `WouldBlock` when there is none yet.
pub(crate) fn receive(channel: impl AsFd) -> io::Result<Option<(AgentFrame, Option<OwnedFd>)>> {
    let mut packet = [0; MAX_REPORT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        recvmsg(channel, &mut [IoSliceMut::new(&mut packet)], &mut ancillary, flags)?.bytes;
    if received == 0 {
        return Ok(None);
    }
    let mut decoder = Decoder::<AgentFrame>::new();
    decoder.push(packet.get(..received).unwrap_or_default());
    let frame = decoder.next().map_err(io::Error::other)?;
    let frame = frame.ok_or_else(|| io::Error::other("truncated report"))?;
    let passed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((frame, passed)))
}
