//! One flow of the guest, from its opening to its end in the audit trail.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use matchlock_policy::{Denied, Host, HostName, Rule, Suggestion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Shared;
use crate::audit::{AuditLost, Decision, Event, Protocol};
use crate::cause::Cause;
use crate::refusals::Refusal;

/// A flow that was decided. Once it was let open its end is recorded, however it comes.
#[derive(Debug)]
pub(crate) struct Flow {
    shared: Arc<Shared>,
    id: u64,
    protocol: Protocol,
    name: Option<HostName>,
    address: SocketAddr,
    opened: Option<Instant>,
    traffic: Arc<Traffic>,
}

/// Bytes of payload so far.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Flow {
    /// A flow to what the guest dialled, which stands for a name or not.
    pub(crate) fn new(
        shared: Arc<Shared>,
        protocol: Protocol,
        address: SocketAddr,
        name: Option<HostName>,
    ) -> Self {
        let id = shared.next_flow();
        Self { shared, id, protocol, name, address, opened: None, traffic: Arc::default() }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Records that the flow may be.
    ///
    /// # Errors
    ///
    /// It could not be recorded: the flow may not be.
    pub(crate) fn open(&mut self, rule: &Rule) -> Result<(), AuditLost> {
        self.shared.audit(&self.opening(Decision::Allowed, rule.to_string(), None))?;
        self.opened = Some(Instant::now());
        Ok(())
    }

    /// Records that the flow may not be.
    pub(crate) fn deny(&self, denied: &Denied) {
        self.refused(Refusal::denied(self.host(), Some(self.address.port()), denied));
        let reason = Some(denied.reason().into());
        // Nothing happens that would need the record; a lost one closes the network anyway.
        let _ =
            self.shared.audit(&self.opening(Decision::Denied, denied.rule().to_string(), reason));
    }

    /// Records that the flow may not be, for a reason that is not in the policy.
    pub(crate) fn deny_for(&self, reason: &'static str) {
        self.refused(Refusal::of(self.host(), Some(self.address.port()), reason));
        let reason = Some(reason.into());
        let _ = self.shared.audit(&self.opening(Decision::Denied, "engine".to_owned(), reason));
    }

    /// Records that policy does not let an opened flow go on.
    pub(crate) fn refuse_denied(&self, sni: Option<&HostName>, denied: &Denied) {
        self.refused(Refusal::denied(self.host(), Some(self.address.port()), denied));
        self.record_refusal(sni, Cause::of(denied));
    }

    /// Records that an opened flow does not go on for what the guest sent.
    pub(crate) fn refuse(&self, sni: Option<&HostName>, reason: impl Into<Cause>) {
        let reason = reason.into();
        self.refused(Refusal::of(self.host(), Some(self.address.port()), reason.clone()));
        self.record_refusal(sni, reason);
    }

    /// Records that an opened flow does not go on because nobody may read what it speaks; `suggestion`
    /// would let it pass unread.
    pub(crate) fn refuse_unread(&self, reason: impl Into<Cause>, suggestion: Suggestion) {
        let reason = reason.into();
        let refusal = Refusal::of(self.host(), Some(self.address.port()), reason.clone());
        self.refused(Refusal { suggestion: Some(suggestion), ..refusal });
        self.record_refusal(None, reason);
    }

    /// Records that the bytes of an opened flow pass unread, and what they are.
    ///
    /// # Errors
    ///
    /// It could not be recorded: they may not pass.
    pub(crate) fn relayed(&self, spoken: String) -> Result<(), AuditLost> {
        self.shared.audit(&Event::FlowRelayed { flow: self.id, spoken })
    }

    /// Records that the other side of an opened flow is not to be had.
    pub(crate) fn fail(&self, host: &Host, reason: Cause) {
        let (flow, host, port) = (self.id, host.to_string(), self.address.port());
        let _ = self.shared.audit(&Event::UpstreamFailed { flow, host, port, reason });
    }

    /// The name that was dialled, or else the address.
    fn host(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.ip().to_string(), ToString::to_string)
    }

    fn refused(&self, refusal: Refusal) {
        self.shared.refused(refusal);
    }

    fn record_refusal(&self, sni: Option<&HostName>, reason: Cause) {
        let sni = sni.map(ToString::to_string);
        let (flow, decision) = (self.id, Decision::Denied);
        let _ = self.shared.audit(&Event::FlowRefused { flow, sni, decision, reason });
    }

    fn opening(&self, decision: Decision, rule: String, reason: Option<Cause>) -> Event {
        Event::FlowOpen {
            flow: self.id,
            protocol: self.protocol,
            host: self.name.as_ref().map(ToString::to_string),
            address: self.address.ip(),
            port: self.address.port(),
            decision,
            rule,
            reason,
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let Some(opened) = self.opened else { return };
        let _ = self.shared.audit(&Event::FlowClose {
            flow: self.id,
            bytes_up: self.traffic.up.load(Ordering::Relaxed),
            bytes_down: self.traffic.down.load(Ordering::Relaxed),
            duration_ms: opened.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        });
    }
}

impl Traffic {
    pub(crate) fn add_up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The guest's side of a flow, counted while the bytes go, so that an end of any kind has counted.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    traffic: Arc<Traffic>,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, traffic: Arc<Traffic>) -> Self {
        Self { inner, traffic }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.traffic.add_up(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.traffic.add_down(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.traffic.add_down(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
