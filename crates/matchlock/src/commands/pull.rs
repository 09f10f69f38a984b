//! `matchlock pull`.

use std::time::Duration;

use matchlock_core::images::{Digest, Pulled, Source};
use serde::Serialize;

use super::obtain::{ImageRequest, local_name, obtain, within};
use crate::cli::{PullArgs, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop;
use crate::printer::{Printer, megabytes};
use crate::signals::Interrupts;

/// With `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    digest: Digest,
    size: String,
    bytes: u64,
    layers: usize,
    /// Whether the registry was asked.
    fresh: bool,
}

/// Fetches an image unless it is here.
pub(crate) fn run(
    args: &PullArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [image] = exactly(&args.positionals)?;
    prepare(image, args.tag.as_deref(), args.force, args.timeout.limit(), environment, printer)
}

/// The same for `build IMAGE`.
pub(crate) fn prepare(
    image: &str,
    tag: Option<&str>,
    force: bool,
    limit: Option<Duration>,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let name = tag.map(|tag| local_name(tag, Source::Tag)).transpose()?;
    let request = ImageRequest { name: image, force, tag: name.as_ref() };
    printer.result(&format!("Pulling {image}..."));
    let images = environment.images()?;
    event_loop::block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let pulled = tokio::select! {
            pulled = within(limit, "--timeout", obtain(&images, request, printer)) => pulled?,
            signal = interrupts.next() => return Err(CliError::interrupted(signal)),
        };
        let report = Report::new(image, tag, &pulled);
        report.print(printer);
        printer.json(&report)?;
        Ok(0)
    })
}

impl<'a> Report<'a> {
    fn new(image: &'a str, tag: Option<&'a str>, pulled: &Pulled) -> Self {
        let Pulled { image: stored, fresh } = pulled;
        let (digest, bytes, layers) = (stored.digest, stored.size, stored.layers.len());
        Self { image, tag, digest, size: megabytes(bytes), bytes, layers, fresh: *fresh }
    }

    fn print(&self, printer: Printer) {
        if let Some(tag) = self.tag {
            printer.result(&format!("Tagged: {tag}"));
        }
        printer.result(&format!("Digest: {}", self.digest));
        printer.result(&format!("Size: {}", self.size));
    }
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let (image, tag, digest) = ("app", Some("mine"), Digest::of(b""));
    let (size, bytes, layers, fresh) = (megabytes(1), 1, 1, true);
    serde_json::to_value(Report { image, tag, digest, size, bytes, layers, fresh }).expect("JSON")
}
