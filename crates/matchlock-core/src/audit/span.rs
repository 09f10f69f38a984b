//! What begins in a sandbox and must be told to have ended, whatever way it ends.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use matchlock_net::AuditLost;
use matchlock_proto::{ExecRequest, ExitStatus};
use matchlock_text::DescribeChain;

use super::Trail;
use super::record::{Exec, ExecEnd, Lifecycle};

/// The records of one execution. Dropping it before its end is a cancellation.
#[derive(Debug)]
pub(crate) struct ExecSpan {
    trail: Arc<Trail>,
    exec: u64,
    ended: AtomicBool,
}

/// The records of one connection to a published port.
#[derive(Debug)]
pub(crate) struct ForwardSpan {
    trail: Arc<Trail>,
    forward: u64,
    error: Option<String>,
}

impl ExecSpan {
    /// Records the request.
    pub(crate) fn begin(
        trail: &Arc<Trail>,
        exec: u64,
        request: &ExecRequest,
    ) -> Result<Self, AuditLost> {
        trail.lifecycle(&Lifecycle::Exec(Exec::new(exec, request)))?;
        Ok(Self { trail: Arc::clone(trail), exec, ended: AtomicBool::new(false) })
    }

    /// Records how the program ended.
    pub(crate) fn end(&self, result: &Result<ExitStatus, impl Error>) {
        match result {
            Ok(status) => self.record((*status).into()),
            Err(error) => self.record(ExecEnd::Error(&DescribeChain(error).to_string())),
        }
    }

    /// Records that the program was not started.
    pub(crate) fn failed<E: Error>(&self, error: E) -> E {
        self.record(ExecEnd::Error(&DescribeChain(&error).to_string()));
        error
    }

    /// Records that nobody waits for the program any more; harmless after [`ExecSpan::end`].
    pub(crate) fn cancel(&self) {
        self.record(ExecEnd::Error("cancelled"));
    }

    fn record(&self, end: ExecEnd<'_>) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            // A loss stays with the trail, which refuses the next beginning.
            let _ = self.trail.lifecycle(&Lifecycle::ExecEnd { exec: self.exec, end });
        }
    }
}

impl Drop for ExecSpan {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl ForwardSpan {
    /// Records the connection; `ends` are the address that listens and its peer's, if it is over TCP.
    pub(crate) fn begin(
        trail: &Arc<Trail>,
        forward: u64,
        ends: Option<(SocketAddr, SocketAddr)>,
        port: u16,
    ) -> Result<Self, AuditLost> {
        let (address, peer) = ends.unzip();
        trail.lifecycle(&Lifecycle::Forward { forward, address, peer, port })?;
        Ok(Self { trail: Arc::clone(trail), forward, error: None })
    }

    /// Says why it failed, for the record that its end makes.
    pub(crate) fn failed(&mut self, error: &dyn Error) {
        self.error = Some(DescribeChain(error).to_string());
    }
}

impl Drop for ForwardSpan {
    fn drop(&mut self) {
        let error = self.error.as_deref();
        let end = Lifecycle::ForwardEnd { forward: self.forward, error };
        let _ = self.trail.lifecycle(&end);
    }
}
