//! `matchlock build`: an image from a Dockerfile, or one of a registry made ready.

use std::path::{Path, PathBuf};

use super::pull;
use crate::cli::{BuildArgs, exactly};
use crate::error::CliError;
use crate::printer::Printer;
use crate::surroundings::Surroundings;

/// Builds an image.
pub(crate) fn run(
    args: &BuildArgs,
    surroundings: &Surroundings,
    printer: Printer,
) -> Result<u8, CliError> {
    let [what] = exactly(&args.positionals)?;
    let from_dockerfile = args.tag.is_some() || args.file.is_some() || Path::new(what).is_dir();
    if !from_dockerfile {
        return pull::prepare(what, None, args.pull, args.json, surroundings, printer);
    }
    let sources = Sources::new(args, what)?;
    Err(CliError::new(format!(
        "cannot build {} from {}: this version has no builder",
        sources.tag,
        sources.dockerfile.display()
    )))
}

/// Where a build starts from.
#[derive(Debug, PartialEq, Eq)]
struct Sources {
    tag: String,
    context: PathBuf,
    dockerfile: PathBuf,
}

impl Sources {
    fn new(args: &BuildArgs, context: &str) -> Result<Self, CliError> {
        let tag = args.tag.clone().filter(|tag| !tag.is_empty()).ok_or_else(|| {
            CliError::new("-t/--tag is required when building from a Dockerfile")
                .hinted("matchlock build -t TAG [-f DOCKERFILE] CONTEXT")
        })?;
        let context = PathBuf::from(context);
        if !context.is_dir() {
            let shown = context.display().to_string();
            return Err(CliError::new(format!("build context {shown:?} is not a directory")));
        }
        let dockerfile = match &args.file {
            Some(file) => PathBuf::from(file),
            None => context.join("Dockerfile"),
        };
        if !dockerfile.is_file() {
            let shown = dockerfile.display();
            return Err(CliError::new(format!("Dockerfile not found: {shown}")).hinted(
                "name it with -f; a relative path counts from here, not from the context",
            ));
        }
        Ok(Self { tag, context, dockerfile })
    }
}
