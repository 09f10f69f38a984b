//! What programs of a sandbox may do with its kernel.

use matchlock_proto::{Confinement, Level};
use serde::{Deserialize, Serialize};

use crate::values::{Capabilities, InvalidConfig};

/// What programs may do with the guest's kernel: a level, and changes to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfinementSpec {
    /// Where to begin.
    pub level: Level,
    /// Capabilities beside those of the level.
    pub cap_add: Capabilities,
    /// Capabilities of the level that are not wanted.
    pub cap_drop: Capabilities,
    /// Whether programs gain nothing by being executed; `None`: as the level says.
    pub no_new_privileges: Option<bool>,
    /// There is no filter of system calls.
    pub seccomp_unconfined: bool,
}

impl ConfinementSpec {
    /// The whole kernel.
    #[must_use]
    pub fn privileged() -> Self {
        Self { level: Level::Privileged, ..Self::default() }
    }

    /// Whether it is the whole kernel.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.level == Level::Privileged
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// [`InvalidConfig::NotHardened`].
    pub fn check(&self) -> Result<(), InvalidConfig> {
        if self.level != Level::Hardened {
            return Ok(());
        }
        if self.no_new_privileges == Some(false) {
            return Err(InvalidConfig::NotHardened("programs that gain privileges"));
        }
        if self.seccomp_unconfined {
            return Err(InvalidConfig::NotHardened("no filter of system calls"));
        }
        Ok(())
    }

    /// What comes of it.
    #[must_use]
    pub fn resolve(&self) -> Confinement {
        let privileged = self.is_privileged();
        Confinement {
            level: self.level,
            capabilities: self.capabilities().bits(),
            no_new_privs: self.no_new_privileges.unwrap_or(!privileged),
            seccomp: !privileged && !self.seccomp_unconfined,
        }
    }

    /// What is added stays, whatever is dropped.
    fn capabilities(&self) -> Capabilities {
        let of_level = match self.level {
            Level::Privileged => Capabilities::ALL,
            Level::Default => Capabilities::DEFAULT,
            Level::Hardened => Capabilities::PLAIN,
        };
        match (self.cap_add, self.cap_drop) {
            (added, Capabilities::ALL) => added,
            (Capabilities::ALL, dropped) => Capabilities::ALL.without(dropped),
            (added, dropped) => of_level.without(dropped).union(added),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Capabilities {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        names.try_into().expect("capabilities")
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let of = |level, add: &[&str], drop: &[&str]| {
            let (cap_add, cap_drop) = (set(add), set(drop));
            let spec = ConfinementSpec { level, cap_add, cap_drop, ..ConfinementSpec::default() };
            spec.resolve().capabilities
        };
        let default = Capabilities::DEFAULT;
        let cases: [(&[&str], &[&str], Capabilities); 8] = [
            (&[], &[], default),
            (&["NET_ADMIN"], &[], default.union(set(&["NET_ADMIN"]))),
            (&[], &["CHOWN"], default.without(set(&["CHOWN"]))),
            (&[], &["ALL"], Capabilities::NONE),
            (&["KILL", "SYS_TIME"], &["ALL"], set(&["KILL", "SYS_TIME"])),
            (&["ALL"], &["SYS_ADMIN"], Capabilities::ALL.without(set(&["SYS_ADMIN"]))),
            (&["ALL"], &["ALL"], Capabilities::ALL),
            (&["CHOWN"], &["CHOWN"], default),
        ];
        for (add, drop, expected) in cases {
            assert_eq!(of(Level::Default, add, drop), expected.bits(), "+{add:?} -{drop:?}");
        }
        assert_eq!(of(Level::Privileged, &[], &[]), u64::MAX);
        assert_eq!(of(Level::Privileged, &[], &["KILL"]), u64::MAX - (1 << 5));
        assert_eq!(of(Level::Hardened, &["NET_RAW"], &["CHOWN"]) & 0x2001, 0x2000);
    }

    #[test]
    fn a_level_has_its_defaults_and_its_word_against_them() {
        let resolved = |spec: &ConfinementSpec| {
            let Confinement { no_new_privs, seccomp, .. } = spec.resolve();
            (no_new_privs, seccomp)
        };
        let default = ConfinementSpec::default();
        assert_eq!(resolved(&default), (true, true));
        assert_eq!(resolved(&ConfinementSpec::privileged()), (false, false));
        let sudo = ConfinementSpec { no_new_privileges: Some(false), ..default.clone() };
        assert_eq!((sudo.check(), resolved(&sudo)), (Ok(()), (false, true)));
        let open = ConfinementSpec { seccomp_unconfined: true, ..default };
        assert_eq!((open.check(), resolved(&open)), (Ok(()), (true, false)));
        for spec in [sudo, open] {
            let hardened = ConfinementSpec { level: Level::Hardened, ..spec };
            assert!(matches!(hardened.check(), Err(InvalidConfig::NotHardened(_))), "{hardened:?}");
        }
    }
}
