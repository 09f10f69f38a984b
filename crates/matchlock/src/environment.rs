//! The environment variables that matchlock reads, and the paths that follow from them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use matchlock_core::images::{ImagePlaces, Images};
use matchlock_core::net::ProxySettings;
use matchlock_core::policy::DefaultEgress;
use matchlock_core::vmm::AcceleratorRequest;
use matchlock_core::volume::Volumes;
use matchlock_core::{DescribeChain, HostSetup, KernelSource, StateRoot};

use crate::cli::LogLevel;
use crate::embedded::ARTEFACTS;
use crate::error::CliError;

/// Tells the process that `run -d` starts what it is.
pub(crate) const DETACHED: &str = "MATCHLOCK_DETACHED";

/// A snapshot of the environment, taken once.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    home: Option<PathBuf>,
    path: Option<OsString>,
    qemu: Option<OsString>,
    accelerator: Option<OsString>,
    kernel: Option<OsString>,
    egress: Option<OsString>,
    docker_config: Option<PathBuf>,
    log_level: Option<OsString>,
    /// `run -d` has started this process to own the sandbox.
    pub(crate) detached: bool,
    /// Default of `--image`.
    pub(crate) image: Option<String>,
    /// The terminal's type, for the guest's programs.
    pub(crate) term: Option<OsString>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            home: var("HOME").map(PathBuf::from),
            path: var("PATH"),
            qemu: var("MATCHLOCK_QEMU"),
            accelerator: var("MATCHLOCK_ACCEL"),
            kernel: var("MATCHLOCK_KERNEL"),
            egress: var("MATCHLOCK_DEFAULT_EGRESS"),
            docker_config: var("DOCKER_CONFIG").map(PathBuf::from),
            log_level: var("MATCHLOCK_LOG_LEVEL"),
            detached: var(DETACHED).is_some(),
            image: var("MATCHLOCK_RUN_IMAGE").and_then(|image| image.into_string().ok()),
            term: var("TERM"),
        }
    }

    /// The directory that decides all paths.
    pub(crate) fn home(&self) -> Result<&PathBuf, CliError> {
        self.home.as_ref().filter(|home| home.is_absolute()).ok_or_else(|| {
            CliError::new("HOME is not set to an absolute path")
                .hinted("matchlock keeps its state in $HOME/.matchlock and $HOME/.cache/matchlock")
        })
    }

    pub(crate) fn cache(&self) -> Result<PathBuf, CliError> {
        self.home().map(|home| home.join(".cache").join("matchlock"))
    }

    /// The store of images, for commands without an event loop.
    pub(crate) fn images(&self) -> Result<Images, CliError> {
        Ok(Images::open(self.image_places()?)?)
    }

    /// Where images are, and what is said about registries.
    pub(crate) fn image_places(&self) -> Result<ImagePlaces, CliError> {
        let home = self.home()?;
        let docker = self.docker_config.clone().unwrap_or_else(|| home.join(".docker"));
        Ok(ImagePlaces {
            store: self.cache()?.join("images"),
            registries: home.join(".matchlock").join("registries.json"),
            docker_config: docker.join("config.json"),
            path: self.path.clone().unwrap_or_default(),
        })
    }

    /// Disks that outlive sandboxes.
    pub(crate) fn volumes(&self) -> Result<Volumes, CliError> {
        Ok(Volumes::in_cache(&self.cache()?))
    }

    /// The sandboxes of this user.
    pub(crate) fn state(&self) -> Result<StateRoot, CliError> {
        Ok(StateRoot::in_home(self.home()?))
    }

    /// What this host starts sandboxes with.
    pub(crate) fn host(&self, kernel: KernelSource) -> Result<HostSetup, CliError> {
        Ok(HostSetup {
            state: self.state()?,
            cache: self.cache()?,
            qemu: self.qemu.clone(),
            path: self.path.clone(),
            accelerator: self.accelerator()?,
            kernel,
            kernel_parameters: String::new(),
            artefacts: ARTEFACTS,
        })
    }

    fn accelerator(&self) -> Result<AcceleratorRequest, CliError> {
        let text = self.accelerator.as_ref().map(|value| value.to_string_lossy());
        text.unwrap_or_default()
            .parse()
            .map_err(|error| CliError::new(format!("MATCHLOCK_ACCEL: {error}")))
    }

    /// What is logged when no flag says it.
    pub(crate) fn log_level(&self) -> Result<LogLevel, CliError> {
        let Some(text) = &self.log_level else { return Ok(LogLevel::Warn) };
        let text = text.to_string_lossy();
        LogLevel::from_str(&text, false).map_err(|_| {
            CliError::new(format!("MATCHLOCK_LOG_LEVEL: {text:?} is not a level"))
                .hinted("use debug, info, warn or error")
        })
    }

    /// What a sandbox may reach when no flag names a host.
    pub(crate) fn default_egress(&self) -> Result<DefaultEgress, CliError> {
        match self.egress.as_ref().map(|value| value.to_string_lossy()).as_deref() {
            None | Some("deny") => Ok(DefaultEgress::Deny),
            Some("public") => Ok(DefaultEgress::Public),
            Some(other) => Err(CliError::new(format!(
                "MATCHLOCK_DEFAULT_EGRESS: {other:?} is neither \"deny\" nor \"public\""
            ))),
        }
    }

    /// The proxies between this host and the network. Not part of the snapshot: their URLs may hold
    /// passwords.
    pub(crate) fn proxy() -> Result<ProxySettings, CliError> {
        ProxySettings::from_env(|name| std::env::var(name).ok()).map_err(|error| {
            CliError::new(DescribeChain(&error).to_string())
                .hinted("unset it for matchlock to go without, or name an http:// proxy")
        })
    }

    /// The kernel to boot: the flag's `file://` reference, else `MATCHLOCK_KERNEL`, else ours.
    pub(crate) fn kernel(&self, flag: Option<&str>) -> Result<KernelSource, CliError> {
        match flag {
            Some("") | None => {}
            Some(reference) => {
                let path = reference.strip_prefix("file://").filter(|path| path.starts_with('/'));
                return path.map(|path| KernelSource::File(path.into())).ok_or_else(|| {
                    CliError::new(format!("invalid kernel reference {reference:?}"))
                        .hinted("use file:///absolute/path of an uncompressed or zstd vmlinux")
                });
            }
        }
        Ok(match &self.kernel {
            Some(path) => KernelSource::File(path.into()),
            None => KernelSource::Embedded,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_logged_unless_the_environment_names_another_level() {
        let level = |value: Option<&str>| {
            let log_level = value.map(OsString::from);
            Environment { log_level, ..Environment::default() }.log_level()
        };
        assert_eq!(level(None).expect("valid"), LogLevel::Warn);
        assert_eq!(level(Some("debug")).expect("valid"), LogLevel::Debug);
        for bad in ["loud", "DEBUG", "3"] {
            assert!(level(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn egress_is_denied_unless_the_environment_says_public() {
        let egress = |value: Option<&str>| {
            let egress = value.map(OsString::from);
            Environment { egress, ..Environment::default() }.default_egress()
        };
        assert_eq!(egress(None).expect("valid"), DefaultEgress::Deny);
        assert_eq!(egress(Some("deny")).expect("valid"), DefaultEgress::Deny);
        assert_eq!(egress(Some("public")).expect("valid"), DefaultEgress::Public);
        for bad in ["Public", "allow", "1"] {
            assert!(egress(Some(bad)).is_err(), "{bad}");
        }
    }
}
