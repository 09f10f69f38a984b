//! Limits of processes as texts: `nofile=1024:2048`.

use matchlock_proto::{Limits, Resource, Ulimit};

use super::InvalidConfig;

/// In the words of Docker's `--ulimit`.
const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// More descriptors than this no process can have (`fs.nr_open`).
const MAX_FILES: u64 = 1 << 20;

/// Each command has a process of ours beside its own.
const MIN_PIDS: u32 = 2;

/// The kernel has no more process ids (`PID_MAX_LIMIT`).
const MAX_PIDS: u32 = 4 << 20;

/// Reads `name=soft[:hard]`, where -1 is no limit and a missing second number is the same as the first.
///
/// # Errors
/// [`InvalidConfig::Ulimit`].
pub fn ulimit(text: &str) -> Result<Ulimit, InvalidConfig> {
    let bad = |why| InvalidConfig::Ulimit { text: text.to_owned(), why };
    let (name, values) = text.split_once('=').ok_or(bad("NAME=SOFT[:HARD] is needed"))?;
    let known = NAMES.iter().find(|(known, _)| *known == name);
    let (_, resource) = *known.ok_or(bad("there is no limit of that name"))?;
    let number = |text: &str| match text {
        "-1" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| bad("a limit is a number, or -1 for none")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let ulimit = Ulimit { resource, soft: number(soft)?, hard: number(hard)? };
    check(&ulimit).map_err(bad)?;
    Ok(ulimit)
}

/// The text of one.
#[must_use]
pub fn ulimit_text(ulimit: &Ulimit) -> String {
    let Ulimit { resource, soft, hard } = ulimit;
    let name = NAMES.iter().find(|(_, known)| known == resource).map_or("", |(name, _)| name);
    let number = |limit: &Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
    format!("{name}={}:{}", number(soft), number(hard))
}

fn check(ulimit: &Ulimit) -> Result<(), &'static str> {
    let above = match (ulimit.soft, ulimit.hard) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(soft), Some(hard)) => soft > hard,
    };
    if above {
        return Err("the first limit must not be above the second");
    }
    if ulimit.resource == Resource::Nofile && ulimit.hard.is_none_or(|hard| hard > MAX_FILES) {
        return Err("no process can have more than 1048576 files open");
    }
    Ok(())
}

/// Refuses limits that no guest can have.
///
/// # Errors
/// [`InvalidConfig::Ulimit`], [`InvalidConfig::Pids`] or [`InvalidConfig::ShmSize`].
pub fn check_limits(limits: &Limits) -> Result<(), InvalidConfig> {
    for ulimit in &limits.ulimits {
        let bad = |why| InvalidConfig::Ulimit { text: ulimit_text(ulimit), why };
        check(ulimit).map_err(bad)?;
    }
    match limits.pids {
        Some(pids) if !(MIN_PIDS..=MAX_PIDS).contains(&pids) => {
            Err(InvalidConfig::Pids { min: MIN_PIDS, max: MAX_PIDS })
        }
        _ if limits.shm_size == Some(0) => Err(InvalidConfig::ShmSize),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_reads_them_and_written_again() {
        let cases = [
            ("nofile=1024:2048", Resource::Nofile, Some(1024), Some(2048)),
            ("nofile=1024", Resource::Nofile, Some(1024), Some(1024)),
            ("core=0", Resource::Core, Some(0), Some(0)),
            ("core=-1", Resource::Core, None, None),
            ("memlock=64:-1", Resource::Memlock, Some(64), None),
        ];
        for (text, resource, soft, hard) in cases {
            let read = ulimit(text).expect(text);
            assert_eq!(read, Ulimit { resource, soft, hard }, "{text}");
            assert_eq!(ulimit(&ulimit_text(&read)), Ok(read));
        }
    }

    #[test]
    fn what_no_process_can_have_is_refused_with_the_reason() {
        let cases = [
            ("nofile", "NAME=SOFT"),
            ("", "NAME=SOFT"),
            ("as=1", "no limit of that name"),
            ("NOFILE=1", "no limit of that name"),
            ("nofile=x", "a number"),
            ("nofile=1:2:3", "a number"),
            ("nofile=-2", "a number"),
            ("nofile=2:1", "must not be above"),
            ("core=-1:5", "must not be above"),
            ("nofile=1:-1", "1048576"),
            ("nofile=1048577", "1048576"),
        ];
        for (text, why) in cases {
            let error = ulimit(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let limits = |pids, shm_size| Limits { pids, shm_size, ..Limits::default() };
        assert_eq!(check_limits(&limits(Some(2), Some(1))), Ok(()));
        for bad in [limits(Some(1), None), limits(Some(u32::MAX), None), limits(None, Some(0))] {
            assert!(check_limits(&bad).is_err(), "{bad:?}");
        }
    }
}
