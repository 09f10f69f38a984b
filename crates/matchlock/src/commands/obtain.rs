//! Gets images for commands: from the store, or else from their registries.

use std::time::Duration;

use matchlock_core::DescribeChain;
use matchlock_core::images::{ImageName, Images, PullOptions, Pulled, Reference, Source, Store};

use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::event_loop;
use crate::options::time_span::in_seconds;
use crate::printer::Printer;

/// An image that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageRequest<'a> {
    /// A local tag or a reference, as it was typed.
    pub(crate) name: &'a str,
    /// Ask the registry in any case.
    pub(crate) force: bool,
    /// A further name for it.
    pub(crate) tag: Option<&'a ImageName>,
}

/// Gets an image. The registry, the proxies and the credentials are looked at only if the image is
/// not here already.
pub(crate) async fn obtain(
    images: &Images,
    request: ImageRequest<'_>,
    printer: Printer,
) -> Result<Pulled, CliError> {
    find_or_fetch(images, request, printer)
        .await
        .map_err(|error: CliError| error.context("building rootfs"))
}

/// Gives up on fetching an image after `limit`, which `flag` sets.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    flag: &str,
    fetching: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    tokio::select! {
        fetched = fetching => fetched,
        time = event_loop::expiry(limit) => {
            let time = in_seconds(time);
            Err(CliError::new(format!("building rootfs: the image did not come within {time}"))
                .of_kind(Kind::Timeout)
                .hinted(format!("run it again, the download resumes where it stopped; or see {flag}")))
        }
    }
}

/// The same for callers that say themselves what the image is for.
pub(crate) async fn find_or_fetch(
    images: &Images,
    request: ImageRequest<'_>,
    printer: Printer,
) -> Result<Pulled, CliError> {
    let found = if request.force {
        None
    } else {
        let (store, name) = (images.store().clone(), request.name.to_owned());
        let tag = request.tag.cloned();
        event_loop::beside(move || find(&store, &name, tag.as_ref())).await?
    };
    match found {
        Some(pulled) => Ok(pulled),
        None => fetch(images, request, printer).await,
    }
}

fn find(store: &Store, name: &str, tag: Option<&ImageName>) -> Result<Option<Pulled>, CliError> {
    let Some(image) = store.find_tag(name)? else { return Ok(None) };
    if !store.is_whole(&image)? {
        // An image of the user's own has no registry, though one may have another image of its name.
        if image.source == Source::Registry {
            return Ok(None);
        }
        let _says_what_is_missing = store.open_image(&image)?;
    }
    let image = match tag {
        Some(tag) => store.tag(&image, tag)?,
        None => image,
    };
    Ok(Some(Pulled { image, fresh: false }))
}

async fn fetch(
    images: &Images,
    request: ImageRequest<'_>,
    printer: Printer,
) -> Result<Pulled, CliError> {
    let reference = reference(request.name)?;
    let options =
        PullOptions { force: request.force, tag: request.tag.cloned(), ..PullOptions::default() };
    let proxy = Environment::proxy()?;
    let asked = images.clone();
    let client = event_loop::beside(move || Ok(asked.client(proxy)?)).await?;
    let progress = printer.image_progress(request.name);
    Ok(images.pull(&client, &reference, &options, &progress).await?)
}

/// The name of an image in a registry.
fn reference(name: &str) -> Result<Reference, CliError> {
    name.parse().map_err(|error| {
        let why = DescribeChain(&error).to_string();
        CliError::new(format!("invalid image reference {name:?}: {why}"))
            .hinted("write [REGISTRY/]REPOSITORY[:TAG], or \"host\" for this machine's own system")
    })
}

/// Refuses what can name neither an image of the store nor one of a registry.
pub(crate) fn check_name(name: &str) -> Result<(), CliError> {
    match ImageName::local(name, Source::Tag) {
        Ok(_) => Ok(()),
        Err(_) => reference(name).map(drop).map_err(|error| error.context("building rootfs")),
    }
}

/// A name that the user gives to an image.
pub(crate) fn local_name(text: &str, source: Source) -> Result<ImageName, CliError> {
    if text == "host" {
        return Err(CliError::new("invalid tag \"host\": it means this machine's own system"));
    }
    ImageName::local(text, source).map_err(|error| CliError::new(error.to_string()))
}
