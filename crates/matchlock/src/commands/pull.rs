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
    let PullArgs { force, json, timeout, .. } = *args;
    prepare(image, args.tag.as_deref(), force, timeout.limit(), json, environment, printer)
}

/// The same for `build IMAGE`.
pub(crate) fn prepare(
    image: &str,
    tag: Option<&str>,
    force: bool,
    limit: Option<Duration>,
    json: bool,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let name = tag.map(|tag| local_name(tag, Source::Tag)).transpose()?;
    let request = ImageRequest { name: image, force, tag: name.as_ref() };
    if !json {
        printer.result(&format!("Pulling {image}..."));
    }
    let images = environment.images()?;
    event_loop::block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let pulled = tokio::select! {
            pulled = within(limit, "--timeout", obtain(&images, request, printer)) => pulled?,
            signal = interrupts.next() => return Ok(128u8.saturating_add(signal)),
        };
        say(image, tag, &pulled, json, printer)?;
        Ok(0)
    })
}

fn say(
    image: &str,
    tag: Option<&str>,
    pulled: &Pulled,
    json: bool,
    printer: Printer,
) -> Result<(), CliError> {
    let Pulled { image: stored, fresh } = pulled;
    let (digest, bytes) = (stored.digest, stored.size);
    let size = megabytes(bytes);
    if json {
        let layers = stored.layers.len();
        return printer.json(&Report { image, tag, digest, size, bytes, layers, fresh: *fresh });
    }
    if let Some(tag) = tag {
        printer.result(&format!("Tagged: {tag}"));
    }
    printer.result(&format!("Digest: {digest}"));
    printer.result(&format!("Size: {size}"));
    Ok(())
}
