//! `matchlock image`.

use std::io::IsTerminal;
use std::sync::Arc;

use matchlock_core::audit::rfc3339;
use matchlock_core::images::{Digest, ImageSummary, ImagesError, Pulled, Source, import};
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
            list(args.json, environment, printer)
        }
        ImageCommand::Rm(args) => {
            let [tag] = exactly(&args.positionals)?;
            remove(tag, args.json, environment, printer)
        }
        ImageCommand::Import(args) => {
            let [tag] = exactly(&args.positionals)?;
            read(tag, args.json, environment, printer)
        }
        ImageCommand::Gc(args) => {
            let [] = exactly(&args.positionals)?;
            collect(args.json, environment, printer)
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
    fn row(self) -> [String; 4] {
        // Down to the second, as `YYYY-MM-DD HH:MM:SS`.
        let created = self.created.get(..19).unwrap_or_default().replace('T', " ");
        [self.tag, self.source.to_owned(), self.size, created]
    }
}

fn list(json: bool, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let images = environment.images()?.store().list()?;
    let images: Vec<Listed> = images.into_iter().map(Listed::from).collect();
    if json {
        printer.json(&images)?;
    } else {
        let rows: Vec<_> = images.into_iter().map(Listed::row).collect();
        printer.table(["TAG", "SOURCE", "SIZE", "CREATED"], &rows);
    }
    Ok(0)
}

fn remove(
    tag: &str,
    json: bool,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    environment.images()?.store().remove(tag)?;
    if json {
        printer.json(&serde_json::json!({ "removed": tag }))?;
    } else {
        printer.result(&format!("Removed {tag}"));
    }
    Ok(0)
}

/// `image import`: what stays blocked on a read of the pipe must not keep a signal waiting.
fn read(
    tag: &str,
    json: bool,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let name = local_name(tag, Source::Import)?;
    if std::io::stdin().is_terminal() {
        return Err(CliError::new("standard input is a terminal, not an archive")
            .hinted("docker save IMAGE | matchlock image import TAG"));
    }
    let store = environment.images()?.store().clone();
    if !json {
        printer.line(&format!("Importing {tag} from stdin..."));
    }
    let progress = Arc::new(printer.image_progress(tag));
    event_loop::block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let watched = Arc::clone(&progress);
        let importing = tokio::task::spawn_blocking(move || {
            import(&store, std::io::stdin(), &name, &*watched).map_err(Box::new)
        });
        let imported = tokio::select! {
            imported = importing => imported,
            signal = interrupts.next() => {
                progress.clear();
                return Ok(128u8.saturating_add(signal));
            }
        };
        progress.clear();
        let imported = imported
            .map_err(|error| CliError::new(format!("the import has stopped: {error}")))?
            .map_err(|error| CliError::from(ImagesError::from(error)).context("importing image"))?;
        say_imported(tag, &imported, json, printer)?;
        Ok(0)
    })
}

fn say_imported(
    tag: &str,
    imported: &Pulled,
    json: bool,
    printer: Printer,
) -> Result<(), CliError> {
    let image = &imported.image;
    let (layers, size) = (image.layers.len(), megabytes(image.size));
    if json {
        return printer.json(&serde_json::json!({
            "tag": tag,
            "digest": image.digest,
            "layers": layers,
            "size": size,
            "bytes": image.size,
        }));
    }
    printer.result(&format!("Imported: {tag}"));
    printer.result(&format!("Layers: {layers}"));
    printer.result(&format!("Size: {size}"));
    Ok(())
}

fn collect(json: bool, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let report = environment.images()?.store().gc()?;
    if json {
        printer.json(&serde_json::json!({ "removed": report.blobs, "bytes": report.bytes }))?;
    } else {
        printer.result(&format!("Removed {} unreferenced blobs", report.blobs));
    }
    Ok(0)
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
