//! `matchlock image`.

use std::io::IsTerminal;
use std::sync::Arc;

use matchlock_core::images::{Digest, ImageSummary, ImagesError, Pulled, Source, import};
use matchlock_core::text::rfc3339;
use matchlock_core::{ImageSpec, SandboxId, SandboxRecord, SandboxSpec};
use serde::Serialize;

use super::obtain::local_name;
use crate::cli::{ImageArgs, ImageCommand, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop;
use crate::printer::{Printer, megabytes};
use crate::signals::Interrupts;

/// Carries out a subcommand of `image`.
pub(crate) fn run(
    args: &ImageArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    match &args.command {
        ImageCommand::Ls(args) => {
            let [] = exactly(&args.positionals)?;
            list(environment, printer)
        }
        ImageCommand::Rm(args) => {
            let [tag] = exactly(&args.positionals)?;
            remove(tag, environment, printer)
        }
        ImageCommand::Import(args) => {
            let [tag] = exactly(&args.positionals)?;
            read(tag, environment, printer)
        }
        ImageCommand::Gc(args) => {
            let [] = exactly(&args.positionals)?;
            collect(environment, printer)
        }
    }
}

/// One image with `ls --json`.
#[derive(Debug, Serialize)]
struct Listed {
    tag: String,
    source: &'static str,
    digest: Digest,
    size: String,
    bytes: u64,
    created: String,
}

impl From<ImageSummary> for Listed {
    fn from(image: ImageSummary) -> Self {
        let ImageSummary { tag, source, digest, size: bytes, created, .. } = image;
        let (size, created) = (megabytes(bytes), rfc3339(created));
        Self { tag, source: source.as_str(), digest, size, bytes, created }
    }
}

impl Listed {
    fn row(&self) -> [String; 4] {
        // Down to the second, as `YYYY-MM-DD HH:MM:SS`.
        let created = self.created.get(..19).unwrap_or_default().replace('T', " ");
        [self.tag.clone(), self.source.to_owned(), self.size.clone(), created]
    }
}

fn list(environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let images = environment.images()?.store().list()?;
    let images: Vec<Listed> = images.into_iter().map(Listed::from).collect();
    let rows: Vec<_> = images.iter().map(Listed::row).collect();
    printer.table(["TAG", "SOURCE", "SIZE", "CREATED"], &rows);
    printer.json(&images)?;
    Ok(0)
}

/// What `rm --json` says.
#[derive(Debug, Serialize)]
pub(super) struct Removed<'a> {
    pub(super) removed: &'a str,
}

fn remove(tag: &str, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let images = environment.images()?;
    let digest = images.store().find_tag(tag)?.map(|image| image.digest);
    images.store().remove(tag)?;
    printer.result(&format!("Removed {tag}"));
    let users = kept_with_images(environment)?.into_iter();
    let users = users.filter(|(_, of)| Some(*of) == digest).map(|(id, _)| id);
    note_users(&users.collect::<Vec<_>>(), printer);
    printer.json(&Removed { removed: tag })?;
    Ok(0)
}

/// Sandboxes that can be started again, and the images that they were made of.
fn kept_with_images(environment: &Environment) -> Result<Vec<(SandboxId, Digest)>, CliError> {
    let records = environment.state()?.known()?.into_iter();
    let image = |record: SandboxRecord| {
        let spec: SandboxSpec = serde_json::from_value(record.config).ok()?;
        match (spec.image, spec.start) {
            (ImageSpec::Stored { digest, .. }, Some(_)) => Some((record.id, digest)),
            _ => None,
        }
    };
    Ok(records.filter_map(image).collect())
}

/// Says whose files stay.
fn note_users(users: &[SandboxId], printer: Printer) {
    if !users.is_empty() {
        let users: Vec<_> = users.iter().map(SandboxId::as_str).collect();
        let users = users.join(", ");
        printer.note(&format!("its files stay as long as there are sandboxes of it: {users}"));
    }
}

/// `image import`: what stays blocked on a read of the pipe must not keep a signal waiting.
fn read(tag: &str, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let name = local_name(tag, Source::Import)?;
    if std::io::stdin().is_terminal() {
        return Err(CliError::new("standard input is a terminal, not an archive")
            .hinted("docker save IMAGE | matchlock image import TAG"));
    }
    let store = environment.images()?.store().clone();
    printer.step(&format!("Importing {tag} from stdin..."));
    let progress = Arc::new(printer.image_progress(tag));
    event_loop::block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let watched = Arc::clone(&progress);
        let importing = event_loop::beside(move || {
            let imported = import(&store, std::io::stdin(), &name, &*watched).map_err(Box::new);
            Ok(imported.map_err(ImagesError::from)?)
        });
        let imported = tokio::select! {
            imported = importing => imported,
            signal = interrupts.next() => {
                progress.clear();
                return Err(CliError::interrupted(signal));
            }
        };
        progress.clear();
        let imported = imported.map_err(|error| error.context("importing image"))?;
        let report = Imported::new(tag, &imported);
        report.print(printer);
        printer.json(&report)?;
        Ok(0)
    })
}

/// What `import --json` says.
#[derive(Debug, Serialize)]
struct Imported<'a> {
    bytes: u64,
    digest: Digest,
    layers: usize,
    size: String,
    tag: &'a str,
}

impl<'a> Imported<'a> {
    fn new(tag: &'a str, pulled: &Pulled) -> Self {
        let image = &pulled.image;
        let (layers, size) = (image.layers.len(), megabytes(image.size));
        Self { tag, digest: image.digest, layers, size, bytes: image.size }
    }

    fn print(&self, printer: Printer) {
        printer.result(&format!("Imported: {}", self.tag));
        printer.result(&format!("Layers: {}", self.layers));
        printer.result(&format!("Size: {}", self.size));
    }
}

/// What `gc --json` says.
#[derive(Debug, Serialize)]
struct Collected {
    bytes: u64,
    removed: usize,
}

fn collect(environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let report = environment.images()?.store().gc()?;
    printer.result(&format!("Removed {} unreferenced blobs", report.blobs));
    printer.json(&Collected { removed: report.blobs, bytes: report.bytes })?;
    Ok(0)
}

#[cfg(test)]
pub(super) fn sample_of_ls() -> serde_json::Value {
    let (tag, source, digest) = ("app".to_owned(), "tag", Digest::of(b""));
    let (size, bytes, created) = (megabytes(1), 1, rfc3339(std::time::UNIX_EPOCH));
    serde_json::to_value(Listed { tag, source, digest, size, bytes, created }).expect("JSON")
}

#[cfg(test)]
pub(super) fn sample_of_import() -> serde_json::Value {
    let (digest, size) = (Digest::of(b""), megabytes(1));
    serde_json::to_value(Imported { tag: "app", digest, layers: 1, size, bytes: 1 }).expect("JSON")
}

#[cfg(test)]
pub(super) fn sample_of_rm() -> serde_json::Value {
    serde_json::to_value(Removed { removed: "app" }).expect("JSON")
}

#[cfg(test)]
pub(super) fn sample_of_gc() -> serde_json::Value {
    serde_json::to_value(Collected { removed: 1, bytes: 1 }).expect("JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_row_has_the_time_to_the_second() {
        let image = Listed {
            tag: "alpine".into(),
            source: "registry",
            digest: Digest::of(b""),
            size: megabytes(16 << 20),
            bytes: 16 << 20,
            created: rfc3339(UNIX_EPOCH + Duration::from_millis(951_782_399_500)),
        };
        assert_eq!(image.row(), ["alpine", "registry", "16.0 MB", "2000-02-28 23:59:59"]);
    }
}
