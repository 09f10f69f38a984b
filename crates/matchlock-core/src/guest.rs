//! How the host reaches the agent in a guest.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use matchlock_proto::{AGENT_PORT, AgentFrame, HostFrame, Request, WireMessage};
use matchlock_vmm::{Answered, Vm};
use matchlock_wire::io::FrameReader;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout_at};

use crate::exec::ExecError;

/// Pause before an agent that refused a connection is dialled again.
const REDIAL: Duration = Duration::from_millis(50);

/// Leads to the agent of a machine, and does not keep the machine.
#[derive(Debug, Clone)]
pub(crate) struct Line(Weak<dyn Vm>);

impl Line {
    pub(crate) fn to(vm: &Arc<dyn Vm>) -> Self {
        Self(Arc::downgrade(vm))
    }

    /// Opens a connection to the agent. No thread waits for it.
    pub(crate) async fn dial(&self, deadline: Instant) -> io::Result<UnixStream> {
        loop {
            match self.attempt(deadline).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if Instant::now() + REDIAL > deadline {
                        return Err(error);
                    }
                    sleep(REDIAL).await;
                }
                done => return done,
            }
        }
    }

    /// The process of the machine, if it is one and has not ended.
    pub(crate) fn monitor(&self) -> Option<u32> {
        self.0.upgrade()?.pid()
    }

    async fn attempt(&self, deadline: Instant) -> io::Result<UnixStream> {
        let (tell, told) = oneshot::channel();
        let answered = Answered::new(move |result| drop(tell.send(result)));
        let vm = self.0.upgrade().ok_or(io::ErrorKind::BrokenPipe)?;
        let stream = vm.dial(AGENT_PORT, answered)?;
        drop(vm);
        let told = timeout_at(deadline.into(), told).await.map_err(|_| io::ErrorKind::TimedOut)?;
        told.map_err(|_| io::ErrorKind::BrokenPipe)??;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }
}

/// Sends a request and returns the one frame that answers it.
pub(crate) async fn ask(stream: UnixStream, request: Request) -> Result<AgentFrame, ExecError> {
    let (reader, mut writer) = stream.into_split();
    let mut bytes = Vec::new();
    HostFrame::Open(Box::new(request)).encode(&mut bytes);
    writer.write_all(&bytes).await.map_err(|error| ExecError::Lost(Some(error)))?;
    match FrameReader::<AgentFrame, _>::new(reader).next().await? {
        AgentFrame::Refused(failure) => Err(failure.into()),
        answer => Ok(answer),
    }
}
