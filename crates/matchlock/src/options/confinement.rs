//! What programs may do with the sandbox's kernel, from the words of Docker.

use matchlock_core::{
    Capabilities, ConfinementSpec, InvalidConfig, Level, Limits, check_limits, ulimit,
};

use super::size::Bytes;
use crate::cli::ConfinementArgs;
use crate::error::{CliError, given_by};

/// Reads and checks the flags.
pub(crate) fn confinement(args: &ConfinementArgs) -> Result<ConfinementSpec, CliError> {
    let level = match (args.privileged, args.hardened) {
        (true, true) => {
            let message = "--privileged and --hardened cannot be used together";
            return Err(CliError::new(message).hinted("leave one of them out"));
        }
        (true, false) => Level::Privileged,
        (false, true) => Level::Hardened,
        (false, false) => Level::Default,
    };
    let mut spec = ConfinementSpec {
        level,
        cap_add: capabilities(&args.cap_add).map_err(given_by("--cap-add"))?,
        cap_drop: capabilities(&args.cap_drop).map_err(given_by("--cap-drop"))?,
        ..ConfinementSpec::default()
    };
    for option in &args.security_opt {
        read(option, &mut spec)?;
    }
    spec.check().map_err(given_by("--hardened"))?;
    Ok(spec)
}

/// Reads and checks the limits.
pub(crate) fn limits(args: &ConfinementArgs) -> Result<Limits, CliError> {
    let ulimits = args.ulimit.iter().map(|text| ulimit(text));
    let ulimits = ulimits.collect::<Result<_, _>>().map_err(given_by("--ulimit"))?;
    let shm_size = args.shm_size.map(|Bytes(size)| size);
    let pids = match args.pids_limit {
        None | Some(-1 | 0) => None,
        Some(other) => Some(u32::try_from(other).unwrap_or(u32::MAX)),
    };
    let limits = Limits { ulimits, shm_size, pids };
    check_limits(&limits).map_err(|error| {
        let flag = match error {
            InvalidConfig::Pids { .. } => "--pids-limit",
            InvalidConfig::ShmSize => "--shm-size",
            _ => "--ulimit",
        };
        given_by(flag)(error)
    })?;
    Ok(limits)
}

fn capabilities(names: &[String]) -> Result<Capabilities, InvalidConfig> {
    names.iter().try_fold(Capabilities::NONE, |set, name| Ok(set.union(name.parse()?)))
}

/// One `--security-opt`: `NAME`, `NAME=VALUE` or `NAME:VALUE`.
fn read(option: &str, spec: &mut ConfinementSpec) -> Result<(), CliError> {
    let (name, value) = match option.split_once(['=', ':']) {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    match (name, value) {
        ("no-new-privileges", None | Some("true")) => spec.no_new_privileges = Some(true),
        ("no-new-privileges", Some("false")) => spec.no_new_privileges = Some(false),
        ("seccomp", Some("unconfined")) => spec.seccomp_unconfined = true,
        ("seccomp", Some("builtin")) => spec.seccomp_unconfined = false,
        ("seccomp", Some(_)) => {
            let message = format!("--security-opt {option:?}: profiles in files are not supported");
            return Err(CliError::new(message).hinted("use seccomp=unconfined, or --hardened"));
        }
        _ => {
            let message = format!("--security-opt: there is no option {option:?}");
            let hint = "use no-new-privileges=true|false or seccomp=unconfined";
            return Err(CliError::new(message).hinted(hint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(option: &str) -> Result<ConfinementSpec, CliError> {
        confinement(&ConfinementArgs {
            security_opt: vec![option.to_owned()],
            ..ConfinementArgs::default()
        })
    }

    #[test]
    fn security_options_are_read_as_docker_reads_them() {
        let cases = [
            ("no-new-privileges", Some(true), false),
            ("no-new-privileges=true", Some(true), false),
            ("no-new-privileges:true", Some(true), false),
            ("no-new-privileges=false", Some(false), false),
            ("no-new-privileges:false", Some(false), false),
            ("seccomp=unconfined", None, true),
            ("seccomp:unconfined", None, true),
            ("seccomp=builtin", None, false),
        ];
        for (option, no_new_privileges, unconfined) in cases {
            let spec = with(option).expect(option);
            let read = (spec.no_new_privileges, spec.seccomp_unconfined);
            assert_eq!(read, (no_new_privileges, unconfined), "{option}");
        }
        for option in ["", "no-new-privileges=yes", "seccomp", "seccomp=/a.json", "apparmor=x"] {
            let error = with(option).expect_err("refused");
            assert!(error.message().contains("--security-opt"), "{error:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_with_its_flag() {
        let args = ConfinementArgs::default;
        let text = |text: &str| vec![text.to_owned()];
        let cases = [
            ("--cap-add", ConfinementArgs { cap_add: text("WINGS"), ..args() }),
            ("--cap-drop", ConfinementArgs { cap_drop: text(""), ..args() }),
            ("--ulimit", ConfinementArgs { ulimit: text("nofile=2:1"), ..args() }),
            ("--pids-limit", ConfinementArgs { pids_limit: Some(1), ..args() }),
            ("--pids-limit", ConfinementArgs { pids_limit: Some(-2), ..args() }),
            ("--shm-size", ConfinementArgs { shm_size: Some(Bytes(0)), ..args() }),
            ("--hardened", ConfinementArgs { hardened: true, privileged: true, ..args() }),
            (
                "--hardened",
                ConfinementArgs {
                    hardened: true,
                    security_opt: text("seccomp=unconfined"),
                    ..args()
                },
            ),
        ];
        for (flag, args) in cases {
            let read = confinement(&args).and_then(|_| limits(&args));
            let error = read.expect_err(flag);
            assert!(error.message().contains(flag), "{error:?}");
        }
    }

    #[test]
    fn no_limit_of_processes_has_docker_two_words_for() {
        for (given, expected) in
            [(None, None), (Some(-1), None), (Some(0), None), (Some(9), Some(9))]
        {
            let args = ConfinementArgs { pids_limit: given, ..ConfinementArgs::default() };
            assert_eq!(limits(&args).expect("valid").pids, expected, "{given:?}");
        }
    }
}
