//! What a build says at its end.

use std::error::Error;

use matchlock_core::build::RunnerError;
use matchlock_core::dockerfile::{BuildError, Built};
use matchlock_core::images::{Digest, ImagesError};
use matchlock_core::text::causes;
use matchlock_core::{Classified, DescribeChain};
use serde::Serialize;

use crate::commands::run::refused::Refused;
use crate::error::{CliError, words};
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

impl<'a> Report<'a> {
    fn new(tag: &'a str, built: &Built, refused: &'a [Refused]) -> Self {
        let Built { image, cached, steps } = built;
        let steps = (*steps > 0).then_some(*steps);
        Self {
            tag,
            digest: image.digest,
            layers: image.layers.len(),
            size: megabytes(image.size),
            bytes: image.size,
            steps,
            cached: steps.map(|_| *cached),
            refused,
        }
    }
}

/// What `--json` has of a build that failed, beside the error.
#[derive(Debug, Serialize)]
pub(super) struct Failed<'a> {
    tag: &'a str,
    refused: &'a [Refused],
}

/// Tells of the image, or adds to the error what was refused: it may be why a step failed.
pub(super) fn say(
    tag: &str,
    built: Result<Built, CliError>,
    refused: &[Refused],
    printer: Printer,
) -> Result<(), CliError> {
    let built = built.map_err(|error| error.with_details(&Failed { tag, refused }))?;
    let report = Report::new(tag, &built, refused);
    printer.result(&format!("Successfully built and tagged {tag}"));
    printer.result(&format!("Layers: {}", report.layers));
    printer.result(&format!("Size: {}", report.size));
    printer.json(&report)
}

/// The error with the hint of its cause.
pub(super) fn describe(error: &BuildError) -> CliError {
    let described = CliError::new(DescribeChain(error).to_string());
    let buildkit = || error.needs_buildkit().then(|| "use --builder buildkit".to_owned());
    match hint(error).or_else(buildkit) {
        Some(hint) => described.hinted(hint),
        None => described,
    }
}

fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(|error| {
        if let Some(error) = error.downcast_ref::<CliError>() {
            error.hint().map(str::to_owned)
        } else if let Some(error) = error.downcast_ref::<RunnerError>() {
            error.hint().map(words)
        } else {
            error.downcast_ref::<ImagesError>()?.hint().map(words)
        }
    })
}

#[cfg(test)]
pub(in crate::commands) fn sample() -> serde_json::Value {
    let (digest, size, steps, cached) = (Digest::of(b""), megabytes(1), Some(2), Some(1));
    let refused = &[crate::commands::run::refused::sample()];
    let (tag, layers, bytes) = ("app", 1, 1);
    let report = Report { tag, digest, layers, size, bytes, steps, cached, refused };
    serde_json::to_value(report).expect("JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use matchlock_core::dockerfile::{At, Problem, StepError, SyntaxError};
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
    fn what_only_buildkit_has_names_its_option() {
        let problem = Problem::needs_buildkit("--parents");
        let error = describe(&SyntaxError { at: at(), problem }.into());
        assert!(error.message().ends_with("built-in builder; BuildKit can do it"));
        assert_eq!(error.hint(), Some("use --builder buildkit"));
    }

    #[test]
    fn the_hint_is_that_of_the_cause() {
        let source = Box::new(CliError::new("no such image").hinted("look again"));
        let error = describe(&BuildError::Image { at: at(), source });
        assert_eq!(error.message(), "Dockerfile:3: RUN make all: no such image");
        assert_eq!(error.hint(), Some("look again"));
        let vmm = VmmError::TooManyDevices { wanted: 9 };
        let source = RunnerError::Start(matchlock_core::CoreError::Vmm(vmm).into());
        let source = Box::new(StepError::Run(source.into()));
        let error = describe(&BuildError::Step { at: at(), source });
        assert_eq!(error.hint(), Some("attach fewer disks"));
    }
}
