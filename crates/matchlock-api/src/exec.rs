//! Commands: contract, sections 2.5 to 2.8.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes::Base64;
use crate::id::RequestId;
use crate::params::Params;

/// Rows and columns of a terminal whose size is not given, or is 0.
pub const DEFAULT_SIZE: (u16, u16) = (24, 80);

/// What `exec`, `exec_stream` and `exec_pipe` run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecParams {
    /// A command line for `sh -c`.
    pub command: String,
    /// The directory it starts in. Empty or absent: the image's, else the workspace, else `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `name`, `uid`, `uid:gid` or `name:group`, looked up in the guest. Empty or absent: the sandbox's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// More variables, over those of the sandbox. An addition to the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

impl Params for ExecParams {}

/// What `exec_tty` runs on a terminal of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecTtyParams {
    /// A command line for `sh -c`.
    pub command: String,
    /// The directory it starts in. Empty or absent: the image's, else the workspace, else `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `name`, `uid`, `uid:gid` or `name:group`, looked up in the guest. Empty or absent: the sandbox's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// More variables, over those of the sandbox. An addition to the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Rows of the terminal. 0 or absent: 24.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Columns of the terminal. 0 or absent: 80.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
}

impl Params for ExecTtyParams {}

impl ExecTtyParams {
    /// Rows and columns.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        let given = |size: Option<u16>, default| size.filter(|size| *size > 0).unwrap_or(default);
        (given(self.rows, DEFAULT_SIZE.0), given(self.cols, DEFAULT_SIZE.1))
    }
}

/// How a command of `exec` ended, and all that it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecResult {
    /// The exit status; 128 plus the number of a signal that ended it.
    pub exit_code: i64,
    /// What it wrote to standard output.
    pub stdout: Base64,
    /// What it wrote to standard error.
    pub stderr: Base64,
    /// Milliseconds that it ran.
    pub duration_ms: u64,
}

/// How a command ended whose output came in notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExitResult {
    /// The exit status; 128 plus the number of a signal that ended it.
    pub exit_code: i64,
    /// Milliseconds that it ran.
    pub duration_ms: u64,
}

/// Bytes of one of a command's streams, or of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chunk {
    /// The id of the request that runs the command or follows the log.
    pub id: RequestId,
    /// The bytes.
    pub data: Base64,
}

impl Params for Chunk {}

/// Names a request that runs a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Running {
    /// The id of the request that runs the command.
    pub id: RequestId,
}

impl Params for Running {}

/// The new size of a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resize {
    /// The id of the request that runs the command.
    pub id: RequestId,
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

impl Params for Resize {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_without_a_size_has_24_rows_and_80_columns() {
        let size = |text| serde_json::from_str::<ExecTtyParams>(text).expect("params").size();
        assert_eq!(size(r#"{"command":"x"}"#), (24, 80));
        assert_eq!(size(r#"{"command":"x","rows":0,"cols":null}"#), (24, 80));
        assert_eq!(size(r#"{"command":"x","rows":50}"#), (50, 80));
    }
}
