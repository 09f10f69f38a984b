//! `matchlock rpc`: the service on standard input and output, one JSON object a line.

mod output;
mod surroundings;

use std::time::Duration;

use matchlock_core::Cpus;
use matchlock_core::api::line::{Line, LineDecoder};
use matchlock_core::api::rpc::receive;
use matchlock_core::service::{Bounds, Service, Session};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use self::output::Outlet;
use self::surroundings::Here;
use crate::cli::RpcArgs;
use crate::environment::Environment;
use crate::error::{CliError, OUTPUT_CLOSED, given_by};
use crate::event_loop;
use crate::printer::Printer;
use crate::signals::Interrupts;

/// How long a client may take to read what was said to it last.
const FAREWELL: Duration = Duration::from_millis(300);

/// Serves one client, to the end of its input or of ours.
pub(crate) fn run(
    args: &RpcArgs,
    environment: Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    crate::hardening::give_up();
    if let Some(cpus) = args.max_cpus {
        // More than this machine has is no bound.
        Cpus::new(cpus, usize::MAX).map_err(given_by("--max-cpus"))?;
    }
    let bounds = Bounds {
        cpus: args.max_cpus,
        memory_mb: args.max_memory.map(|most| most.0),
        disk_size_mb: args.max_disk_size.map(|most| most.0),
        requests: args.max_requests,
    };
    let service = Service::new(Here::new(environment, printer), bounds);
    event_loop::block_on(serve(service))
}

async fn serve(service: Service) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let (outlet, queue) = Outlet::new();
    let session = Session::new(service, outlet);
    let mut writing = tokio::spawn(queue.write(tokio::io::stdout()));
    let (status, writes) = tokio::select! {
        () = read(tokio::io::stdin(), &session) => (0, true),
        signal = interrupts.next() => (128u8.saturating_add(signal), true),
        // It ends by itself only if it cannot write.
        _ = &mut writing => (OUTPUT_CLOSED, false),
    };
    tokio::select! {
        () = session.end() => {}
        // Somebody is in a hurry: the machine ends with this process.
        _ = interrupts.next() => {}
    }
    drop(session);
    if writes {
        // What was cancelled is answered, if anybody listens.
        let _ = timeout(FAREWELL, writing).await;
    }
    Ok(status)
}

/// Hands messages to the session, in their order.
async fn read(mut from: impl AsyncRead + Unpin, session: &Session<Outlet>) {
    let mut lines = LineDecoder::default();
    let mut buffer = vec![0; 64 * 1024];
    // An input that cannot be read has ended.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        lines.push(buffer.get(..n).unwrap_or_default());
        while let Some(line) = lines.next() {
            take(session, line).await;
        }
    }
    if let Some(line) = lines.finish() {
        take(session, line).await;
    }
}

async fn take(session: &Session<Outlet>, line: Line<'_>) {
    let length = match line {
        Line::Whole(line) => line.len(),
        Line::TooLong { head, tail } => head.len() + tail.len(),
    };
    let log = |method: &str, ignored: &matchlock_core::api::Ignored| {
        let (names, more) = (ignored.names(), ignored.more());
        tracing::info!(method, ?names, more, "keys without a meaning were ignored");
    };
    session.receive(receive(line), length, log).await;
}
