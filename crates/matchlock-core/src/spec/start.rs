//! What a kept sandbox needs to be started again, beside what it is.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use matchlock_proto::{ExecRequest, Stdin};
use serde::{Deserialize, Serialize};

use super::text;
use crate::artefacts::KernelSource;
use crate::forward::PortForward;

/// What its front did with it, and does again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSpec {
    /// The program that the sandbox is for; `None`: it waits for others.
    pub command: Option<CommandSpec>,
    /// Ports that are published: those of the host with those of the guest.
    pub ports: Vec<(NonZeroU16, NonZeroU16)>,
    /// Addresses of the host that they are published on.
    pub addresses: Vec<IpAddr>,
    /// A kernel in the place of the usual one.
    pub kernel: Option<PathBuf>,
}

/// A program without its streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The program and its arguments.
    #[serde(with = "text::words")]
    pub argv: Vec<Vec<u8>>,
    /// Variables beside those of the sandbox.
    #[serde(with = "text::env")]
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where it starts, if it is not the image's directory: no word, or one.
    #[serde(with = "text::words")]
    pub working_dir: Vec<Vec<u8>>,
    /// Whose it is, if it is not the image's user.
    pub user: Option<String>,
}

impl StartSpec {
    /// Of a start with this command, these ports, and this kernel.
    #[must_use]
    pub fn new(
        command: Option<&ExecRequest>,
        (ports, addresses): &(Vec<PortForward>, Vec<IpAddr>),
        kernel: &KernelSource,
    ) -> Self {
        Self {
            command: command.map(CommandSpec::from),
            ports: ports.iter().map(|port| (port.local, port.remote)).collect(),
            addresses: addresses.clone(),
            kernel: match kernel {
                KernelSource::Embedded => None,
                KernelSource::File(path) => Some(path.clone()),
            },
        }
    }

    /// The ports that are to be published, and where.
    #[must_use]
    pub fn forwards(&self) -> (Vec<PortForward>, Vec<IpAddr>) {
        let ports = self.ports.iter();
        let forwards = ports.map(|(local, remote)| PortForward { local: *local, remote: *remote });
        (forwards.collect(), self.addresses.clone())
    }

    /// The kernel that is to be booted.
    #[must_use]
    pub fn kernel(&self) -> KernelSource {
        self.kernel.clone().map_or(KernelSource::Embedded, KernelSource::File)
    }
}

impl From<&ExecRequest> for CommandSpec {
    fn from(request: &ExecRequest) -> Self {
        Self {
            argv: request.argv.clone(),
            env: request.env.clone(),
            working_dir: request.working_dir.iter().cloned().collect(),
            user: request.user.clone(),
        }
    }
}

impl From<&CommandSpec> for ExecRequest {
    /// Without input and without a terminal.
    fn from(command: &CommandSpec) -> Self {
        Self {
            argv: command.argv.clone(),
            env: command.env.clone(),
            working_dir: command.working_dir.first().cloned(),
            user: command.user.clone(),
            stdin: Stdin::Null,
            tty: None,
        }
    }
}
