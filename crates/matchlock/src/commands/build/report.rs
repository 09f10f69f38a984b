//! What a build says at its end.

use std::error::Error;

use matchlock_core::DescribeChain;
use matchlock_core::build::RunnerError;
use matchlock_core::dockerfile::{BuildError, Built};
use matchlock_core::images::{Digest, ImagesError};
use serde::Serialize;

use crate::commands::run::refused::Refused;
use crate::error::CliError;
use crate::printer::{Printer, megabytes};

/// With `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    tag: &'a str,
    digest: Digest,
    layers: usize,
    size: String,
    bytes: u64,
    /// Those of BuildKit are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    /// Steps whose layers came from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    cached: Option<usize>,
    refused: &'a [Refused],
}

/// Tells of the image.
pub(super) fn say(
    tag: &str,
    built: &Built,
    refused: &[Refused],
    json: bool,
    printer: Printer,
) -> Result<(), CliError> {
    let Built { image, cached, steps } = built;
    let (layers, bytes, size) = (image.layers.len(), image.size, megabytes(image.size));
    if json {
        let digest = image.digest;
        let steps = (*steps > 0).then_some(*steps);
        let cached = steps.map(|_| *cached);
        return printer.json(&Report { tag, digest, layers, size, bytes, steps, cached, refused });
    }
    printer.result(&format!("Successfully built and tagged {tag}"));
    printer.result(&format!("Layers: {layers}"));
    printer.result(&format!("Size: {size}"));
    Ok(())
}

/// The error with the hint of whoever it comes from.
pub(super) fn describe(error: &BuildError) -> CliError {
    let described = CliError::new(DescribeChain(error).to_string());
    match hint(error) {
        Some(hint) => described.hinted(hint),
        None => described,
    }
}

fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let own = if let Some(error) = error.downcast_ref::<CliError>() {
            error.hint()
        } else if let Some(error) = error.downcast_ref::<RunnerError>() {
            error.hint()
        } else {
            error.downcast_ref::<ImagesError>().and_then(ImagesError::hint)
        };
        if own.is_some() {
            return own.map(str::to_owned);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use matchlock_core::dockerfile::{At, StepError};
    use matchlock_core::vmm::VmmError;

    fn at() -> At {
        At::new(&"Dockerfile".into(), 3, "RUN make  all")
    }

    #[test]
    fn a_failed_step_has_its_line_and_status() {
        let source = Box::new(StepError::Status(2));
        let error = describe(&BuildError::Step { at: at(), source });
        assert_eq!(error.message(), "Dockerfile:3: RUN make all: exited with status 2");
        assert_eq!(error.hint(), None);
    }

    #[test]
    fn the_hint_is_that_of_the_cause() {
        let source = Box::new(CliError::new("no such image").hinted("look again"));
        let error = describe(&BuildError::Image { at: at(), source });
        assert_eq!(error.message(), "Dockerfile:3: RUN make all: no such image");
        assert_eq!(error.hint(), Some("look again"));
        let vmm = VmmError::TooManyDevices { wanted: 9 };
        let hint = vmm.hint().map(str::to_owned);
        let source = RunnerError::Start(matchlock_core::CoreError::Vmm(vmm));
        let source = Box::new(StepError::Run(source.into()));
        assert_eq!(
            describe(&BuildError::Step { at: at(), source }).hint().map(str::to_owned),
            hint
        );
    }
}
