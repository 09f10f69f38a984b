//! From power-on to an agent that has set its guest up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use matchlock_proto::{AgentFrame, BootConfig, BootReport, Request};
use matchlock_vmm::Vm;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::clock;
use crate::error::CoreError;
use crate::exec::ExecError;
use crate::guest::ask;
use crate::machine::{BOOT_TIMEOUT, FirstConnection, Machine};

/// How long a monitor that has closed its devices may take to be seen as ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// When the parts of the start were done.
#[derive(Debug, Clone)]
pub struct BootTimes {
    /// The monitor was about to be started.
    pub prepared: Instant,
    /// The monitor's process existed.
    pub vmm_started: Instant,
    /// The agent accepted the first connection.
    pub agent_reached: Instant,
    /// The agent had set the guest up.
    pub ready: Instant,
    /// The same seen from the guest.
    pub guest: BootReport,
}

/// Tells the guest what it is. Returns when its agent was reached, and what it says.
pub(crate) async fn boot(
    machine: &Machine,
    first: FirstConnection,
    mut config: BootConfig,
) -> Result<(Instant, BootReport), CoreError> {
    let deadline = Instant::now() + BOOT_TIMEOUT;
    let failed = |problem: &str| failed(&machine.vm, problem);
    let dialled = first.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    let stream = dialled.and_then(|dialled| dialled).and_then(|stream| {
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    });
    let Ok(stream) = stream else {
        // The devices see the end of a monitor before its parent does.
        return Err(match timeout(LAST_WORDS, machine.ended()).await {
            Ok(exit) if !exit.diagnostics.is_empty() => {
                failed(&format!("the virtual machine ended: {}", exit.diagnostics.trim()))
            }
            Ok(_) => failed("the virtual machine ended"),
            Err(_) => failed("its agent did not answer in time"),
        });
    };
    let reached = Instant::now();
    // The guest's clock starts with this message.
    config.realtime = clock::now();
    let left = deadline.saturating_duration_since(reached);
    match timeout(left, ask(stream, Request::Boot(Box::new(config)))).await {
        Ok(Ok(AgentFrame::Booted(report))) => Ok((reached, report)),
        Ok(Err(ExecError::Refused(failure))) => Err(CoreError::GuestSetup(failure)),
        Ok(Ok(_) | Err(_)) => Err(failed("the connection to its agent was lost")),
        Err(_) => Err(failed("its agent did not finish in time")),
    }
}

fn failed(vm: &Arc<dyn Vm>, problem: &str) -> CoreError {
    CoreError::Boot { problem: problem.to_owned(), console: vm.console_tail() }
}
