//! What the service needs of this machine: images, settings, words.

use matchlock_core::api::{ErrorCode, RpcError};
use matchlock_core::images::RootImage;
use matchlock_core::net::ProxySettings;
use matchlock_core::policy::DefaultEgress;
use matchlock_core::service::{Pending, Surroundings};
use matchlock_core::volume::Volumes;
use matchlock_core::{Hint, Launcher};

use crate::commands::run::root::{self, WantedImage};
use crate::environment::Environment;
use crate::error::{CliError, words};
use crate::printer::Printer;

/// This machine, as the environment describes it.
#[derive(Debug)]
pub(super) struct Here {
    environment: Environment,
    printer: Printer,
}

impl Here {
    pub(super) fn new(environment: Environment, printer: Printer) -> Self {
        Self { environment, printer }
    }
}

impl Surroundings for Here {
    fn launcher<'a>(&'a self, kernel: Option<&'a str>) -> Pending<'a, Launcher> {
        Box::pin(async move {
            let kernel = self.environment.kernel(kernel).map_err(|error| told(&error))?;
            let setup = self.environment.host(kernel).map_err(|error| told(&error))?;
            Launcher::open(setup).await.map_err(|error| told(&CliError::from(error)))
        })
    }

    fn root<'a>(&'a self, image: &'a str) -> Pending<'a, Option<Box<RootImage>>> {
        Box::pin(async move {
            let wanted = WantedImage::new(image).map_err(|error| told(&error))?;
            let root = root::obtain(&wanted, false, &self.environment, self.printer).await;
            Ok(root.map_err(|error| told(&error))?.into_parts().1)
        })
    }

    fn network(&self) -> Result<(ProxySettings, DefaultEgress), RpcError> {
        let proxy = Environment::proxy().map_err(|error| told(&error))?;
        let egress = self.environment.default_egress().map_err(|error| told(&error))?;
        Ok((proxy, egress))
    }

    fn volumes(&self) -> Result<Volumes, RpcError> {
        self.environment.volumes().map_err(|error| told(&error))
    }

    fn words(&self, hint: Hint) -> String {
        words(hint)
    }
}

/// An error of the command line as the answer of a method.
fn told(error: &CliError) -> RpcError {
    let told = RpcError::new(ErrorCode::Sandbox, error.kind(), error.message());
    match error.hint() {
        Some(hint) => told.hinted(hint),
        None => told,
    }
}
