//! A run from the first check to the last file removed.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use matchlock_core::net::Network;
use matchlock_core::vmm::Qemu;
use matchlock_core::{
    DescribeChain, ExecError, ExecFailure, ExecRequest, Execution, ExitStatus, Listeners,
    Published, Sandbox, Streams,
};
use tokio::time::{Instant as TokioInstant, sleep, sleep_until};

use super::plan::Plan;
use super::pump;
use super::refused::{self, Refused};
use super::report::{Ending, Moments, Report, announce};
use super::root;
use crate::commands::obtain::within;
use crate::embedded::ARTEFACTS;
use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::options::time_span::in_seconds;
use crate::printer::Printer;
use crate::signals::Interrupts;
use crate::terminal::Terminal;

/// Exit status after `--timeout`, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// Exit status when our standard output has no reader any more: 128 + SIGPIPE.
const OUTPUT_CLOSED: u8 = 141;

/// Exit status of errors of ours, as Docker's.
const FAILED: u8 = 125;

const SIGTERM: u8 = 15;

/// How the command's part of a run ended.
#[derive(Debug)]
enum Outcome {
    /// The program ended by itself.
    Ended(ExitStatus),
    /// We were asked to end; the program's own status if it obeyed in time.
    Interrupted(u8, Option<ExitStatus>),
    /// `--timeout` was over.
    TimedOut,
    /// Nobody reads our output any more.
    OutputClosed,
}

impl Outcome {
    fn status(&self) -> u8 {
        match self {
            Self::Ended(status) | Self::Interrupted(_, Some(status)) => status.shell_code(),
            Self::Interrupted(signal, None) => 128u8.saturating_add(*signal),
            Self::TimedOut => TIMED_OUT,
            Self::OutputClosed => OUTPUT_CLOSED,
        }
    }
}

/// Runs the plan; returns the status to exit with.
pub(super) async fn run(
    plan: Plan,
    environment: &Environment,
    printer: Printer,
    started: Instant,
) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let Plan {
        image,
        pull,
        mut config,
        kernel,
        invocation,
        terminal,
        pull_timeout,
        timeout,
        grace,
        keep,
        forwards,
        ..
    } = plan;
    let audit_log = config.audit_log.clone();
    let booting = async {
        let listeners = Listeners::bind(&forwards.0, &forwards.1)?;
        // The longest part of the preparation goes on beside all the others.
        let unpacking = tokio::task::spawn_blocking(move || ARTEFACTS.open(&kernel));
        let state = environment.state()?;
        state.sweep()?;
        let qemu = environment.qemu()?;
        let machine = async {
            let files = unpacking
                .await
                .map_err(|error| CliError::internal("cannot unpack the guest", &error))??;
            let cache = environment.cache()?;
            let choice = environment.choose_accelerator(&qemu, &files, Some(&cache))?;
            Ok::<_, CliError>((files, choice))
        };
        let root = root::obtain(&image, pull, environment, printer);
        let root = within(pull_timeout, "--pull-timeout", root);
        // What is wrong with this machine is said before an image has come from far away.
        let ((files, choice), root) = tokio::try_join!(machine, root)?;
        let exec = invocation.complete(root.command(), terminal.as_ref().map(Terminal::size))?;
        config.image = root.into_image();
        announce(&choice, printer);
        let progress = printer.progress("starting the sandbox …");
        let vmm = Qemu::new(qemu, choice.accelerator);
        let sandbox = Sandbox::start(config, &vmm, files, &ARTEFACTS, &state).await;
        drop(progress);
        let sandbox = sandbox.map_err(|error| CliError::from(error).context("starting sandbox"))?;
        Ok::<_, CliError>((sandbox, choice, listeners, exec))
    };
    let (sandbox, choice, listeners, exec) = tokio::select! {
        booted = booting => booted?,
        signal = interrupts.next() => return Err(CliError::interrupted(signal)),
    };
    // It counts from here: neither the image nor the boot is the command's. A time beyond what the
    // clock can say is no limit.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut running = Running { sandbox, interrupts, deadline, grace, printer };
    if keep {
        running.say_kept();
    }
    let published = running.publish(listeners)?;
    let first_byte = Cell::new(None);
    let outcome = match exec {
        Some(request) => Some(running.execute(request, terminal.as_ref(), &first_byte).await),
        None => None,
    };
    let command_ended = Instant::now();
    let outcome = running.keep_until_signal(keep, outcome).await;
    let times = running.sandbox.boot_times().clone();
    let id = running.sandbox.id().clone();
    let trail = Arc::clone(running.sandbox.audit());
    let fault = running.sandbox.disk_fault();
    published.close().await;
    let refused = running.end(outcome.as_ref(), keep).await;
    if let Some(line) = refused::line(&refused).filter(|_| printer.is_terminal()) {
        printer.note(&line);
    }
    if let Some(fault) = fault {
        let hint = fault.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        printer.note(&format!("{fault}{hint}"));
    }
    let timed_out = matches!(outcome, Some(Ok(Outcome::TimedOut)));
    if timed_out {
        say_timed_out(timeout, printer);
    }
    let ended = match outcome {
        // `--rm=false` ends by a signal from the user, which is its success.
        Some(Ok(Outcome::Ended(_))) | None if keep => Ok(0),
        Some(outcome) => outcome.map(|outcome| outcome.status()),
        None => Ok(0),
    };
    // What is not recorded was refused: the run is not what it was meant to be.
    let ended =
        ended.and_then(|status| trail.lost().map_or(Ok(status), |why| Err(audit_lost(&why))));
    let exit_code = match &ended {
        Ok(status) => *status,
        Err(error) => error.status().unwrap_or(FAILED),
    };
    let first_byte = first_byte.get().unwrap_or(command_ended);
    let moments = Moments { started, first_byte, command_ended, gone: Instant::now() };
    let audit = audit_log.as_deref();
    let ending = Ending { exit_code, timed_out, refused: &refused, audit };
    let report = Report::new(&id, &choice, &times, moments, ending);
    match ended {
        Ok(status) => printer.json(&report).map(|()| status),
        Err(error) => Err(error.with_details(&report)),
    }
}

fn audit_lost(why: &impl std::fmt::Display) -> CliError {
    let says = format!("the audit trail is incomplete, so this run has failed: {why}");
    CliError::new(says).of_kind(Kind::Io)
}

/// A sandbox that is up, and what can end it.
struct Running {
    sandbox: Sandbox,
    interrupts: Interrupts,
    deadline: Option<Instant>,
    grace: Duration,
    printer: Printer,
}

impl Running {
    async fn execute(
        &mut self,
        request: ExecRequest,
        terminal: Option<&Terminal>,
        first_byte: &Cell<Option<Instant>>,
    ) -> Result<Outcome, CliError> {
        let starting = self.sandbox.exec(request);
        let (execution, streams) = tokio::select! {
            started = starting => started.map_err(describe)?,
            signal = self.interrupts.next() => return Ok(Outcome::Interrupted(signal, None)),
            () = expiry(self.deadline) => return Ok(Outcome::TimedOut),
        };
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
        let finished = self.supervise(execution, streams, first_byte);
        tokio::select! {
            outcome = finished => outcome,
            () = resizing => Err(CliError::new("the terminal is gone").of_kind(Kind::Io)),
        }
    }

    async fn supervise(
        &mut self,
        mut execution: Execution,
        streams: Streams,
        first_byte: &Cell<Option<Instant>>,
    ) -> Result<Outcome, CliError> {
        let Streams { stdin, stdout, stderr } = streams;
        let seen = || {
            if first_byte.get().is_none() {
                first_byte.set(Some(Instant::now()));
            }
        };
        // A task of its own: a read of a terminal cannot be cancelled, only abandoned.
        let feeding = stdin.map(|stdin| tokio::spawn(pump::input(tokio::io::stdin(), stdin)));
        let control = execution.control();
        let program = async {
            let outputs = async {
                tokio::try_join!(
                    pump::output(stdout, tokio::io::stdout(), seen),
                    pump::output(stderr, tokio::io::stderr(), seen),
                )
            };
            // When nobody reads any more the program is not waited for: it may never notice.
            let (_copied, status) =
                tokio::try_join!(outputs, async { Ok(execution.wait().await) })?;
            Ok(status)
        };
        tokio::pin!(program);
        let outcome = tokio::select! {
            joined = &mut program => ended(joined),
            signal = self.interrupts.next() => {
                control.signal(signal);
                let ended = tokio::select! {
                    joined = &mut program => joined.ok().and_then(Result::ok),
                    () = sleep(self.grace) => None,
                    // The user is in a hurry.
                    _ = self.interrupts.next() => None,
                };
                Ok(Outcome::Interrupted(signal, ended))
            }
            () = expiry(self.deadline) => {
                control.signal(SIGTERM);
                tokio::select! {
                    _ = &mut program => {}
                    () = sleep(self.grace) => {}
                    _ = self.interrupts.next() => {}
                }
                Ok(Outcome::TimedOut)
            }
        };
        if let Some(task) = feeding {
            task.abort();
        }
        outcome
    }

    /// Serves the published ports while the result lives.
    fn publish(&self, listeners: Listeners) -> Result<Published, CliError> {
        let bindings: Vec<_> = listeners.bindings().collect();
        let printer = self.printer;
        let published = self.sandbox.publish(listeners, move |error| {
            let error = CliError::new(DescribeChain(error).to_string());
            printer.line(&format!("port-forward connection error: {error}"));
        })?;
        for binding in bindings {
            printer.line(&format!("Forwarding {binding}"));
        }
        Ok(published)
    }

    fn say_kept(&self) {
        self.printer.line(&format!("Sandbox {} is running", self.sandbox.id()));
        self.printer.line(&format!("  Stop:    kill {}", std::process::id()));
    }

    /// With `--rm=false` the sandbox outlives its command until a signal, or the end of the guest.
    async fn keep_until_signal(
        &mut self,
        keep: bool,
        outcome: Option<Result<Outcome, CliError>>,
    ) -> Option<Result<Outcome, CliError>> {
        if !keep || !matches!(outcome, None | Some(Ok(Outcome::Ended(_)))) {
            return outcome;
        }
        tokio::select! {
            _ = self.interrupts.next() => outcome,
            () = expiry(self.deadline) => Some(Ok(Outcome::TimedOut)),
            () = self.sandbox.ended() => Some(Err(CliError::new("the sandbox ended by itself").of_kind(Kind::Guest))),
        }
    }

    /// Ends the sandbox: with patience for its programs when they were not told to end before, and
    /// for what it has to write to disks of the user's.
    /// Returns what it was refused.
    async fn end(self, outcome: Option<&Result<Outcome, CliError>>, keep: bool) -> Vec<Refused> {
        let refusals = self.sandbox.network().map(Network::refusals).unwrap_or_default();
        let patient = keep && !matches!(outcome, Some(Err(_)));
        if patient || self.sandbox.writes_disks() {
            self.sandbox.stop(if patient { self.grace } else { Duration::ZERO }).await;
        } else {
            self.sandbox.end().await;
        }
        refusals.into_iter().map(Refused::from).collect()
    }
}

fn ended(joined: std::io::Result<Result<ExitStatus, ExecError>>) -> Result<Outcome, CliError> {
    match joined {
        Ok(status) => status.map(Outcome::Ended).map_err(describe),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Outcome::OutputClosed),
        Err(error) => Err(CliError::of_io("cannot write the command's output", &error)),
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

fn say_timed_out(timeout: Option<Duration>, printer: Printer) {
    let time = in_seconds(timeout.unwrap_or_default());
    printer.note(&format!("timed out after {time}; the sandbox was ended (see --timeout)"));
}

async fn expiry(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(TokioInstant::from_std(deadline)).await,
        None => std::future::pending().await,
    }
}
