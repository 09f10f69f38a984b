//! One client: which of its requests run at the same time, and what ends them. Contract, section 2.2.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use matchlock_api::rpc::{Incoming, Refusal, Request, result_line};
use matchlock_api::{
    Call, CancelResult, CloseParams, Empty, ErrorCode, ErrorKind, Event, Ignored, Input, Method,
    Notification, RequestId, RpcError, method,
};
use matchlock_proto::WindowSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Duration, timeout};

use super::input::Queue;
use super::{Service, cancelled};
use crate::observer;

/// Bytes of requests that run, in units of [`UNIT`].
const MAX_UNITS: usize = (256 << 20) / UNIT;

const UNIT: usize = 1024;

/// How long `close` waits for what was cancelled to have been answered.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// What carries the messages of a session to its client. A client that has gone is none of its errors:
/// the front ends the session then.
pub trait Sink: Send + Sync + 'static {
    /// Sends output, in order with what the same request sends. Waits while the client does not read.
    fn notify(&self, notification: Notification) -> impl Future<Output = ()> + Send;

    /// Sends an answer, after what the same request has sent. Waits as well.
    fn answer(&self, message: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// Sends an answer that waits for nobody. Waits only if the client asks and asks, and never reads.
    fn answer_at_once(&self, message: Vec<u8>) -> impl Future<Output = ()> + Send;
}

/// Tells a request that it is not wanted any more.
#[derive(Debug, Clone)]
pub(super) struct Cancel(watch::Receiver<bool>);

impl Cancel {
    pub(super) async fn cancelled(&mut self) {
        // Without its sender it is as good as cancelled.
        let _ = self.0.wait_for(|cancelled| *cancelled).await;
    }
}

/// One client of a service. Cheap to clone.
#[derive(Debug)]
pub struct Session<S> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    service: Service,
    sink: S,
    running: Mutex<Running>,
    requests: Arc<Semaphore>,
    units: Arc<Semaphore>,
}

/// What runs.
#[derive(Debug, Default)]
struct Running {
    entries: BTreeMap<Key, Entry>,
    /// For requests without an id.
    next: u64,
    closing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Id(RequestId),
    Nameless(u64),
}

#[derive(Debug)]
struct Entry {
    cancel: watch::Sender<bool>,
    input: Option<(Kind, Arc<Queue>)>,
}

/// Which method an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Tty,
}

/// A request on its way.
struct Task {
    key: Key,
    id: Option<RequestId>,
    cancel: Cancel,
    input: Arc<Queue>,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl<S> Clone for Session<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Sink> Session<S> {
    /// A client that is answered through `sink`.
    pub fn new(service: Service, sink: S) -> Self {
        let requests = Arc::new(Semaphore::new(service.max_requests().into()));
        let shared = Shared {
            service,
            sink,
            running: Mutex::default(),
            requests,
            units: Arc::new(Semaphore::new(MAX_UNITS)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a message of `length` bytes. It returns at once, unless the message is input of a command that
    /// has more than enough of it.
    pub async fn receive(&self, incoming: Incoming, length: usize, log: impl Fn(&str, &Ignored)) {
        match incoming {
            Incoming::Refused(refusal) => self.sink().answer_at_once(refusal.to_line()).await,
            Incoming::Dropped(_) => {}
            Incoming::Input(input) => self.input(input).await,
            Incoming::Call { request, ignored } => {
                if !ignored.is_empty() {
                    log(request.call.name(), &ignored);
                }
                self.call(request, length).await;
            }
        }
    }

    /// Cancels everything, and ends the sandbox: the client has gone.
    pub async fn end(&self) {
        self.cancel_all();
        self.shared.service.close(CloseParams::DEFAULT).await;
    }

    fn sink(&self) -> &S {
        &self.shared.sink
    }

    async fn call(&self, request: Request, length: usize) {
        let Request { id, call } = request;
        if let Call::Cancel(params) = &call {
            let result = CancelResult { cancelled: self.cancel(&params.id) };
            if let Some(line) = answer::<method::Cancel>(id.as_ref(), Ok(result)) {
                self.sink().answer_at_once(line).await;
            }
            return;
        }
        match self.admit(id.clone(), &call, length) {
            Ok(task) => {
                let session = self.clone();
                tokio::spawn(async move { session.carry_out(task, call).await });
            }
            Err(error) if id.is_some() => {
                self.sink().answer_at_once(Refusal { id, error }.to_line()).await;
            }
            Err(_) => {}
        }
    }

    /// Enters a request into what runs.
    fn admit(&self, id: Option<RequestId>, call: &Call, length: usize) -> Result<Task, RpcError> {
        let busy = |what: &str| {
            let text = format!("too many requests at one time: {what}");
            RpcError::new(ErrorCode::Sandbox, ErrorKind::Unavailable, text)
        };
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let mut running = self.running();
        let closing = running.closing && !matches!(call, Call::Close(_) | Call::Log(_));
        if closing {
            return Err(super::not_created());
        }
        let key = match &id {
            Some(id) => Key::Id(id.clone()),
            None => {
                running.next += 1;
                Key::Nameless(running.next)
            }
        };
        if running.entries.contains_key(&key) {
            let text = "the id is that of a request that was not answered yet";
            return Err(RpcError::new(ErrorCode::InvalidRequest, ErrorKind::Conflict, text));
        }
        let permit = Arc::clone(&self.shared.requests).try_acquire_owned();
        let most = self.shared.service.max_requests();
        let permit = permit.map_err(|_| busy(&format!("{most} are not answered yet")))?;
        let bytes = Arc::clone(&self.shared.units).try_acquire_many_owned(units);
        let bytes = bytes.map_err(|_| busy("their parameters take too much memory"))?;
        let (cancel, cancelled) = watch::channel(false);
        let input = Arc::new(Queue::default());
        let kind = match call {
            Call::ExecPipe(_) => Some(Kind::Pipe),
            Call::ExecTty(_) => Some(Kind::Tty),
            _ => None,
        };
        let entry = Entry { cancel, input: kind.map(|kind| (kind, Arc::clone(&input))) };
        running.entries.insert(key.clone(), entry);
        if matches!(call, Call::Close(_)) {
            running.closing = true;
        }
        Ok(Task { key, id, cancel: Cancel(cancelled), input, _permits: (permit, bytes) })
    }

    /// Does what is asked for, and answers.
    async fn carry_out(self, task: Task, call: Call) {
        let Task { key, id, mut cancel, input, _permits } = task;
        let line = match call {
            // They end in their own time, so that nothing is left when they are answered.
            Call::Create(params) => {
                let observer = self.events();
                let created = self.shared.service.create(*params, observer, &mut cancel).await;
                answer::<method::Create>(id.as_ref(), created)
            }
            Call::Close(params) => {
                self.close(&key, params).await;
                answer::<method::Close>(id.as_ref(), Ok(Empty {}))
            }
            call => tokio::select! {
                biased;
                () = cancel.cancelled() => refuse(id.as_ref(), cancelled()),
                line = self.work(id.as_ref(), call, &input) => line,
            },
        };
        input.close();
        if let Some(line) = line {
            self.sink().answer(line).await;
        }
        self.running().entries.remove(&key);
    }

    /// Sends what happens in the sandbox to the client, as fast as that reads.
    fn events(&self) -> mpsc::Sender<Event> {
        let (observer, mut events) = mpsc::channel(observer::WAITING);
        let session = self.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                session.sink().notify(Notification::Event(Box::new(event))).await;
            }
        });
        observer
    }

    async fn work(&self, id: Option<&RequestId>, call: Call, input: &Queue) -> Option<Vec<u8>> {
        let (service, sink) = (&self.shared.service, self.sink());
        // Those that tell of their progress have an id: `receive` refuses them otherwise.
        let named = || id.cloned().unwrap_or(RequestId::Number(0));
        match call {
            Call::Exec(params) => answer::<method::Exec>(id, service.exec(params).await),
            Call::ExecStream(params) => {
                let ended = service.exec_stream(&named(), params, sink).await;
                answer::<method::ExecStream>(id, ended)
            }
            Call::ExecPipe(params) => {
                let ended = service.exec_pipe(&named(), params, input, sink).await;
                answer::<method::ExecPipe>(id, ended)
            }
            Call::ExecTty(params) => {
                let ended = service.exec_tty(&named(), params, input, sink).await;
                answer::<method::ExecTty>(id, ended)
            }
            Call::WriteFile(params) => {
                answer::<method::WriteFile>(id, service.write_file(params).await)
            }
            Call::ReadFile(params) => {
                answer::<method::ReadFile>(id, service.read_file(params).await)
            }
            Call::ListFiles(params) => {
                answer::<method::ListFiles>(id, service.list_files(params).await)
            }
            Call::Log(_) => answer::<method::Log>(id, service.log().await),
            Call::LogStream(_) => {
                answer::<method::LogStream>(id, service.log_stream(&named(), sink).await)
            }
            Call::AllowListAdd(params) => {
                answer::<method::AllowListAdd>(id, service.allow_list_add(&params))
            }
            Call::AllowListDelete(params) => {
                answer::<method::AllowListDelete>(id, service.allow_list_delete(&params))
            }
            Call::PortForward(params) => {
                answer::<method::PortForward>(id, service.port_forward(params).await)
            }
            // They are carried out elsewhere.
            Call::Create(_) | Call::Cancel(_) | Call::Close(_) => None,
        }
    }

    async fn close(&self, key: &Key, params: CloseParams) {
        self.cancel_others(key);
        self.shared.service.close(params.timeout()).await;
        // Answers to what was cancelled come first, unless the client does not read them.
        let answered = async {
            while self.running().entries.keys().any(|other| other != key) {
                tokio::task::yield_now().await;
            }
        };
        let _ = timeout(LAST_ANSWERS, answered).await;
    }

    /// Whether there was something to cancel.
    fn cancel(&self, id: &RequestId) -> bool {
        let running = self.running();
        let entry = running.entries.get(&Key::Id(id.clone()));
        entry.is_some_and(|entry| !entry.cancel.send_replace(true))
    }

    fn cancel_others(&self, key: &Key) {
        for (other, entry) in &self.running().entries {
            if other != key {
                entry.cancel.send_replace(true);
            }
        }
    }

    fn cancel_all(&self) {
        let mut running = self.running();
        running.closing = true;
        for entry in running.entries.values() {
            entry.cancel.send_replace(true);
        }
    }

    async fn input(&self, input: Input) {
        let (kind, id) = match &input {
            Input::ExecPipeStdin(chunk) => (Kind::Pipe, &chunk.id),
            Input::ExecPipeStdinEof(running) => (Kind::Pipe, &running.id),
            Input::ExecTtyStdin(chunk) => (Kind::Tty, &chunk.id),
            Input::ExecTtyStdinEof(running) => (Kind::Tty, &running.id),
            Input::ExecTtyResize(resize) => (Kind::Tty, &resize.id),
        };
        let queue = {
            let running = self.running();
            let entry = running.entries.get(&Key::Id(id.clone()));
            let input = entry.and_then(|entry| entry.input.as_ref());
            input.filter(|(of, _)| *of == kind).map(|(_, queue)| Arc::clone(queue))
        };
        let Some(queue) = queue else { return };
        match input {
            Input::ExecPipeStdin(chunk) | Input::ExecTtyStdin(chunk) => {
                queue.push(&chunk.data.0).await;
            }
            Input::ExecPipeStdinEof(_) | Input::ExecTtyStdinEof(_) => queue.end(),
            Input::ExecTtyResize(to) => queue.resize(WindowSize { rows: to.rows, cols: to.cols }),
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer, if one is wanted.
fn answer<M: Method>(
    id: Option<&RequestId>,
    result: Result<M::Result, RpcError>,
) -> Option<Vec<u8>> {
    match result {
        Ok(result) => Some(result_line::<M>(id?, &result)),
        Err(error) => refuse(id, error),
    }
}

fn refuse(id: Option<&RequestId>, error: RpcError) -> Option<Vec<u8>> {
    Some(Refusal { id: Some(id?.clone()), error }.to_line())
}
