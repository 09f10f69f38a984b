//! Why a value is not one that a sandbox can have.

use std::fmt;

use super::{DiskSize, Hostname, MemorySize, Mtu, SandboxName};
use crate::classified::{Classified, ErrorKind, Hint};

/// A value that no sandbox can have.
///
/// Its text names the field. A front that knows the value by another name, a flag say, writes the text
/// with [`InvalidConfig::named`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// Zero, negative or not a number.
    Cpus,
    /// More virtual CPUs than the host has.
    TooManyCpus {
        /// CPUs of the host.
        host: usize,
    },
    /// Less than a guest can start in.
    TooLittleMemory {
        /// Value asked for in MiB.
        wanted: u64,
    },
    /// More than the host has.
    TooMuchMemory {
        /// Value asked for in MiB.
        wanted: u64,
        /// Memory of the host in MiB.
        host: u64,
    },
    /// Outside of what the writable layer can be.
    DiskSize {
        /// Value asked for in MiB.
        wanted: u64,
    },
    /// Outside of what a volume can be.
    VolumeSize {
        /// Value asked for in MiB.
        wanted: u64,
    },
    /// More disks of one kind, for reading or for writing, than a machine can have.
    TooManyDisks {
        /// How many of a kind fit.
        max: usize,
    },
    /// No directory that something can be mounted on.
    MountPoint(String),
    /// Its root directory cannot be given to somebody.
    ReadOnlyOwner,
    /// No packet is that small.
    NoMtu,
    /// Outside of what the network device can be.
    Mtu {
        /// Value asked for in bytes.
        wanted: i64,
    },
    /// No name of a capability.
    Capability(String),
    /// It would undo what the hardened level is.
    NotHardened(&'static str),
    /// No limit that a process can have.
    Ulimit {
        /// The limit.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No number of processes that a guest can have.
    Pids {
        /// The lowest.
        min: u32,
        /// The highest.
        max: u32,
    },
    /// A file system without room.
    ShmSize,
    /// Not a host name of RFC 1123.
    Hostname(String),
    /// Not a name that a sandbox can have.
    Name(String),
    /// No authority can be read from it.
    Certificate(String),
    /// A rule has the bytes to a host of a secret passed on unread, so that it would never be put in.
    UselessSecret {
        /// Its name.
        secret: String,
        /// Its host.
        host: String,
        /// The rule.
        rule: String,
    },
    /// What was attached is not what the description says of this field.
    Unattached(&'static str),
}

impl InvalidConfig {
    /// The field of [`crate::SandboxSpec`], or of the call, that has the value.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Cpus | Self::TooManyCpus { .. } => "cpus",
            Self::TooLittleMemory { .. } | Self::TooMuchMemory { .. } => "memory",
            Self::DiskSize { .. } => "disk",
            Self::VolumeSize { .. } => "size",
            Self::TooManyDisks { .. } => "disks",
            Self::MountPoint(_) => "disks.target",
            Self::ReadOnlyOwner => "disks.owner",
            Self::NoMtu | Self::Mtu { .. } => "mtu",
            Self::Hostname(_) => "hostname",
            Self::Name(_) => "name",
            Self::Capability(_) => "confinement.capabilities",
            Self::NotHardened(_) => "confinement.level",
            Self::Ulimit { .. } => "limits.ulimits",
            Self::Pids { .. } => "limits.pids",
            Self::ShmSize => "limits.shm_size",
            Self::Certificate(_) => "network.upstream_ca",
            Self::UselessSecret { .. } => "network.secrets",
            Self::Unattached(field) => field,
        }
    }

    /// The error's text with `name` in the place of the field's.
    #[must_use]
    pub fn named<'a>(&'a self, name: &'a str) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| self.write(name, f))
    }

    fn write(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus => write!(f, "{name} must be a finite number > 0"),
            Self::TooManyCpus { host } => write!(f, "{name} must be <= host cpus ({host})"),
            Self::TooLittleMemory { wanted } => {
                write!(f, "{name} must be at least {} MB, not {wanted}", MemorySize::MIN_MIB)
            }
            Self::TooMuchMemory { wanted, host } => {
                write!(f, "{name} must be <= host memory ({host} MB), not {wanted}")
            }
            Self::DiskSize { wanted } => size(f, name, DiskSize::MIN_MIB, *wanted),
            Self::VolumeSize { wanted } => size(f, name, DiskSize::MIN_VOLUME_MIB, *wanted),
            Self::TooManyDisks { max } => write!(
                f,
                "at most {max} disks can be attached for writing, and as many for reading"
            ),
            Self::MountPoint(path) => write!(
                f,
                "invalid mount point {path:?} in the guest: an absolute path without .. is needed, \
                 that is not / and not in /proc, /sys or /dev"
            ),
            Self::ReadOnlyOwner => f.write_str(
                "a disk that is attached read-only keeps its owners: uid= and gid= need a writable \
                 one",
            ),
            Self::NoMtu => write!(f, "{name} must be > 0"),
            Self::Mtu { wanted } => {
                write!(f, "{name} must be from {} to {}, not {wanted}", Mtu::MIN, Mtu::MAX)
            }
            Self::Capability(text) => write!(f, "{name}: there is no capability {text:?}"),
            Self::NotHardened(what) => write!(f, "{name} does not go with {what}"),
            Self::Ulimit { text, why } => write!(f, "{name} {text:?}: {why}"),
            Self::Pids { min, max } => write!(f, "{name} must be from {min} to {max}"),
            Self::ShmSize => write!(f, "{name} must be > 0"),
            Self::Certificate(why) => write!(f, "{name}: {why}"),
            Self::UselessSecret { secret, host, rule } => write!(
                f,
                "secret \"{secret}\" is for {host}, but the rule {rule} passes the bytes on unread, \
                 and a secret is put into HTTP only"
            ),
            Self::Unattached(_) => write!(f, "{name}: what is attached is something else"),
            Self::Name(text) => write!(
                f,
                "invalid {name} {text:?}: letters, digits, '_', '.' and '-', the first a letter or \
                 digit, at most {} bytes, and not the form of an id",
                SandboxName::MAX
            ),
            Self::Hostname(text) => write!(
                f,
                "invalid hostname {text:?}: letters, digits and inner hyphens, at most 63 bytes for \
                 each part between dots and {} in all",
                Hostname::MAX
            ),
        }
    }
}

fn size(f: &mut fmt::Formatter<'_>, name: &str, min: u64, wanted: u64) -> fmt::Result {
    write!(f, "{name} must be from {min} to {} MB, not {wanted}", DiskSize::MAX_MIB)
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(self.field(), f)
    }
}

impl std::error::Error for InvalidConfig {}

impl Classified for InvalidConfig {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }

    fn hint(&self) -> Option<Hint> {
        Some(Hint::Text(match self {
            Self::Cpus => "a fraction is fine: 0.5 is half of one CPU's time",
            Self::NoMtu | Self::Mtu { .. } => {
                "1500 is the default; below 1280 the sandbox has no IPv6"
            }
            Self::TooLittleMemory { .. } => "the unit is MB; the default is 512",
            Self::UselessSecret { .. } => {
                "allow the host without /tcp and /tls, or leave the secret out"
            }
            Self::Pids { .. } => "each command has a process of the sandbox's beside its own",
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_field_or_what_a_front_calls_it() {
        let error = InvalidConfig::DiskSize { wanted: 1 };
        assert_eq!(error.to_string(), "disk must be from 64 to 1048576 MB, not 1");
        let flag = error.named("--disk-size").to_string();
        assert_eq!(flag, "--disk-size must be from 64 to 1048576 MB, not 1");
        assert_eq!(InvalidConfig::Cpus.to_string(), "cpus must be a finite number > 0");
    }

    #[test]
    fn a_secret_that_would_never_be_put_in_is_told_with_its_host_and_the_rule() {
        let error = InvalidConfig::UselessSecret {
            secret: "API_KEY".into(),
            host: "api.openai.com".into(),
            rule: "allow-host api.openai.com:443/tls".into(),
        };
        assert_eq!(
            error.to_string(),
            "secret \"API_KEY\" is for api.openai.com, but the rule allow-host api.openai.com:443/tls \
             passes the bytes on unread, and a secret is put into HTTP only"
        );
        let hint = Hint::Text("allow the host without /tcp and /tls, or leave the secret out");
        assert_eq!(error.hint(), Some(hint));
    }
}
