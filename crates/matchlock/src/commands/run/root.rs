//! The root file system of a run.

use matchlock_core::ImageSpec;
use matchlock_core::images::{Images, Pulled, RootImage};

use super::invocation::ImageCommand;
use super::plan::WantedImage;
use crate::commands::obtain::{ImageRequest, obtain as obtain_image};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop;
use crate::printer::{Printer, megabytes};

/// A root file system that is there.
#[derive(Debug)]
pub(super) enum Root {
    Host,
    Image(Box<RootImage>),
}

impl Root {
    /// What it executes by itself.
    pub(super) fn command(&self) -> ImageCommand<'_> {
        match self {
            Self::Host => ImageCommand::of_host(),
            Self::Image(root) => ImageCommand::of(&root.config),
        }
    }

    /// What a description says of it, and its files.
    pub(super) fn into_parts(self) -> (ImageSpec, Option<Box<RootImage>>) {
        match self {
            Self::Host => (ImageSpec::Host, None),
            Self::Image(root) => (ImageSpec::of(&root), Some(root)),
        }
    }
}

/// Looks the image up, or fetches it if it is not here; `pull` asks the registry in any case.
pub(super) async fn obtain(
    image: &WantedImage,
    pull: bool,
    environment: &Environment,
    printer: Printer,
) -> Result<Root, CliError> {
    let WantedImage::Named(name) = image else { return Ok(Root::Host) };
    let doing = |error: CliError| error.context("building rootfs");
    let places = environment.image_places().map_err(doing)?;
    let opening = event_loop::beside(move || Ok(Images::open(places)?));
    let images = opening.await.map_err(doing)?;
    let request = ImageRequest { name, force: pull, tag: None };
    let Pulled { image, fresh } = obtain_image(&images, request, printer).await?;
    let (store, size) = (images.store().clone(), image.size);
    let opening = event_loop::beside(move || Ok(store.open_image(&image)?));
    let root = opening.await.map_err(doing)?;
    if fresh {
        printer.line(&format!("Built rootfs from {name} ({})", megabytes(size)));
    }
    Ok(Root::Image(Box::new(root)))
}
