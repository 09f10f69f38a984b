//! The one task that owns a sandbox, from its first file to its last.
//!
//! Everybody else has a [`crate::SandboxHandle`], which sends it orders. What ends a sandbox, and how, is
//! decided here and nowhere else:
//!
//! | what happens | while it starts | while its command runs | otherwise |
//! |---|---|---|---|
//! | a signal | ended at once | sent on to the command, which has the grace | stopped |
//! | the deadline | – | `SIGTERM` to the command, which has the grace | stopped |
//! | the command ends | – | ended, or kept | – |
//! | a second signal | – | ended at once | ended at once |
//!
//! Stopped means that all programs are asked to end. A sandbox that writes to disks of the user's writes
//! them out before it goes, unless it is killed or its guest does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use matchlock_proto::{ANSWER, ExitStatus, Request};
use matchlock_text::DescribeChain;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until, timeout};

use crate::audit::EndReason;
use crate::boot::{BootTimes, LAST_WORDS, boot};
use crate::clock::Clock;
use crate::error::CoreError;
use crate::exec::{Attended, ExecError};
use crate::forward::Published;
use crate::guest::{Line, ask};
use crate::handle::Up;
use crate::launcher::{Alive, Parts, beside};
use crate::phase::{EndCause, Ending, Phase, Progress};
use crate::prepared::{Live, Origin, PoweredOn, Prepared, Remains};
use crate::spec::{Attachments, Lifetime, SandboxSpec};
use crate::state::EndRecord;

/// How long a guest may take to write out to disks what it still holds in memory.
const WRITE_BACK: Duration = Duration::from_secs(60);

const SIGTERM: u8 = 15;

/// What handles ask for.
#[derive(Debug)]
pub(crate) enum Order {
    /// This program is the sandbox's command.
    Attend(Attended),
    /// These ports belong to the sandbox.
    Publish(Published),
    /// No ports belong to the sandbox any more; the sender is told when none is open.
    Unpublish(oneshot::Sender<()>),
    /// The user wants an end.
    Signal(u8),
    /// An end, with time for programs if there is a grace.
    End { cause: EndCause, grace: Option<Duration> },
}

/// Becomes known once: that the sandbox is up, or that it is not going to be.
pub(crate) type Started = Option<Result<Arc<Up>, Arc<CoreError>>>;

/// Owns one sandbox.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) orders: UnboundedReceiver<Order>,
    pub(crate) progress: Progress,
    pub(crate) started: watch::Sender<Started>,
    pub(crate) over: watch::Sender<Option<Ending>>,
    pub(crate) lifetime: Lifetime,
}

/// Why the sandbox must go, and how.
#[derive(Debug)]
struct Verdict {
    cause: EndCause,
    status: Option<ExitStatus>,
    /// Time for all programs to end; `None`: at once.
    grace: Option<Duration>,
}

/// Why a sandbox never ran.
#[derive(Debug)]
enum Stillborn {
    Error(CoreError),
    CalledOff(EndCause),
}

impl Stillborn {
    fn cause(&self) -> EndCause {
        match self {
            Self::Error(_) => EndCause::StartFailed,
            Self::CalledOff(cause) => cause.clone(),
        }
    }
}

impl Supervisor {
    /// The whole life.
    pub(crate) async fn run(
        self,
        origin: Origin,
        spec: SandboxSpec,
        with: Attachments,
        alive: Alive,
    ) {
        match self.power_on(origin, spec, with, Arc::clone(alive.parts())).await {
            Ok(on) => self.live(on).await,
            Err(error) => {
                self.progress.advance(Phase::Unwinding);
                self.fail(Stillborn::Error(error)).await;
            }
        }
    }

    /// Takes what the machine needs, and starts it. This is short, and gives everything back if it
    /// fails; who calls it off meanwhile is heard when the machine boots.
    async fn power_on(
        &self,
        origin: Origin,
        spec: SandboxSpec,
        with: Attachments,
        parts: Arc<Parts>,
    ) -> Result<PoweredOn, CoreError> {
        let of_host = Arc::clone(&parts);
        let prepared = beside(move || Prepared::acquire(&origin, &spec, with, &of_host)).await?;
        self.progress.advance(Phase::Booting);
        beside(move || prepared.power_on(&parts)).await
    }

    async fn live(mut self, on: PoweredOn) {
        let PoweredOn { live, control, first, boot: config, defaults, writes_disks, .. } = on;
        let PoweredOn { prepared, started, .. } = on;
        let booted = tokio::select! {
            booted = boot(&live.machine, first, config) => booted.map_err(Stillborn::Error),
            cause = called_off(&mut self.orders) => Err(Stillborn::CalledOff(cause)),
        };
        let (agent_reached, guest) = match booted {
            Ok(booted) => booted,
            Err(why) => {
                self.progress.advance(Phase::Unwinding);
                end(live, EndReason::StartFailed, why.cause()).await;
                return self.fail(why).await;
            }
        };
        let ready = Instant::now();
        let times = BootTimes { prepared, vmm_started: started, agent_reached, ready, guest };
        let up = Arc::new(Up::new(&live, defaults, times));
        let control = match control.serve(&up) {
            Ok(control) => control,
            Err(error) => {
                self.progress.advance(Phase::Unwinding);
                end(live, EndReason::StartFailed, EndCause::StartFailed).await;
                let error = CoreError::host("serve the control socket")(error);
                return self.fail(Stillborn::Error(error)).await;
            }
        };
        self.progress.advance(Phase::Running);
        self.started.send_replace(Some(Ok(up)));
        let clock = Clock::keep(&live.machine.vm);
        let mut published = Vec::new();
        let verdict = self.attend(&live, &mut published).await;
        let stopped = self.stop(&live, &verdict, writes_disks).await;
        self.progress.advance(Phase::Ending);
        drop((control, clock));
        for published in published {
            published.close().await;
        }
        let reason = if stopped { EndReason::Stopped } else { EndReason::Ended };
        let Verdict { cause, status, .. } = verdict;
        let remains = end(live, reason, cause.clone()).await;
        let Remains { refused, audit_lost, disk_fault } = remains;
        let written = EndRecord::new(&cause, status.map(ExitStatus::shell_code), None);
        let unrecorded = self.progress.conclude(Phase::Ended, written).await;
        let ending = Ending { cause, status, refused, audit_lost, disk_fault, unrecorded };
        self.over.send_replace(Some(ending));
    }

    /// Publishes that nothing came of it, when nothing is left of it.
    async fn fail(self, why: Stillborn) {
        let cause = why.cause();
        let error = match why {
            Stillborn::Error(error) => error,
            Stillborn::CalledOff(_) => CoreError::CalledOff,
        };
        let written = EndRecord::new(&cause, None, Some(DescribeChain(&error).to_string()));
        let unrecorded = self.progress.conclude(Phase::Failed, written).await;
        self.over.send_replace(Some(Ending { unrecorded, ..Ending::of_nothing(cause) }));
        self.started.send_replace(Some(Err(Arc::new(error))));
    }

    /// Until something ends the sandbox.
    async fn attend(&mut self, live: &Live, published: &mut Vec<Published>) -> Verdict {
        let Lifetime { limit, grace, keep, .. } = self.lifetime;
        // A time beyond what the clock can say is no limit.
        let deadline = || limit.and_then(|limit| Instant::now().checked_add(limit));
        let (mut command, mut expires, mut status) = (None::<Attended>, deadline(), None);
        let patience = keep.then_some(grace);
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Attend(attended)) => {
                        (command, expires, status) = (Some(attended), deadline(), None);
                    }
                    Some(Order::Publish(ports)) => published.push(ports),
                    Some(Order::Unpublish(done)) => {
                        for published in published.drain(..) {
                            published.close().await;
                        }
                        // Who has asked may be gone.
                        let _ = done.send(());
                    }
                    Some(Order::Signal(number)) => return match command {
                        Some(command) => {
                            let status = self.interrupt(command, number).await;
                            Verdict { cause: EndCause::Signal(number), status, grace: patience }
                        }
                        None => Verdict { cause: EndCause::Stopped, status, grace: Some(grace) },
                    },
                    Some(Order::End { cause, grace }) => return Verdict { cause, status, grace },
                    None => return Verdict { cause: EndCause::Abandoned, status, grace: None },
                },
                ended = ended(&mut command) => match ended {
                    Some(ended) if keep => (command, status) = (None, Some(ended)),
                    Some(_) => {
                        return Verdict { cause: EndCause::CommandEnded, status: ended, grace: None };
                    }
                    None => return Verdict { cause: lost(live).await, status: None, grace: None },
                },
                cause = gone(live) => return Verdict { cause, status, grace: None },
                () = expiry(expires) => {
                    let status = match command {
                        Some(command) => self.interrupt(command, SIGTERM).await,
                        None => status,
                    };
                    return Verdict { cause: EndCause::Deadline, status, grace: patience };
                }
            }
        }
    }

    /// Asks the command to end, and gives it the grace, unless somebody is in a hurry. Returns its
    /// status if it obeyed.
    async fn interrupt(&mut self, command: Attended, signal: u8) -> Option<ExitStatus> {
        command.control.signal(signal);
        let mut command = Some(command);
        tokio::select! {
            status = ended(&mut command) => status,
            () = sleep(self.lifetime.grace) => None,
            _ = called_off(&mut self.orders) => None,
        }
    }

    /// Has the guest end its programs and write out its disks. Returns whether it was asked to.
    async fn stop(&mut self, live: &Live, verdict: &Verdict, writes_disks: bool) -> bool {
        let at_once = matches!(
            verdict.cause,
            EndCause::Killed | EndCause::GuestGone | EndCause::MonitorDied(_)
        );
        let grace = verdict.grace.or(writes_disks.then_some(Duration::ZERO));
        let Some(grace) = grace.filter(|_| !at_once) else { return false };
        self.progress.advance(Phase::Stopping);
        // The guest's own limit first, then ours: a little longer, so that it can answer.
        let patience = grace.saturating_add(if writes_disks { WRITE_BACK } else { ANSWER });
        let line = Line::to(&live.machine.vm);
        tokio::select! {
            _ = timeout(patience, shut_down(&line, grace)) => {}
            _ = called_off(&mut self.orders) => {}
        }
        true
    }
}

/// Ends what runs, on a thread that may block.
async fn end(live: Live, reason: EndReason, cause: EndCause) -> Remains {
    // A panic of it was reported by the panic itself.
    spawn_blocking(move || live.end(reason, cause)).await.unwrap_or_default()
}

/// The next wish for an end at once. Wishes for anything else come too late.
async fn called_off(orders: &mut UnboundedReceiver<Order>) -> EndCause {
    loop {
        match orders.recv().await {
            Some(Order::Signal(number)) => return EndCause::Signal(number),
            Some(Order::End { cause, .. }) => return cause,
            Some(Order::Attend(_) | Order::Publish(_) | Order::Unpublish(_)) => {}
            None => return EndCause::Abandoned,
        }
    }
}

/// How the command ended; `None` when its connection broke.
async fn ended(command: &mut Option<Attended>) -> Option<ExitStatus> {
    match command {
        Some(command) => command.ended().await,
        None => std::future::pending().await,
    }
}

/// The end of a machine that nobody has ended.
async fn gone(live: &Live) -> EndCause {
    let exit = live.machine.ended().await;
    if exit.clean { EndCause::GuestGone } else { EndCause::MonitorDied(exit.diagnostics) }
}

/// Why the connection to a command broke: the devices see the end of a monitor before its parent does.
async fn lost(live: &Live) -> EndCause {
    timeout(LAST_WORDS, gone(live)).await.unwrap_or(EndCause::CommandLost)
}

async fn shut_down(line: &Line, grace: Duration) -> Result<(), ExecError> {
    let deadline = Instant::now() + ANSWER;
    let stream = line.dial(deadline).await.map_err(|error| ExecError::Lost(Some(error)))?;
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    ask(stream, Request::Shutdown { grace_ms }).await.map(drop)
}

async fn expiry(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
