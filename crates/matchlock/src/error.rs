//! What the command line reports.

use std::fmt;

use matchlock_core::images::{ImagesError, StoreError};
use matchlock_core::text::escape;
use matchlock_core::vmm::VmmError;
use matchlock_core::volume::VolumeError;
use matchlock_core::{CoreError, DescribeChain, ExecError, InvalidConfig};

/// An error for the user: what failed, why, and what to do.
#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    hint: Option<String>,
    status: u8,
}

impl CliError {
    /// An error of the arguments or of the environment.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: escape::one_line(&message.into()), hint: None, status: 1 }
    }

    /// What the user does next.
    pub(crate) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Exit status other than 1.
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// Puts what was being done before the message.
    pub(crate) fn context(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    fn chained(error: &dyn std::error::Error, hint: Option<&str>) -> Self {
        let this = Self::new(DescribeChain(error).to_string());
        Self { hint: hint.map(str::to_owned), ..this }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<CoreError> for CliError {
    fn from(error: CoreError) -> Self {
        Self::chained(&error, error.hint())
    }
}

impl From<ImagesError> for CliError {
    fn from(error: ImagesError) -> Self {
        Self::chained(&error, error.hint())
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        ImagesError::from(error).into()
    }
}

impl From<VolumeError> for CliError {
    fn from(error: VolumeError) -> Self {
        Self::chained(&error, error.hint())
    }
}

impl From<InvalidConfig> for CliError {
    fn from(error: InvalidConfig) -> Self {
        Self::chained(&error, error.hint())
    }
}

impl From<VmmError> for CliError {
    fn from(error: VmmError) -> Self {
        Self::chained(&error, error.hint())
    }
}

impl From<ExecError> for CliError {
    fn from(error: ExecError) -> Self {
        Self::chained(&error, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_harmless_line() {
        let error = CliError::new("first\n\n  second\x1b[2J").context("doing");
        assert_eq!(error.message(), "doing: first | second\\u{1b}[2J");
    }
}
