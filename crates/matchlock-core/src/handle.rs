//! What everybody has of a sandbox but its supervisor.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use matchlock_net::{Network, NotIntercepting, Traffic};
use matchlock_policy::{Policy, Secrets};
use matchlock_proto::{ExecRequest, FileRequest, Request};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use crate::audit::{ExecSpan, ForwardSpan, Lifecycle, SecretChange, Trail};
use crate::boot::BootTimes;
use crate::error::CoreError;
use crate::exec::{ExecError, Execution, Options, Streams};
use crate::export::Export;
use crate::forward::{self, Listeners, Published};
use crate::guest::Line;
use crate::id::SandboxId;
use crate::launcher::{Alive, beside};
use crate::log::Log;
use crate::network;
use crate::phase::{EndCause, Ending, Phase, Progress};
use crate::prepared::{Defaults, Live, Origin};
use crate::spec::{Attachments, SandboxSpec, SecretRule};
use crate::state::{Journal, StateRoot};
use crate::supervisor::{Order, Started, Supervisor};

/// How long the guest may take to start a program: to take the connection, and to say that it has.
const EXEC_START: Duration = Duration::from_secs(60);

/// A sandbox, for everybody who uses it. The last one to be dropped ends it.
#[derive(Debug, Clone)]
pub struct SandboxHandle {
    id: SandboxId,
    orders: UnboundedSender<Order>,
    phase: watch::Receiver<Phase>,
    started: watch::Receiver<Started>,
    over: watch::Receiver<Option<Ending>>,
}

/// What can be used of a sandbox that is up. Nothing in it keeps the machine or its network.
#[derive(Debug)]
pub(crate) struct Up {
    line: Line,
    network: Option<Weak<Network>>,
    trail: Arc<Trail>,
    log: Arc<Log>,
    entry: (StateRoot, SandboxId),
    defaults: Defaults,
    times: BootTimes,
    executions: AtomicU64,
    forwards: Arc<AtomicU64>,
}

impl Up {
    pub(crate) fn new(live: &Live, defaults: Defaults, times: BootTimes) -> Self {
        Self {
            line: Line::to(&live.machine.vm),
            network: live.network().map(Arc::downgrade),
            trail: Arc::clone(live.trail()),
            log: Arc::clone(live.log()),
            entry: live.entry(),
            defaults,
            times,
            executions: AtomicU64::new(1),
            forwards: Arc::new(AtomicU64::new(1)),
        }
    }

    /// As [`SandboxHandle::exec`].
    pub(crate) async fn exec(
        &self,
        request: ExecRequest,
    ) -> Result<(Execution, Streams), ExecError> {
        self.execute(request, None).await
    }

    /// As [`SandboxHandle::logged`].
    async fn logged(&self, request: ExecRequest) -> Result<(Execution, Streams), ExecError> {
        // What a terminal shows is for who sits there: it has what is typed, too.
        let log = request.tty.is_none().then(|| Arc::clone(&self.log));
        self.execute(request, log).await
    }

    async fn execute(
        &self,
        mut request: ExecRequest,
        log: Option<Arc<Log>>,
    ) -> Result<(Execution, Streams), ExecError> {
        self.defaults.complete(&mut request);
        let deadline = Instant::now() + EXEC_START;
        let (stream, span) = self.begin(&request, deadline).await?;
        Execution::start(stream, request, span, log, deadline).await
    }

    /// Starts an operation on files of the guest; `name` is how the trail calls it.
    pub(crate) async fn file(
        &self,
        name: &str,
        request: FileRequest,
    ) -> Result<(Execution, Streams), ExecError> {
        let argv = vec![format!("matchlock:{name}").into_bytes(), request.path().to_vec()];
        let shown = ExecRequest { argv, ..ExecRequest::default() };
        let deadline = Instant::now() + EXEC_START;
        let (stream, span) = self.begin(&shown, deadline).await?;
        let options = Options { has_stdin: request.has_input(), log: None };
        Execution::open(stream, Request::File(request), options, span, deadline).await
    }

    /// A stream to a port of the guest's loopback, with the record of it.
    pub(crate) async fn connect(
        &self,
        port: NonZeroU16,
    ) -> Result<(UnixStream, ForwardSpan), ExecError> {
        let number = self.forwards.fetch_add(1, Ordering::Relaxed);
        let begun = ForwardSpan::begin(&self.trail, number, None, port.get());
        let mut span = begun.map_err(ExecError::Audit)?;
        match forward::connect(&self.line, port).await {
            Ok(stream) => Ok((stream, span)),
            Err(error) => {
                span.failed(&error);
                Err(error)
            }
        }
    }

    /// As [`SandboxHandle::policy`].
    pub(crate) fn policy(&self) -> Option<Policy> {
        Some(self.network()?.policy())
    }

    /// As [`SandboxHandle::replace_policy`].
    pub(crate) fn replace_policy(&self, policy: Policy) -> Result<(), CoreError> {
        let Some(network) = self.network() else { return Ok(()) };
        if policy.intercepts() && network.ca_pem().is_none() {
            return Err(CoreError::Policy(NotIntercepting));
        }
        self.trail.lifecycle(&Lifecycle::PolicyChanged(network::summary(&policy)))?;
        network.replace_policy(policy).map_err(CoreError::Policy)
    }

    /// As [`Up::replace_policy`], with a record of the secret that it is about.
    pub(crate) fn replace_secret(
        &self,
        policy: Policy,
        secret: &str,
        change: SecretChange,
    ) -> Result<(), CoreError> {
        self.trail.lifecycle(&Lifecycle::SecretChanged { secret, change })?;
        self.replace_policy(policy)
    }

    /// Writes down which secrets there are now: names, hosts and placeholders.
    pub(crate) async fn record_secrets(&self, secrets: &Secrets) -> Result<(), CoreError> {
        let rules = secrets.iter().map(SecretRule::of).collect();
        let (state, id) = self.entry.clone();
        beside(move || Ok(state.record_secrets(&id, rules)?)).await
    }

    /// What leads to its agent.
    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// The process of its machine.
    pub(crate) fn monitor(&self) -> Option<u32> {
        self.line.monitor()
    }

    /// Bytes on the link of its network; `None` without one.
    pub(crate) fn traffic(&self) -> Option<Traffic> {
        Some(self.network()?.traffic())
    }

    /// Microseconds since it was ready.
    pub(crate) fn age_us(&self) -> u64 {
        u64::try_from(self.times.ready.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn network(&self) -> Option<Arc<Network>> {
        self.network.as_ref()?.upgrade()
    }

    /// A connection for a new execution, which the trail already knows.
    async fn begin(
        &self,
        request: &ExecRequest,
        deadline: Instant,
    ) -> Result<(UnixStream, ExecSpan), ExecError> {
        let number = self.executions.fetch_add(1, Ordering::Relaxed);
        let span = ExecSpan::begin(&self.trail, number, request).map_err(ExecError::Audit)?;
        match self.line.dial(deadline).await {
            Ok(stream) => Ok((stream, span)),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Err(span.failed(ExecError::Slow))
            }
            Err(error) => Err(span.failed(ExecError::Lost(Some(error)))),
        }
    }
}

impl SandboxHandle {
    /// Has a supervisor make and boot a sandbox. It is a task of the current runtime.
    pub(crate) fn launch(
        origin: Origin,
        spec: SandboxSpec,
        with: Attachments,
        alive: Alive,
    ) -> Self {
        let id = origin.id.clone();
        let (orders, receiver) = unbounded_channel();
        let lifetime = spec.lifetime;
        let journal = Journal::new(alive.parts().state.clone(), &origin, lifetime.recorded);
        let (progress, phase) = Progress::new(journal);
        let (start, started) = watch::channel(None);
        let (end, over) = watch::channel(None);
        let supervisor =
            Supervisor { orders: receiver, progress, started: start, over: end, lifetime };
        tokio::spawn(supervisor.run(origin, spec, with, alive));
        Self { id, orders, phase, started, over }
    }

    /// The sandbox's id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        &self.id
    }

    /// Where it is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The same, to be told of each change.
    #[must_use]
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Waits until programs can be started. Returns when the parts of the start were done.
    ///
    /// # Errors
    /// Why the sandbox never ran; nothing of it is left then.
    pub async fn ready(&self) -> Result<BootTimes, Arc<CoreError>> {
        let mut started = self.started.clone();
        let started = started.wait_for(Option::is_some).await.ok().and_then(|known| known.clone());
        // A supervisor that is gone without a word went with its runtime.
        started.unwrap_or_else(|| Err(Arc::new(CoreError::CalledOff))).map(|up| up.times.clone())
    }

    /// Waits until nothing of it is left.
    pub async fn ended(&self) -> Ending {
        let mut over = self.over.clone();
        let ending = over.wait_for(Option::is_some).await.ok().and_then(|ending| ending.clone());
        ending.unwrap_or_else(|| Ending::of_nothing(EndCause::Abandoned))
    }

    /// Starts a program in the guest. A user and a working directory that the request does not name
    /// are those of the image.
    ///
    /// # Errors
    /// [`ExecError`] when the program cannot be started.
    pub async fn exec(&self, request: ExecRequest) -> Result<(Execution, Streams), ExecError> {
        self.up()?.exec(request).await
    }

    /// The same, and what it writes goes into the sandbox's log, too, unless it has a terminal.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub async fn logged(&self, request: ExecRequest) -> Result<(Execution, Streams), ExecError> {
        self.up()?.logged(request).await
    }

    /// The same for the program that the sandbox is for: it is ended with it, and its time is limited.
    ///
    /// # Errors
    /// [`ExecError`]; the sandbox ends then.
    pub async fn command(&self, request: ExecRequest) -> Result<(Execution, Streams), ExecError> {
        let started = self.logged(request).await;
        match &started {
            Ok((execution, _)) => self.order(Order::Attend(execution.attended())),
            Err(ExecError::Audit(_)) => self.end_because(EndCause::AuditLost),
            Err(_) => self.end_because(EndCause::CommandLost),
        }
        started
    }

    /// Starts to read what programs have left in the writable layer, as an uncompressed layer of the OCI
    /// image spec. Programs that still run may change it meanwhile.
    ///
    /// # Errors
    /// [`ExecError`]; always when [`SandboxSpec::export`] was not set.
    pub async fn export(&self) -> Result<Export, ExecError> {
        let shown =
            ExecRequest { argv: vec![b"matchlock:export".to_vec()], ..ExecRequest::default() };
        let deadline = Instant::now() + EXEC_START;
        let (stream, span) = self.up()?.begin(&shown, deadline).await?;
        let opened = Execution::open(stream, Request::Export, Options::default(), span, deadline);
        let (execution, streams) = opened.await?;
        Ok(Export::new(execution, streams))
    }

    /// As [`Up::file`].
    pub(crate) async fn file(
        &self,
        name: &str,
        request: FileRequest,
    ) -> Result<(Execution, Streams), ExecError> {
        self.up()?.file(name, request).await
    }

    /// Serves published ports until the sandbox ends; `failed` is told of each connection that could
    /// not be made.
    ///
    /// # Errors
    /// [`CoreError::CalledOff`] when the sandbox is not up, [`CoreError::Host`] when the runtime does not
    /// take the listeners.
    pub fn publish(
        &self,
        listeners: Listeners,
        failed: impl Fn(&ExecError) + Send + Sync + 'static,
    ) -> Result<(), CoreError> {
        let up = self.up().map_err(|_| CoreError::CalledOff)?;
        let published = Published::serve(listeners, &up.line, &up.trail, &up.forwards, failed)
            .map_err(CoreError::host("serve the published ports"))?;
        self.order(Order::Publish(published));
        Ok(())
    }

    /// Closes all published ports, and every connection through them.
    ///
    /// # Errors
    /// [`CoreError::CalledOff`] when the sandbox is not up.
    pub async fn unpublish(&self) -> Result<(), CoreError> {
        let _up = self.up().map_err(|_| CoreError::CalledOff)?;
        let (done, closed) = oneshot::channel();
        self.order(Order::Unpublish(done));
        closed.await.map_err(|_| CoreError::CalledOff)
    }

    /// What it has written so far, when it is over, too; `None` if it was never up.
    pub(crate) fn log(&self) -> Option<Arc<Log>> {
        match &*self.started.borrow() {
            Some(Ok(up)) => Some(Arc::clone(&up.log)),
            _ => None,
        }
    }

    /// Passes on a signal by which the user asks for an end.
    pub fn signal(&self, number: u8) {
        self.order(Order::Signal(number));
    }

    /// Asks the guest to end its programs (`SIGTERM`, then `SIGKILL` after `grace`) and waits until
    /// nothing of the sandbox is left. A guest that does not answer is ended all the same.
    pub async fn stop(&self, grace: Duration) -> Ending {
        self.order(Order::End { cause: EndCause::Stopped, grace: Some(grace) });
        self.ended().await
    }

    /// Ends it at once, and waits until nothing of it is left.
    pub async fn end(&self) -> Ending {
        self.end_because(EndCause::Killed);
        self.ended().await
    }

    /// Ends it at once for a reason that only the caller knows.
    pub fn end_because(&self, cause: EndCause) {
        self.order(Order::End { cause, grace: None });
    }

    /// The policy of its network; `None` without a network device.
    #[must_use]
    pub fn policy(&self) -> Option<Policy> {
        self.up().ok()?.policy()
    }

    /// Puts another policy in force, after the trail knows of it. Without a network nothing changes.
    ///
    /// # Errors
    /// [`CoreError::Policy`] or [`CoreError::Audit`], which is that the change could not be recorded; it
    /// was not made then.
    pub fn replace_policy(&self, policy: Policy) -> Result<(), CoreError> {
        self.up().map_or(Ok(()), |up| up.replace_policy(policy))
    }

    /// What there is while programs can be started.
    fn up(&self) -> Result<Arc<Up>, ExecError> {
        match &*self.started.borrow() {
            Some(Ok(up)) if !self.phase().is_over() => Ok(Arc::clone(up)),
            _ => Err(ExecError::NotRunning),
        }
    }

    fn order(&self, order: Order) {
        // A supervisor that is gone has nothing left to end.
        drop(self.orders.send(order));
    }
}
