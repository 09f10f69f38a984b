//! The log: what the libraries report beside their results.
//!
//! `docs/logging.md` says what each level is for. A guest or a server can cause lines, so each call
//! site has a limit ([`Limiter`]) and the whole log has another ([`Sink`]). Lines of other crates are
//! left out: they could show what a request carries.

mod limit;
mod sink;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};

use self::limit::Limiter;
use self::sink::Sink;
use crate::cli::{LogArgs, LogLevel};
use crate::error::CliError;

/// The log of this process, once it has begun.
static SINK: OnceLock<Arc<Sink>> = OnceLock::new();

/// Begins the log. `default` is the level when no flag names one.
pub(crate) fn start(args: &LogArgs, default: LogLevel) -> Result<(), CliError> {
    let sink = Arc::new(match &args.log_file {
        Some(path) => Sink::file(open(path)?),
        None => Sink::standard_error(),
    });
    let subscriber = subscriber(args.log_level.unwrap_or(default), &sink);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| CliError::new(format!("cannot start the log: {error}")))?;
    drop(SINK.set(sink));
    Ok(())
}

fn open(path: &Path) -> Result<File, CliError> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|error| {
        CliError::new(format!("cannot open the log {}: {error}", path.display()))
            .hinted("name another file with --log-file")
    })
}

/// Keeps lines off the terminal while this lives; they are written after that.
#[derive(Debug)]
pub(crate) struct Held(());

/// Keeps lines off the terminal, which a program in the sandbox has for itself.
pub(crate) fn hold() -> Held {
    if let Some(sink) = SINK.get() {
        sink.hold();
    }
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(sink) = SINK.get() {
            sink.release();
        }
    }
}

fn subscriber(level: LogLevel, sink: &Arc<Sink>) -> impl Subscriber + Send + Sync + use<> {
    let ours = Ours { level: level.into(), limiter: Mutex::default(), sink: Arc::clone(sink) };
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Lines(sink.clone()));
    tracing_subscriber::registry().with(lines.with_filter(ours))
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

/// Lets events of our own crates pass, a bounded number of each.
struct Ours {
    level: LevelFilter,
    limiter: Mutex<Limiter>,
    sink: Arc<Sink>,
}

impl<S: Subscriber> Filter<S> for Ours {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let target = metadata.target();
        let ours = target == "matchlock" || target.starts_with("matchlock_");
        let ours = ours || target.starts_with("matchlock::");
        ours && *metadata.level() <= self.level
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let debug = *metadata.level() >= Level::DEBUG;
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = limiter.admit(metadata.callsite(), debug, Instant::now());
        drop(limiter);
        if let Some(left_out @ 1..) = admitted {
            let target = metadata.target();
            self.sink
                .line(&format!("{left_out} lines like the next one of {target} were left out"));
        }
        admitted.is_some()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
}

/// Hands formatted events to the sink.
struct Lines(Arc<Sink>);

/// The text of one event.
struct Line<'a>(&'a Sink);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl std::io::Write for Line<'_> {
    /// The formatter writes each event by one call.
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.line(&String::from_utf8_lossy(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
