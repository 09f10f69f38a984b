//! Capabilities by their names, as capabilities(7) has them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidConfig;

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The word for all of them.
const ALL: &str = "ALL";

/// A set of capabilities. Written as a list of names without `CAP_`, or as `ALL`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Capabilities(u64);

impl Capabilities {
    /// Every one that Linux has, and those that it may get.
    pub const ALL: Self = Self(u64::MAX);

    /// None.
    pub const NONE: Self = Self(0);

    /// What programs have when nothing else is said: the same as in a container of Docker's.
    pub const DEFAULT: Self = Self::of(&[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]);

    /// What plain programs need, and a package manager as root.
    pub const PLAIN: Self = Self::of(&[
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETGID",
        "SETUID",
    ]);

    /// The set of these names. Of a name that is none nothing comes: for constants only, with a test.
    const fn of(names: &[&str]) -> Self {
        let (mut bits, mut name) = (0, 0);
        while name < names.len() {
            let mut number = 0;
            while number < NAMES.len() {
                if same(names[name].as_bytes(), NAMES[number].as_bytes()) {
                    bits |= 1 << number;
                }
                number += 1;
            }
            name += 1;
        }
        Self(bits)
    }

    /// As the kernel counts them.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Those of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that `other` does not have.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names, in the order of the kernel's numbers; `ALL` alone for all of them.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        if self == Self::ALL {
            return vec![ALL];
        }
        let held =
            |(number, name): (usize, &&'static str)| (self.0 >> number & 1 == 1).then_some(*name);
        NAMES.iter().enumerate().filter_map(held).collect()
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl FromStr for Capabilities {
    type Err = InvalidConfig;

    /// One capability, with `CAP_` or without it, in letters of any size, or `ALL`.
    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let upper = text.to_ascii_uppercase();
        if upper == ALL {
            return Ok(Self::ALL);
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name);
        number
            .map(|number| Self(1 << number))
            .ok_or_else(|| InvalidConfig::Capability(text.to_owned()))
    }
}

impl TryFrom<Vec<String>> for Capabilities {
    type Error = InvalidConfig;

    fn try_from(names: Vec<String>) -> Result<Self, InvalidConfig> {
        let add = |set: Self, name: String| Ok(set.union(name.parse()?));
        names.into_iter().try_fold(Self::NONE, add)
    }
}

impl From<Capabilities> for Vec<String> {
    fn from(set: Capabilities) -> Self {
        set.names().into_iter().map(str::to_owned).collect()
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin", "Cap_Net_Admin"] {
            assert_eq!(
                text.parse::<Capabilities>().expect("a capability").bits(),
                1 << 12,
                "{text}"
            );
        }
        for text in ["all", "ALL"] {
            assert_eq!(text.parse(), Ok(Capabilities::ALL), "{text}");
        }
        for text in ["", "CAP_", "CAP_ALL", "NET_ADMIN,", "SYS", "CAP_CAP_KILL", "12"] {
            let error = text.parse::<Capabilities>().expect_err("no capability");
            assert_eq!(error, InvalidConfig::Capability(text.to_owned()));
        }
    }

    #[test]
    fn the_sets_have_all_their_names() {
        // Numbers of linux/capability.h.
        let docker = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
        let bits = docker.iter().fold(0, |bits, number| bits | 1u64 << number);
        assert_eq!(Capabilities::DEFAULT.bits(), bits);
        assert_eq!(Capabilities::PLAIN.names().len(), 8);
        assert_eq!(Capabilities::PLAIN.without(Capabilities::DEFAULT), Capabilities::NONE);
    }

    #[test]
    fn a_set_is_written_as_names_and_read_again() {
        for set in [Capabilities::NONE, Capabilities::DEFAULT, Capabilities::ALL] {
            let json = serde_json::to_string(&set).expect("JSON");
            assert_eq!(serde_json::from_str::<Capabilities>(&json).expect("a set"), set, "{json}");
        }
        assert_eq!(serde_json::to_string(&Capabilities::ALL).expect("JSON"), "[\"ALL\"]");
        assert!(serde_json::from_str::<Capabilities>("[\"WINGS\"]").is_err());
    }
}
