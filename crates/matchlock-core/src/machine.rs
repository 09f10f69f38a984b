//! A running machine and the one thread that waits for it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matchlock_proto::AGENT_PORT;
use matchlock_vmm::{Vm, VmExit};
use tokio::sync::{oneshot, watch};

/// How long a guest may take from power-on to its agent. Emulated on a loaded machine it needs
/// several seconds; a guest that is silent for this long will not speak.
pub(crate) const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a killed monitor may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A machine that ends with this value. Dropping it may block.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) vm: Arc<dyn Vm>,
    ended: watch::Receiver<Option<VmExit>>,
    watcher: Option<JoinHandle<()>>,
}

/// The first connection to the agent, once the guest takes it.
pub(crate) type FirstConnection = oneshot::Receiver<io::Result<UnixStream>>;

impl Machine {
    /// Watches a machine that was just started: its thread dials the guest until its agent is up, and
    /// then waits for the machine's end.
    pub(crate) fn watch(vm: Box<dyn Vm>) -> io::Result<(Self, FirstConnection)> {
        let vm: Arc<dyn Vm> = Arc::from(vm);
        let watched = Arc::clone(&vm);
        let (dialled, first) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let watcher = std::thread::Builder::new().name("machine".into()).spawn(move || {
            drop(dialled.send(watched.connect(AGENT_PORT, Instant::now() + BOOT_TIMEOUT)));
            loop {
                if let Some(exit) = watched.wait(Duration::MAX) {
                    return drop(end.send_replace(Some(exit)));
                }
            }
        })?;
        Ok((Self { vm, ended, watcher: Some(watcher) }, first))
    }

    /// How the machine has ended by itself, when it has.
    pub(crate) async fn ended(&self) -> VmExit {
        let mut ended = self.ended.clone();
        let exit = ended.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        // A watcher that is gone without a word has panicked; so the machine is not watched any more.
        exit.unwrap_or_else(|| VmExit { clean: false, diagnostics: String::new() })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.vm.kill();
        // A killed process is gone in milliseconds; one that the kernel cannot end must not hang us.
        let ended = self.vm.wait(END_TIMEOUT).is_some();
        if let Some(watcher) = self.watcher.take().filter(|_| ended) {
            // A panic of it was reported by the panic itself.
            let _ = watcher.join();
        }
    }
}
