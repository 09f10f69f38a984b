//! A run from its plan to its report. The sandbox's life is core's: this starts it, copies streams, hands
//! signals over and says how it ended.

use std::cell::Cell;
use std::time::{Duration, Instant};

use matchlock_core::{
    Attachments, BootTimes, DescribeChain, EndCause, Ending, ExecError, ExecFailure, ExecRequest,
    Execution, Launcher, Listeners, SandboxHandle, SandboxId, SandboxSpec, StartSpec, Streams,
};

use super::detach;
use super::plan::Plan;
use super::refused::{self, Refused};
use super::report::{Moments, Outcome, Report, announce};
use super::root;
use crate::commands::obtain::within;
use crate::commands::pump;
use crate::environment::Environment;
use crate::error::{CliError, Kind, OUTPUT_CLOSED};
use crate::options::time_span::in_seconds;
use crate::printer::Printer;
use crate::signals::Interrupts;
use crate::terminal::Terminal;

/// Exit status after `--timeout`, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// Exit status of errors of ours, as Docker's.
const FAILED: u8 = 125;

/// How long output that has come already may take to be written when the sandbox was ended.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// Runs the plan; returns the status to exit with.
pub(super) async fn run(
    plan: Plan,
    environment: &Environment,
    printer: Printer,
    started: Instant,
) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let Plan { image, pull, mut spec, mut with, kernel, invocation, terminal, .. } = plan;
    let Plan { pull_timeout, forwards, detached, .. } = plan;
    let preparing = async {
        let listeners = Listeners::bind(&forwards.0, &forwards.1)?;
        let launcher = Launcher::open(environment.host(kernel.clone())?);
        let launcher = async { launcher.await.map_err(CliError::from) };
        let root = root::obtain(&image, pull, environment, printer);
        let root = within(pull_timeout, "--pull-timeout", root);
        // What is wrong with this machine is said before an image has come from far away.
        let (launcher, root) = tokio::try_join!(launcher, root)?;
        let exec = invocation.complete(root.command(), terminal.as_ref().map(Terminal::size))?;
        if spec.lifetime.recorded {
            spec.start = Some(StartSpec::new(exec.as_ref(), &forwards, &kernel));
            with.images = root.store().cloned();
        }
        (spec.image, with.root) = root.into_parts();
        announce(launcher.accelerator(), printer);
        Ok::<_, CliError>(Ready { launcher, spec, with, listeners, exec, again: None })
    };
    let ready = tokio::select! {
        ready = preparing => ready?,
        signal = interrupts.next() => return Err(CliError::interrupted(signal)),
    };
    live(ready, Front { interrupts, terminal, detached, printer, started }).await
}

/// All that a sandbox is launched with.
pub(super) struct Ready {
    pub(super) launcher: Launcher,
    pub(super) spec: SandboxSpec,
    pub(super) with: Attachments,
    pub(super) listeners: Listeners,
    /// Its command.
    pub(super) exec: Option<ExecRequest>,
    /// The kept sandbox that it is; `None`: a new one.
    pub(super) again: Option<SandboxId>,
}

/// Who started it.
pub(super) struct Front {
    pub(super) interrupts: Interrupts,
    pub(super) terminal: Option<Terminal>,
    /// Another process waits until the command runs, and then nobody.
    pub(super) detached: bool,
    pub(super) printer: Printer,
    pub(super) started: Instant,
}

/// From the launch to the report.
pub(super) async fn live(ready: Ready, front: Front) -> Result<u8, CliError> {
    let Ready { launcher, spec, with, listeners, exec, again } = ready;
    let Front { interrupts, terminal, detached, printer, started } = front;
    let (audit_log, lifetime) = (spec.audit_log.clone(), spec.lifetime);
    let sandbox = match again {
        Some(id) => launcher.launch_again(id, spec, with),
        None => launcher.launch(spec, with)?,
    };
    let mut session = Session::new(sandbox, interrupts, lifetime.keep, detached, printer);
    let ran = session.run(listeners, exec, terminal.as_ref()).await;
    if ran.is_err() {
        session.sandbox.end_because(EndCause::CommandLost);
    }
    let command_ended = Instant::now();
    let ending = session.ended().await;
    let refused: Vec<Refused> = ending.refused.iter().cloned().map(Refused::from).collect();
    if let Some(line) = refused::line(&refused).filter(|_| printer.is_terminal()) {
        printer.note(&line);
    }
    if let Some(fault) = &ending.disk_fault {
        let hint = fault.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        printer.note(&format!("{fault}{hint}"));
    }
    if let Some(why) = &ending.unrecorded {
        printer.note(&format!("its end could not be recorded: {why}"));
    }
    let timed_out = ending.cause == EndCause::Deadline;
    if timed_out {
        let time = in_seconds(lifetime.limit.unwrap_or_default());
        printer.note(&format!("timed out after {time}; the sandbox was ended (see --timeout)"));
    }
    let ended = session.status(&ending, ran);
    // What is not recorded was refused: the run is not what it was meant to be.
    let ended = match &ending.audit_lost {
        Some(why) => ended.and_then(|_| Err(audit_lost(why))),
        None => ended,
    };
    let Some(times) = &session.times else { return ended };
    let exit_code = match &ended {
        Ok(status) => *status,
        Err(error) => error.status().unwrap_or(FAILED),
    };
    let first_byte = session.first_byte.get().unwrap_or(command_ended);
    let moments = Moments { started, first_byte, command_ended, gone: Instant::now() };
    let audit = audit_log.as_deref();
    let outcome = Outcome { exit_code, timed_out, refused: &refused, audit };
    let id = session.sandbox.id();
    let report = Report::new(id, launcher.accelerator(), times, moments, outcome);
    match ended {
        Ok(status) => printer.json(&report).map(|()| status),
        Err(error) => Err(error.with_details(&report)),
    }
}

fn audit_lost(why: &str) -> CliError {
    let says = format!("the audit trail is incomplete, so this run has failed: {why}");
    CliError::new(says).of_kind(Kind::Io)
}

/// For an ending that no other error explains.
fn unexplained(ending: &Ending, keep: bool) -> CliError {
    match (&ending.cause, keep) {
        (EndCause::GuestGone | EndCause::MonitorDied(_), true) => {
            CliError::new("the sandbox ended by itself").of_kind(Kind::Guest)
        }
        _ => describe(ExecError::Lost(None)),
    }
}

/// A sandbox that was launched.
struct Session {
    sandbox: SandboxHandle,
    interrupts: Interrupts,
    keep: bool,
    /// Another process waits until the command runs.
    detached: bool,
    printer: Printer,
    /// Known when the sandbox was up.
    times: Option<BootTimes>,
    /// Of the command's output.
    first_byte: Cell<Option<Instant>>,
    /// Nobody reads our output any more.
    output_closed: bool,
}

impl Session {
    fn new(
        sandbox: SandboxHandle,
        interrupts: Interrupts,
        keep: bool,
        detached: bool,
        printer: Printer,
    ) -> Self {
        let (times, first_byte, output_closed) = (None, Cell::new(None), false);
        Self { sandbox, interrupts, keep, detached, printer, times, first_byte, output_closed }
    }

    /// The status that an ending stands for.
    fn status(&self, ending: &Ending, ran: Result<(), CliError>) -> Result<u8, CliError> {
        match (&ending.cause, ending.status) {
            (EndCause::Signal(signal), _) if self.times.is_none() => {
                Err(CliError::interrupted(*signal))
            }
            (EndCause::Signal(_), Some(status)) => Ok(status.shell_code()),
            (EndCause::Signal(signal), None) => Ok(128u8.saturating_add(*signal)),
            (EndCause::Deadline, _) => Ok(TIMED_OUT),
            (EndCause::OutputClosed, _) => Ok(OUTPUT_CLOSED),
            _ if self.output_closed => Ok(OUTPUT_CLOSED),
            (cause, status) => {
                ran?;
                match (cause, status) {
                    (EndCause::CommandEnded, Some(status)) => Ok(status.shell_code()),
                    // `--rm=false` ends by a signal from the user, which is its success.
                    (EndCause::Stopped, _) => Ok(0),
                    _ => Err(unexplained(ending, self.keep)),
                }
            }
        }
    }

    /// Until the command has ended, or there is none.
    async fn run(
        &mut self,
        listeners: Listeners,
        exec: Option<ExecRequest>,
        terminal: Option<&Terminal>,
    ) -> Result<(), CliError> {
        let sandbox = self.sandbox.clone();
        let progress = self.printer.progress("starting the sandbox …");
        let ready = self.hearing(sandbox.ready()).await;
        drop(progress);
        let times = ready.map_err(|error| CliError::from(error).context("starting sandbox"))?;
        self.times = Some(times);
        if self.keep && !self.detached {
            let id = sandbox.id();
            self.printer.line(&format!("Sandbox {id} is running"));
            self.printer.line(&format!("  Connect: matchlock exec {id} -it bash"));
            self.printer.line(&format!("  Stop:    matchlock kill {id}"));
        }
        self.publish(listeners)?;
        let command = match exec {
            Some(request) => Some(self.hearing(sandbox.command(request)).await.map_err(describe)?),
            None => None,
        };
        if self.detached {
            detach::up(sandbox.id())?;
        }
        if let Some((execution, streams)) = command {
            self.output_closed = self.attend(execution, streams, terminal).await?;
        }
        Ok(())
    }

    /// Until nothing of the sandbox is left.
    async fn ended(&mut self) -> Ending {
        let sandbox = self.sandbox.clone();
        self.hearing(sandbox.ended()).await
    }

    /// Does `work`, and hands signals to the sandbox meanwhile.
    async fn hearing<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                signal = self.interrupts.next() => self.sandbox.signal(signal),
            }
        }
    }

    /// Serves the published ports.
    fn publish(&self, listeners: Listeners) -> Result<(), CliError> {
        let bindings: Vec<_> = listeners.bindings().collect();
        let printer = self.printer;
        self.sandbox.publish(listeners, move |error| {
            let error = CliError::new(DescribeChain(error).to_string());
            printer.line(&format!("port-forward connection error: {error}"));
        })?;
        for binding in bindings {
            printer.line(&format!("Forwarding {binding}"));
        }
        Ok(())
    }

    /// Copies the command's streams to their ends. Returns whether nobody reads ours any more.
    async fn attend(
        &mut self,
        mut execution: Execution,
        streams: Streams,
        terminal: Option<&Terminal>,
    ) -> Result<bool, CliError> {
        let raw = terminal.map(Terminal::raw).transpose();
        // Held to the end of this function: every way out restores the terminal.
        let _raw = raw.map_err(|error| CliError::of_io("cannot set the terminal", &error))?;
        let control = execution.control();
        let resizing = async {
            if let Some(terminal) = terminal {
                pump::sizes(terminal, |size| control.resize(size)).await;
            }
            std::future::pending::<()>().await;
        };
        let Streams { stdin, stdout, stderr } = streams;
        // Shared with what copies while signals are heard.
        let first_byte = self.first_byte.clone();
        let seen = || {
            if first_byte.get().is_none() {
                first_byte.set(Some(Instant::now()));
            }
        };
        // A task of its own: a read of a terminal cannot be cancelled, only abandoned.
        let feeding = stdin.map(|stdin| tokio::spawn(pump::input(tokio::io::stdin(), stdin)));
        let copying = async {
            tokio::try_join!(
                pump::output(stdout, tokio::io::stdout(), seen),
                pump::output(stderr, tokio::io::stderr(), seen),
            )
        };
        tokio::pin!(copying);
        let sandbox = self.sandbox.clone();
        let copied = self.hearing(async {
            tokio::select! {
                copied = &mut copying => Some(copied),
                () = resizing => None,
                _ = sandbox.ended() => None,
            }
        });
        let copied = match copied.await {
            Some(copied) => copied,
            // What has come already is still to be written, unless nobody reads it.
            None if sandbox.ended().await.cause == EndCause::CommandEnded => tokio::select! {
                copied = &mut copying => copied,
                _ = self.interrupts.next() => return Ok(false),
            },
            None => tokio::time::timeout(LAST_OUTPUT, &mut copying).await.unwrap_or(Ok(((), ()))),
        };
        if let Some(task) = feeding {
            task.abort();
        }
        self.first_byte.set(first_byte.get());
        match copied {
            Ok(_) => execution.wait().await.map(|_| false).map_err(describe),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                sandbox.end_because(EndCause::OutputClosed);
                Ok(true)
            }
            Err(error) => Err(CliError::new(format!("cannot write the command's output: {error}"))),
        }
    }
}

/// Statuses of a program that cannot be started are those of a shell.
fn describe(error: ExecError) -> CliError {
    let status = match &error {
        ExecError::Refused(ExecFailure::NotFound(_)) => 127,
        ExecError::Refused(ExecFailure::NotExecutable(_)) => 126,
        _ => FAILED,
    };
    CliError::from(error).context("executing command").with_status(status)
}
