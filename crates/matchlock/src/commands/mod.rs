//! One file for each subcommand.

pub(crate) mod audit;
pub(crate) mod completion;
pub(crate) mod diagnose;
pub(crate) mod run;
pub(crate) mod version;
