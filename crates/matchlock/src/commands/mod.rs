//! One file for each subcommand.

pub(crate) mod allow_list;
pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod completion;
pub(crate) mod cp;
pub(crate) mod diagnose;
mod enter;
pub(crate) mod exec;
pub(crate) mod image;
#[cfg(test)]
mod json_page;
pub(crate) mod logs;
mod obtain;
pub(crate) mod port_forward;
pub(crate) mod pull;
mod pump;
pub(crate) mod rpc;
pub(crate) mod run;
pub(crate) mod sandboxes;
pub(crate) mod secret;
pub(crate) mod stats;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod volume;
