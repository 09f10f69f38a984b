//! The event loop: accepts connections, carries out requests.
//!
//! One thread and no runtime: PID 1 forks, and most of its boot is what it does not link. Nothing in
//! the loop blocks except the boot itself and the final write-back, during which nobody else is
//! served.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::console;
use crate::exec::{Execution, Work};
use crate::forward::Forward;
use crate::poller::{EventFlags, Poller, Watched};
use crate::session::{Part, Session};
use crate::{Guest, sys};
use matchlock_proto::{
    AgentFrame, BootConfig, BootReport, ExecFailure, ExecRequest, KILL_WAIT, Realtime, Request,
};

/// Connections and executions at one time, each with up to seven descriptors; further ones are
/// refused, and beyond twice as many dropped without an answer.
pub const MAX_SESSIONS: usize = 1024;

/// How long a boot failure may take to reach the host.
const FAREWELL: Duration = Duration::from_secs(2);

/// Without resources for a connection, the next one is tried after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes read at one time; not less than a data frame holds.
const SCRATCH: usize = matchlock_proto::MAX_DATA;

/// Session ids begin above it.
const LISTENER: u64 = 0;
const FIRST_SESSION: u32 = 1;

/// The machine around the server: the guest, or a namespace of a test.
pub trait Machine {
    /// Accepts a connection of the host; `None` for a peer that is not the host.
    ///
    /// # Errors
    /// As accept(2), `WouldBlock` when there is none.
    fn accept(&mut self, listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>>;

    /// Sets everything up.
    ///
    /// # Errors
    /// What to tell the host; the machine ends after that.
    fn boot(&mut self, config: BootConfig) -> Result<(Guest, BootReport), ExecFailure>;

    /// Sets the clock, unless it is right.
    fn set_clock(&mut self, now: Realtime);

    /// Writes file systems back.
    fn sync(&mut self);
}

/// The server.
#[derive(Debug)]
pub struct Server<M> {
    machine: M,
    poller: Poller,
    listener: Watched,
    guest: Option<Guest>,
    sessions: BTreeMap<u32, Session>,
    next_id: u32,
    ending: Option<Ending>,
    /// Sent to the host at the time given, at the latest.
    fatal: Option<(ExecFailure, u32, Instant)>,
    listen_again: Option<Instant>,
    scratch: Vec<u8>,
}

/// A shutdown under way.
#[derive(Debug)]
struct Ending {
    session: u32,
    stage: EndStage,
    until: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum EndStage {
    Terminating,
    Killed,
    Done,
}

impl<M: Machine> Server<M> {
    /// A server for connections to `listener`. Takes over the children of the process.
    ///
    /// # Errors
    /// When the kernel has no descriptor for it.
    pub fn new(machine: M, listener: OwnedFd) -> io::Result<Self> {
        sys::occupy_low_descriptors()?;
        let poller = Poller::new()?;
        let mut listener = poller.watch(listener, LISTENER);
        listener.want(EventFlags::IN)?;
        sys::ignore_children();
        Ok(Self {
            machine,
            poller,
            listener,
            guest: None,
            sessions: BTreeMap::new(),
            next_id: FIRST_SESSION,
            ending: None,
            fatal: None,
            listen_again: None,
            scratch: vec![0; SCRATCH],
        })
    }

    /// Serves until the machine has to end, and returns why.
    pub fn run(mut self) -> String {
        let mut ready = Vec::new();
        loop {
            let timeout = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poller.wait(timeout, &mut ready) {
                return format!("cannot wait for events: {error}");
            }
            let now = Instant::now();
            for (token, flags) in ready.drain(..) {
                match token {
                    LISTENER => self.accept(now),
                    token => self.on_event(token, flags, now),
                }
            }
            self.on_time(now);
            if let Some((failure, session, until)) = &self.fatal
                && (*until <= now || !self.sessions.contains_key(session))
            {
                return failure.to_string();
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        let socket = match self.machine.accept(self.listener.as_fd()) {
            Ok(Some(socket)) => socket,
            Ok(None) => return console::line(format_args!("refused a peer that is not the host")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                console::line(format_args!("accept: {error}"));
                self.listen_again = Some(now + ACCEPT_PAUSE);
                return self.listen(false);
            }
        };
        let id = self.new_id();
        let connection = Connection::new(self.poller.watch(socket, Part::Socket.token(id)));
        let mut session = Session::new(connection);
        if self.sessions.len() >= 2 * MAX_SESSIONS {
            return console::line(format_args!("connection flood"));
        }
        if self.sessions.len() >= MAX_SESSIONS {
            let why = "too many executions and connections".to_owned();
            session.finish(&AgentFrame::Refused(ExecFailure::BadRequest(why)));
        }
        self.sessions.insert(id, session);
        // Its request may be there already, and saves a turn of the loop.
        self.on_event(Part::Socket.token(id), EventFlags::IN, now);
    }

    fn listen(&mut self, wanted: bool) {
        let events = if wanted { EventFlags::IN } else { EventFlags::empty() };
        console::optional("watch the listener", self.listener.want(events));
    }

    fn new_id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = id.checked_add(1).unwrap_or(FIRST_SESSION);
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    fn on_event(&mut self, token: u64, flags: EventFlags, now: Instant) {
        let Some((id, part)) = Part::from_token(token) else {
            return;
        };
        // An event of a session that ended earlier in the same batch has no receiver any more.
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if part == Part::Tcp && session.is_connecting() {
            session.on_connect(&self.poller, token, &mut self.scratch);
        } else {
            session.on_event(part, flags, &mut self.scratch, now);
        }
        while let Some(request) = self.sessions.get_mut(&id).and_then(|s| s.next_request(now)) {
            self.carry_out(id, request, now);
        }
        self.settle(id, now);
    }

    fn settle(&mut self, id: u32, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.settle(now);
        if session.is_over() {
            self.sessions.remove(&id);
        }
        self.advance_ending(now);
    }

    fn carry_out(&mut self, id: u32, request: Request, now: Instant) {
        let answer = match request {
            Request::Ping => Some(AgentFrame::Done),
            Request::Clock(now) => {
                self.machine.set_clock(now);
                Some(AgentFrame::Done)
            }
            Request::Boot(config) => Some(self.boot(id, *config, now)),
            Request::Exec(request) => self.execute(id, &request).err().map(AgentFrame::Refused),
            Request::Export => self.export(id).err().map(AgentFrame::Refused),
            Request::File(request) => {
                let spawned = self.spawn(id, |_| Ok(Work::File(&request)));
                spawned.err().map(AgentFrame::Refused)
            }
            Request::Inquire(inquiry) => {
                let spawned =
                    self.spawn(id, |guest| Ok(Work::Inquire(inquiry, guest.cgroups.tasks())));
                spawned.err().map(AgentFrame::Refused)
            }
            Request::Forward { port } => self.forward(id, port).err().map(AgentFrame::Refused),
            Request::Shutdown { grace_ms } => {
                self.shut_down(id, now + Duration::from_millis(grace_ms.into()));
                None
            }
        };
        if let (Some(answer), Some(session)) = (answer, self.sessions.get_mut(&id)) {
            session.finish(&answer);
        }
    }

    fn boot(&mut self, id: u32, config: BootConfig, now: Instant) -> AgentFrame {
        if self.guest.is_some() || self.fatal.is_some() {
            return AgentFrame::Refused(ExecFailure::BadRequest("a second boot".into()));
        }
        match self.machine.boot(config) {
            Ok((guest, report)) => {
                self.guest = Some(guest);
                AgentFrame::Booted(report)
            }
            Err(failure) => {
                self.fatal = Some((failure.clone(), id, now + FAREWELL));
                AgentFrame::Refused(failure)
            }
        }
    }

    fn execute(&mut self, id: u32, request: &ExecRequest) -> Result<(), ExecFailure> {
        if request.argv.is_empty() {
            return Err(ExecFailure::BadRequest("no program".to_owned()));
        }
        self.spawn(id, |_| Ok(Work::Program(request)))
    }

    fn export(&mut self, id: u32) -> Result<(), ExecFailure> {
        let none = || ExecFailure::BadRequest("the guest was not made for an export".to_owned());
        self.spawn(id, |guest| guest.export.as_ref().map(Work::Export).ok_or_else(none))
    }

    fn spawn<'a>(
        &'a mut self,
        id: u32,
        work: impl FnOnce(&'a Guest) -> Result<Work<'a>, ExecFailure>,
    ) -> Result<(), ExecFailure> {
        let bad = |why: &str| Err(ExecFailure::BadRequest(why.to_owned()));
        let Some(guest) = &self.guest else {
            return bad("the guest has not booted");
        };
        if self.ending.is_some() {
            return bad("the guest is shutting down");
        }
        let (tokens, name) = (Part::tokens(id), id.to_string());
        let execution = Execution::spawn(guest, work(guest)?, &self.poller, tokens, name)
            .map_err(|error| ExecFailure::System(format!("start a process: {error}")))?;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.run(execution);
        }
        Ok(())
    }

    fn forward(&mut self, id: u32, port: u16) -> Result<(), ExecFailure> {
        if self.guest.is_none() || port == 0 {
            return Err(ExecFailure::BadRequest("no guest or no port to forward to".to_owned()));
        }
        let forward = Forward::start(port, &self.poller, Part::Tcp.token(id))
            .map_err(|error| ExecFailure::System(format!("open a socket: {error}")))?;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.forward(forward);
        }
        Ok(())
    }

    fn shut_down(&mut self, id: u32, until: Instant) {
        if self.ending.is_some() {
            if let Some(session) = self.sessions.get_mut(&id) {
                let twice = ExecFailure::BadRequest("a second shutdown".into());
                session.finish(&AgentFrame::Refused(twice));
            }
            return;
        }
        for execution in self.sessions.values().filter_map(Session::execution) {
            execution.terminate();
        }
        self.ending = Some(Ending { session: id, stage: EndStage::Terminating, until });
        self.advance_ending(Instant::now());
    }

    fn advance_ending(&mut self, now: Instant) {
        let Some(ending) = &mut self.ending else {
            return;
        };
        let alive = |session: &Session| session.execution().is_some_and(Execution::is_alive);
        let any_alive = self.sessions.values().any(alive);
        if any_alive && ending.until <= now && ending.stage == EndStage::Terminating {
            let killed = self.guest.as_ref().map(|guest| guest.cgroups.kill_all());
            killed.map(|result| console::optional("kill all executions", result));
            ending.stage = EndStage::Killed;
            ending.until = now + KILL_WAIT;
        }
        let waited_enough = ending.stage == EndStage::Killed && ending.until <= now;
        if ending.stage != EndStage::Done && (!any_alive || waited_enough) {
            ending.stage = EndStage::Done;
            let id = ending.session;
            self.machine.sync();
            if let Some(session) = self.sessions.get_mut(&id) {
                session.finish(&AgentFrame::Done);
            }
            self.settle(id, now);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.values().filter_map(Session::deadline).min();
        let ending = self.ending.as_ref().filter(|ending| ending.stage != EndStage::Done);
        let fatal = self.fatal.as_ref().map(|(_, _, until)| *until);
        let listen = self.listen_again;
        [sessions, ending.map(|e| e.until), fatal, listen].into_iter().flatten().min()
    }

    fn on_time(&mut self, now: Instant) {
        if self.listen_again.is_some_and(|at| at <= now) {
            self.listen_again = None;
            self.listen(true);
        }
        let due = |session: &Session| session.deadline().is_some_and(|at| at <= now);
        let ids: Vec<u32> =
            self.sessions.iter().filter(|(_, s)| due(s)).map(|(&id, _)| id).collect();
        for id in ids {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.on_time(now);
            }
            self.settle(id, now);
        }
        if self.ending.as_ref().is_some_and(|ending| ending.until <= now) {
            self.advance_ending(now);
        }
    }
}
