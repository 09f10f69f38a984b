//! What a sandbox uses and what runs in it: by the word of its guest, and by that of this machine.

use std::fs;
use std::time::{Duration, Instant};

use matchlock_api::control::{Process, StatsResult, TopResult};
use matchlock_proto::{
    AgentFrame, ExitStatus, HostFrame, Inquiry, MAX_ANSWER, ProcessEntry, Request, StreamId, Usage,
    WireMessage, list,
};
use matchlock_wire::io::FrameReader;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout_at;

use crate::exec::ExecError;
use crate::handle::Up;

/// How long a guest may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Up {
    /// What the sandbox uses.
    pub(crate) async fn stats(&self) -> Result<StatsResult, ExecError> {
        let usage: Usage = single(&self.inquire(Inquiry::Usage).await?)?;
        let host = self.monitor().map(Own::read).unwrap_or_default();
        let traffic = self.traffic();
        Ok(StatsResult {
            at_us: self.age_us(),
            cpu_us: host.cpu_us,
            host_memory: host.memory,
            memory_used: usage.memory_total.saturating_sub(usage.memory_available),
            memory_limit: usage.memory_total,
            network_received: traffic.map(|traffic| traffic.sent),
            network_sent: traffic.map(|traffic| traffic.received),
            disk_read: usage.disk_read,
            disk_written: usage.disk_written,
            processes: usage.processes,
        })
    }

    /// What runs in the guest.
    pub(crate) async fn top(&self) -> Result<TopResult, ExecError> {
        let bytes = self.inquire(Inquiry::Processes).await?;
        let mut rest = bytes.as_slice();
        let mut processes = Vec::new();
        while let Some(process) = list::take(&mut rest).map_err(|_| ExecError::Unexpected)? {
            processes.push(process);
        }
        if !rest.is_empty() {
            return Err(ExecError::Unexpected);
        }
        processes.sort_by_key(|process: &ProcessEntry| process.pid);
        Ok(TopResult { processes: processes.into_iter().map(shown).collect() })
    }

    async fn inquire(&self, inquiry: Inquiry) -> Result<Vec<u8>, ExecError> {
        let deadline = Instant::now() + PATIENCE;
        let dialled = self.line().dial(deadline).await;
        let stream = dialled.map_err(|error| ExecError::Lost(Some(error)))?;
        let answered = timeout_at(deadline.into(), answer(stream, inquiry)).await;
        answered.unwrap_or(Err(ExecError::Slow))
    }
}

/// The whole answer of a guest, which needs no credit for it.
async fn answer(stream: UnixStream, inquiry: Inquiry) -> Result<Vec<u8>, ExecError> {
    let (reader, mut writer) = stream.into_split();
    let mut request = Vec::new();
    HostFrame::Open(Box::new(Request::Inquire(inquiry))).encode(&mut request);
    writer.write_all(&request).await.map_err(|error| ExecError::Lost(Some(error)))?;
    let mut frames = FrameReader::<AgentFrame, _>::new(reader);
    let mut said = Vec::new();
    loop {
        match frames.next().await? {
            AgentFrame::Stdout(data) if said.len() + data.len() > MAX_ANSWER => {
                return Err(ExecError::Flood);
            }
            AgentFrame::Stdout(data) => said.extend_from_slice(&data),
            AgentFrame::Exited(ExitStatus::Code(0)) => return Ok(said),
            AgentFrame::Refused(failure) => return Err(failure.into()),
            AgentFrame::Started | AgentFrame::Stderr(_) => {}
            AgentFrame::Credit(StreamId::Stdin, _) => {}
            AgentFrame::Credit(..)
            | AgentFrame::Booted(_)
            | AgentFrame::Done
            | AgentFrame::Exited(_) => return Err(ExecError::Unexpected),
        }
    }
}

/// The one value of an answer.
fn single(bytes: &[u8]) -> Result<Usage, ExecError> {
    let mut rest = bytes;
    match list::take(&mut rest) {
        Ok(Some(usage)) if rest.is_empty() => Ok(usage),
        _ => Err(ExecError::Unexpected),
    }
}

fn shown(process: ProcessEntry) -> Process {
    let ProcessEntry { pid, parent, uid, user, state, cpu_ms, memory, command } = process;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let state = if state.is_ascii_alphabetic() { char::from(state) } else { '?' };
    Process {
        pid,
        parent,
        uid,
        user: text(user),
        state: state.to_string(),
        cpu_ms,
        memory,
        command: text(command),
    }
}

/// What a process of this machine uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Own {
    cpu_us: u64,
    memory: u64,
}

impl Own {
    /// Nothing, if it has ended.
    fn read(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let page = rustix::param::page_size() as u64;
        Self::parse(&stat, rustix::param::clock_ticks_per_second(), page).unwrap_or_default()
    }

    /// The command name may hold spaces and parentheses: fields count from the last one.
    fn parse(stat: &str, ticks_per_second: u64, page: u64) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ticks = number(11)?.saturating_add(number(12)?);
        let cpu_us = ticks.saturating_mul(1_000_000) / ticks_per_second.max(1);
        Some(Self { cpu_us, memory: number(21)?.saturating_mul(page) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_machine_is_measured() {
        let stat = "7 (a) b) S 3 7 7 0 -1 64 0 0 0 0 50 100 0 0 20 0 1 0 9 4096 33 1";
        let own = Own { cpu_us: 1_500_000, memory: 33 * 4096 };
        assert_eq!(Own::parse(stat, 100, 4096), Some(own));
        assert_eq!(Own::parse("7 (x) S", 100, 4096), None);
        assert!(Own::read(std::process::id()).memory > 0);
        assert_eq!(Own::read(u32::MAX), Own::default());
    }
}
