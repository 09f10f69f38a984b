//! The grammar of `pull`, `image` and `build`.

use std::ffi::OsString;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::{NetworkArgs, PlainArgs};
use crate::options::size::Megabytes;
use crate::options::time_span::TimeSpan;

/// `pull`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock pull [OPTIONS] IMAGE")]
pub(crate) struct PullArgs {
    /// Ask the registry even if the image is stored locally; layers are not fetched twice
    #[arg(long)]
    pub(crate) force: bool,

    /// Another name for the image
    #[arg(short, long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    /// Longest time that the pull may take, in seconds or as 90s, 10m; 0 is no limit
    #[arg(long, value_name = "TIME", default_value = "10m", allow_negative_numbers = true)]
    pub(crate) timeout: TimeSpan,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

/// The subcommands of `image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List local images
    #[command(visible_alias = "list", override_usage = "matchlock image ls [OPTIONS]")]
    Ls(PlainArgs),
    /// Remove an image, and the layers that no other image needs
    #[command(visible_alias = "remove", override_usage = "matchlock image rm [OPTIONS] TAG")]
    Rm(PlainArgs),
    /// Read an image from standard input: an archive of `docker save` or an OCI layout, optionally
    /// compressed by gzip or zstd
    #[command(override_usage = "docker save IMAGE | matchlock image import [OPTIONS] TAG")]
    Import(PlainArgs),
    /// Remove data that no image needs
    #[command(override_usage = "matchlock image gc [OPTIONS]")]
    Gc(PlainArgs),
}

/// `build`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock build -t TAG [-f DOCKERFILE] [OPTIONS] CONTEXT\n       \
                            matchlock build [OPTIONS] IMAGE")]
pub(crate) struct BuildArgs {
    /// Name of the built image
    #[arg(short, long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    /// Dockerfile [default: Dockerfile in the context]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<OsString>,

    /// Value of an ARG; without =VALUE, the value of the environment variable NAME
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,

    /// Stage to build instead of the last one
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Ignore the build cache
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) no_cache: bool,

    /// Builder: native is matchlock itself, with a sandbox for each RUN; buildkit is BuildKit in one
    /// sandbox [default image: moby/buildkit:rootless]
    #[arg(long, value_name = "native|buildkit[=IMAGE]", default_value = "native")]
    pub(crate) builder: Builder,

    /// CPUs of the build; 0 is all of them
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true,
          value_parser = super::cpus)]
    pub(crate) build_cpus: f64,

    /// Memory of the build in MB, or as 512m, 8g; 0 is half of the host's memory
    #[arg(long, value_name = "SIZE", default_value = "0", allow_negative_numbers = true)]
    pub(crate) build_memory: Megabytes,

    /// Size of the build's disk in MB, or as 20g; the host stores only what is written
    #[arg(long, value_name = "SIZE", default_value = "10240", allow_negative_numbers = true)]
    pub(crate) build_disk: Megabytes,

    /// Size of the build cache in MB, or as 20g
    #[arg(long, value_name = "SIZE", default_value = "10240", allow_negative_numbers = true)]
    pub(crate) build_cache_size: Megabytes,

    /// Longest time that the build may take, in seconds or as 30m, 1h; 0 is no limit
    #[arg(long, value_name = "TIME", default_value = "30m", allow_negative_numbers = true)]
    pub(crate) timeout: TimeSpan,

    /// Ask the registry for images even if they are stored locally
    #[arg(long)]
    pub(crate) pull: bool,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// What carries out the steps of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Builder {
    /// matchlock itself, a sandbox for each RUN.
    Native,
    /// BuildKit from this image, in one sandbox.
    BuildKit(Option<String>),
}

impl FromStr for Builder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "native" => Ok(Self::Native),
            None if text == "buildkit" => Ok(Self::BuildKit(None)),
            Some(("buildkit", image)) if !image.is_empty() => {
                Ok(Self::BuildKit(Some(image.to_owned())))
            }
            _ => Err("use native, buildkit or buildkit=IMAGE".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_is_native_or_buildkit_with_or_without_an_image() {
        let parse = |text: &str| text.parse::<Builder>().ok();
        assert_eq!(parse("native"), Some(Builder::Native));
        assert_eq!(parse("buildkit"), Some(Builder::BuildKit(None)));
        let named = Builder::BuildKit(Some("registry.example/b:1".to_owned()));
        assert_eq!(parse("buildkit=registry.example/b:1"), Some(named));
        for bad in ["", "buildkit=", "native=x", "docker", "BuildKit"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
