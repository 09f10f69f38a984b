//! The life of PID 1, from `main` to the end of the machine.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use matchlock_proto::{AGENT_PORT, BootConfig, BootReport, ExecFailure, Realtime};
use rustix::process::{Resource, Rlimit, getpid, setrlimit};

use crate::boot::{self, Clock, StepFailed};
use crate::cgroup::Cgroups;
use crate::server::{Machine, Server};
use crate::{Guest, console, sys};

/// The host, as vsock numbers it (vsock(7)).
const VMADDR_CID_HOST: u32 = 2;

/// Descriptors of a process: the soft limit is what programs may use without asking, and more than
/// the agent needs for [`crate::server::MAX_SESSIONS`].
const DESCRIPTORS: Rlimit = Rlimit { current: Some(65_536), maximum: Some(1_048_576) };

/// Runs as PID 1; never returns.
pub fn run() -> ! {
    let start = Clock::start();
    if getpid().as_raw_pid() != 1 {
        console::line(format_args!("not started as PID 1 of a guest, nothing done"));
        std::process::exit(2);
    }
    console::halt_on_panic();
    let ended = match serve(start) {
        Ok(why) => why,
        Err(error) => format!("cannot start: {error}"),
    };
    console::line(format_args!("{ended}"));
    console::halt()
}

fn serve(clock: Clock) -> io::Result<String> {
    // First of all, so that the host's first attempt finds somebody.
    let listener = sys::vsock_listen(AGENT_PORT);
    if listener.is_ok() {
        // The host dials again by itself, only later.
        let _it_is_a_hint = sys::vsock_ring(AGENT_PORT);
    }
    boot::early()?;
    if let Some(token) = boot::probe_token()? {
        console::raw(&format!("matchlock-probe-ok {token}\n"));
        console::halt();
    }
    let listener = listener.map_err(|e| io::Error::new(e.kind(), format!("vsock: {e}")))?;
    raise_limits();
    let prepared = Some(boot::prepare());
    Ok(Server::new(Guestside { clock, prepared, disks: Vec::new() }, listener)?.run())
}

fn raise_limits() {
    // The kernel's default counts on the memory of a small machine; control groups can bound this.
    let unlimited = Rlimit { current: None, maximum: None };
    for (what, resource, limit) in
        [("files", Resource::Nofile, DESCRIPTORS), ("processes", Resource::Nproc, unlimited)]
    {
        console::optional(&format!("raise the limit of {what}"), setrlimit(resource, limit));
    }
}

/// The real machine.
#[derive(Debug)]
struct Guestside {
    clock: Clock,
    /// Taken by the one boot.
    prepared: Option<Result<Cgroups, StepFailed>>,
    /// Where disks of the user's are mounted.
    disks: Vec<Vec<u8>>,
}

impl Machine for Guestside {
    fn accept(&mut self, listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
        let (socket, cid) = sys::vsock_accept(listener)?;
        Ok((cid == VMADDR_CID_HOST).then_some(socket))
    }

    fn boot(&mut self, config: BootConfig) -> Result<(Guest, BootReport), ExecFailure> {
        let Some(prepared) = self.prepared.take() else {
            return Err(ExecFailure::BadRequest("a second boot".into()));
        };
        self.disks = config.disks.iter().map(|disk| disk.target.clone()).collect();
        boot::boot(config, &mut self.clock, prepared)
    }

    fn set_clock(&mut self, now: Realtime) {
        console::optional("set the clock", boot::correct_clock(now));
    }

    fn sync(&mut self) {
        boot::unmount_all(&self.disks);
        // The root, and what could not be unmounted.
        rustix::fs::sync();
    }
}
