//! The root file system of a sandbox.

use matchlock_core::ImageSpec;
use matchlock_core::images::{Images, Pulled, RootImage, Store};

use super::invocation::ImageCommand;
use crate::commands::obtain::{ImageRequest, check_name, obtain as obtain_image};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop;
use crate::printer::{Printer, megabytes};

/// The root file system that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) enum WantedImage {
    /// The host's own system directories.
    Host,
    /// An image of the store, or of a registry.
    Named(String),
}

impl WantedImage {
    /// The image of this name, which is not empty.
    pub(in crate::commands) fn new(name: &str) -> Result<Self, CliError> {
        if name == "host" {
            return Ok(Self::Host);
        }
        check_name(name)?;
        Ok(Self::Named(name.to_owned()))
    }
}

/// A root file system that is there.
#[derive(Debug)]
pub(in crate::commands) enum Root {
    Host,
    /// With the store that it is in.
    Image(Box<RootImage>, Store),
}

impl Root {
    /// What it executes by itself.
    pub(super) fn command(&self) -> ImageCommand<'_> {
        match self {
            Self::Host => ImageCommand::of_host(),
            Self::Image(root, _) => ImageCommand::of(&root.config),
        }
    }

    /// Where it is stored.
    pub(super) fn store(&self) -> Option<&Store> {
        match self {
            Self::Host => None,
            Self::Image(_, store) => Some(store),
        }
    }

    /// What a description says of it, and its files.
    pub(in crate::commands) fn into_parts(self) -> (ImageSpec, Option<Box<RootImage>>) {
        match self {
            Self::Host => (ImageSpec::Host, None),
            Self::Image(root, _) => (ImageSpec::of(&root), Some(root)),
        }
    }
}

/// Looks the image up, or fetches it if it is not here; `pull` asks the registry in any case.
pub(in crate::commands) async fn obtain(
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
    let opening = event_loop::beside(move || Ok((store.open_image(&image)?, store)));
    let (root, store) = opening.await.map_err(doing)?;
    if fresh {
        printer.line(&format!("Built rootfs from {name} ({})", megabytes(size)));
    }
    Ok(Root::Image(Box::new(root), store))
}
