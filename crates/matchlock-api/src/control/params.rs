//! Parameters and results of calls that only the control socket has.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use serde::{Deserialize, Serialize};

use crate::bytes::Base64;
use crate::create::SecretValue;
use crate::params::{InvalidParams, Params};

/// A word that need not be text: a string, or `{"base64": …}` for one that is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Arg {
    /// Text.
    Text(String),
    /// Other bytes.
    Bytes {
        /// They.
        base64: Base64,
    },
}

impl From<OsString> for Arg {
    fn from(word: OsString) -> Self {
        match word.into_string() {
            Ok(text) => Self::Text(text),
            Err(word) => Self::Bytes { base64: Base64(word.as_os_str().as_bytes().to_vec()) },
        }
    }
}

impl From<Vec<u8>> for Arg {
    fn from(word: Vec<u8>) -> Self {
        OsString::from_vec(word).into()
    }
}

impl Arg {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes { base64 } => &base64.0,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes { base64 } => base64.0,
        }
    }
}

/// What `run` runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunParams {
    /// The program, looked up in the `PATH` of the sandbox, and its arguments. Not empty.
    pub argv: Vec<Arg>,
    /// The directory it starts in. Absent: the sandbox's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<Arg>,
    /// `name`, `uid`, `uid:gid` or `name:group`, looked up in the guest. Absent: the sandbox's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// More variables, over those of the sandbox.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Arg>,
    /// Whether it gets input. Otherwise it reads from `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// The terminal it runs on. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
}

impl Params for RunParams {
    fn check(&self) -> Result<(), InvalidParams> {
        match self.argv.is_empty() {
            true => Err(InvalidParams::new("argv", "argv must name a program")),
            false => Ok(()),
        }
    }
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TtySize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

impl Params for TtySize {}

/// Where `dial` connects to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DialParams {
    /// A TCP port of the guest, 1 to 65535.
    pub port: u16,
}

impl Params for DialParams {
    fn check(&self) -> Result<(), InvalidParams> {
        match self.port {
            0 => Err(InvalidParams::new("port", "port must be in the range 1-65535")),
            _ => Ok(()),
        }
    }
}

/// What `pack` copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackParams {
    /// A file, a directory or a link, from the root. The names in the archive begin with the last one of the
    /// path; a path that has none, or ends in `/.`, is the content of a directory.
    pub path: Arg,
    /// Whether a link at the end of the path stands for what it leads to.
    #[serde(default)]
    pub follow: bool,
}

impl Params for PackParams {
    fn check(&self) -> Result<(), InvalidParams> {
        path("path", &self.path)
    }
}

/// What `unpack` makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnpackParams {
    /// The destination, as `cp` understands it.
    pub path: Arg,
    /// The name of what is copied. Absent: the content of a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arg>,
    /// Whether the archive is one of the user, with any names, for a directory that is there.
    #[serde(default)]
    pub archive: bool,
}

impl Params for UnpackParams {
    fn check(&self) -> Result<(), InvalidParams> {
        path("path", &self.path)?;
        self.name.as_ref().map_or(Ok(()), |name| path("name", name))
    }
}

/// A path of the guest, which its kernel would end at the first NUL.
fn path(field: &'static str, path: &Arg) -> Result<(), InvalidParams> {
    match path.as_bytes() {
        [] => Err(InvalidParams::new(field, format!("{field} must not be empty"))),
        bytes if bytes.contains(&0) => {
            Err(InvalidParams::new(field, format!("{field} must not contain NUL")))
        }
        _ => Ok(()),
    }
}

/// The hosts that are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllowListResult {
    /// Patterns of hosts, sorted.
    pub allowed_hosts: Vec<String>,
}

/// A secret that is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretSetParams {
    /// The name of the variable that holds the placeholder.
    pub name: String,
    /// What is put into requests from now on.
    pub value: SecretValue,
    /// Patterns of the hosts that may get it. Empty or absent: those that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

impl Params for SecretSetParams {}

/// A secret that is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretNameParams {
    /// Its name.
    pub name: String,
}

impl Params for SecretNameParams {}

/// The secrets of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretListResult {
    /// In the order in which they came.
    pub secrets: Vec<SecretInfo>,
}

/// A secret without its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Patterns of the hosts that may get it.
    pub hosts: Vec<String>,
    /// What the guest holds instead.
    pub placeholder: String,
}

/// What a sandbox uses. Counts begin with the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatsResult {
    /// When this was measured, in microseconds since an arbitrary moment.
    pub at_us: u64,
    /// CPU time of the virtual machine on this machine, in microseconds.
    pub cpu_us: u64,
    /// Memory of the virtual machine's process on this machine, in bytes.
    pub host_memory: u64,
    /// Memory that is in use in the guest, in bytes, by its own word.
    pub memory_used: u64,
    /// Memory that programs of the guest can have.
    pub memory_limit: u64,
    /// Bytes from the network to the guest. Absent without a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_received: Option<u64>,
    /// Bytes from the guest to the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_sent: Option<u64>,
    /// Bytes that the guest has read from its disks, by its own word.
    pub disk_read: u64,
    /// Bytes that it has written to them.
    pub disk_written: u64,
    /// Processes and threads of programs in the guest, by its own word.
    pub processes: u64,
}

/// What runs in a guest, by its own word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TopResult {
    /// Sorted by number; the first some hundred.
    pub processes: Vec<Process>,
}

/// A process of a guest. Every text is the guest's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    /// Its number in the whole guest; within a command's own namespace it has another.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// The number of its user.
    pub uid: u32,
    /// The name of its user, if it has one.
    pub user: String,
    /// One letter, as in proc(5).
    pub state: String,
    /// Its CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Its memory in bytes.
    pub memory: u64,
    /// Its arguments with blanks between them, or its name in brackets. Cut off after 512 bytes.
    pub command: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_whatever_they_are() {
        for bytes in [b"plain".to_vec(), "größe".into(), vec![0xff, 0xfe, b'x'], Vec::new()] {
            let arg = Arg::from(OsString::from_vec(bytes.clone()));
            let json = serde_json::to_string(&arg).expect("JSON");
            let read: Arg = serde_json::from_str(&json).expect("a word");
            assert_eq!(read.into_bytes(), bytes, "{json}");
        }
    }

    #[test]
    fn a_path_is_one() {
        for (bytes, is_one) in [(&b"/a"[..], true), (b"", false), (b"a\0b", false), (b"\xff", true)]
        {
            let path = || Arg::from(bytes.to_vec());
            assert_eq!(PackParams { path: path(), follow: false }.check().is_ok(), is_one);
            let named = |path, name| UnpackParams { path, name: Some(name), archive: false };
            assert_eq!(named(path(), Arg::Text("n".into())).check().is_ok(), is_one);
            assert_eq!(named(Arg::Text("/".into()), path()).check().is_ok(), is_one);
        }
    }

    #[test]
    fn a_port_is_not_0() {
        assert!(DialParams { port: 0 }.check().is_err());
        assert!(DialParams { port: 1 }.check().is_ok());
    }
}
