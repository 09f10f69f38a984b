//! What the guest uses and what runs in it, out of /proc.
//!
//! A process of its own reads it, in place of the program of an execution: reading the command of another
//! process can wait for that, and the agent never waits. Its standard input is a /proc that shows
//! all processes, and not only those of its namespace.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use matchlock_proto::{Inquiry, MAX_ANSWER, MAX_COMMAND, MAX_USER, ProcessEntry, Usage, list};
use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::console;

/// The most that is read of a file.
const MAX_FILE: u64 = 1 << 20;

/// Bytes of a sector in /proc/diskstats, whatever the disk has.
const SECTOR: u64 = 512;

/// Of a process that is the kernel's own (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Bytes of a page on the machines that there are.
const PAGE: u64 = 4096;

/// Ticks of /proc are hundredths of a second (`USER_HZ`).
const TICK_MS: u64 = 10;

/// A /proc of all processes, attached nowhere, to become standard input of the process that answers. The
/// agent itself has none.
///
/// # Errors
/// When it can be neither mounted nor, as where the agent is tested, opened.
pub(crate) fn directory() -> io::Result<OwnedFd> {
    let mounted = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    });
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(mounted.or_else(|_| rustix::fs::open("/proc", flags, Mode::empty()))?)
}

/// Runs as the process of an inquiry; `tasks` are those of all executions. Returns the status to exit with.
pub(crate) fn answer(inquiry: Inquiry, tasks: u64) -> i32 {
    let (proc, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let answered = proc.try_clone_to_owned().and_then(|proc| {
        let output = File::from(output.try_clone_to_owned()?);
        perform(&proc, inquiry, tasks, output)
    });
    match answered {
        Ok(()) => 0,
        Err(error) => {
            console::line(format_args!("inquiry: {error}"));
            1
        }
    }
}

/// Answers out of `proc`.
///
/// # Errors
/// When something cannot be read that every kernel has, or the output takes no more.
pub fn perform(
    proc: &OwnedFd,
    inquiry: Inquiry,
    tasks: u64,
    mut output: impl Write,
) -> io::Result<()> {
    // A descriptor of its own: reading a directory moves the position that copies share.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = openat(proc, c".", flags, Mode::empty())?;
    let mut bytes = Vec::new();
    match inquiry {
        Inquiry::Usage => {
            list::put(&Usage { processes: tasks, ..usage(&proc)? }, &mut bytes);
            output.write_all(&bytes)
        }
        Inquiry::Processes => {
            let names =
                read(&File::open("/").map(OwnedFd::from)?, c"etc/passwd").unwrap_or_default();
            let own = read(&proc, c"1/cmdline").unwrap_or_default();
            for pid in pids(&proc)? {
                let Some(process) = process(&proc, pid, &own, &names) else { continue };
                list::put(&process, &mut bytes);
                if bytes.len() + list::MAX > MAX_ANSWER {
                    break;
                }
            }
            output.write_all(&bytes)
        }
    }
}

fn usage(proc: &OwnedFd) -> io::Result<Usage> {
    let text =
        |name: &CStr| Ok::<_, io::Error>(String::from_utf8_lossy(&read(proc, name)?).into_owned());
    let cpu_ms = busy(&text(c"stat")?).saturating_mul(TICK_MS);
    let (memory_total, memory_available) = memory(&text(c"meminfo")?);
    // A machine may have no disk of its own.
    let (disk_read, disk_written) = disks(&text(c"diskstats").unwrap_or_default());
    let up_us = uptime(&text(c"uptime")?);
    let cpu_us = cpu_ms.saturating_mul(1000);
    Ok(Usage {
        cpu_us,
        up_us,
        memory_total,
        memory_available,
        disk_read,
        disk_written,
        processes: 0,
    })
}

/// Ticks of all CPUs together that were not idle. The time of guests is in that of users already.
fn busy(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let fields = line.unwrap_or_default().split_ascii_whitespace().take(8).enumerate();
    let busy = fields.filter(|(at, _)| !matches!(at, 3 | 4));
    busy.fold(0, |sum, (_, field)| sum.saturating_add(field.parse().unwrap_or(0)))
}

/// What there is and what is available, in bytes.
fn memory(meminfo: &str) -> (u64, u64) {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// Bytes that were read from disks and written to them, partitions not counted twice.
fn disks(diskstats: &str) -> (u64, u64) {
    diskstats.lines().fold((0, 0), |(read, written): (u64, u64), line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_disk = fields.get(2).is_some_and(|name| {
            name.strip_prefix("vd").is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_lowercase()))
        });
        let bytes = |at: usize| {
            let sectors = fields.get(at).and_then(|field| field.parse::<u64>().ok());
            sectors.filter(|_| is_disk).unwrap_or(0).saturating_mul(SECTOR)
        };
        (read.saturating_add(bytes(5)), written.saturating_add(bytes(9)))
    })
}

/// `12.34 …` as microseconds.
fn uptime(text: &str) -> u64 {
    let seconds = text.split_ascii_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    // Saturates.
    (seconds.unwrap_or(0.0) * 1e6) as u64
}

fn pids(proc: &OwnedFd) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in Dir::read_from(proc)? {
        let entry = entry?;
        pids.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

/// A process of a program; `None` for one of the kernel or the agent, and for one that has ended meanwhile.
fn process(proc: &OwnedFd, pid: u32, agent: &[u8], passwd: &[u8]) -> Option<ProcessEntry> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(proc, pid.to_string(), flags, Mode::empty()).ok()?;
    let stat = Stat::parse(&read(&directory, c"stat").ok()?)?;
    let mut command = read(&directory, c"cmdline").ok()?;
    // The agent's own are copies of it until they execute something else.
    if stat.flags & KERNEL_THREAD != 0 || pid == 1 || (!agent.is_empty() && command == agent) {
        return None;
    }
    while command.last() == Some(&0) {
        command.pop();
    }
    for byte in &mut command {
        *byte = if *byte == 0 { b' ' } else { *byte };
    }
    if command.is_empty() {
        command = [b"[", stat.name.as_slice(), b"]"].concat();
    }
    command.truncate(MAX_COMMAND);
    let uid = uid(&read(&directory, c"status").ok()?)?;
    Some(ProcessEntry {
        pid,
        parent: stat.parent,
        uid,
        user: user(passwd, uid),
        state: stat.state,
        cpu_ms: stat.ticks.saturating_mul(TICK_MS),
        memory: stat.pages.saturating_mul(PAGE),
        command,
    })
}

/// What is needed of /proc/PID/stat.
struct Stat {
    name: Vec<u8>,
    state: u8,
    parent: u32,
    flags: u64,
    ticks: u64,
    pages: u64,
}

impl Stat {
    /// The name is in parentheses, and may have some itself.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&byte| byte == b'(')?;
        let close = bytes.iter().rposition(|&byte| byte == b')')?;
        let name = bytes.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            name,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            flags: number(6)?,
            ticks: number(11)?.saturating_add(number(12)?),
            pages: number(21)?,
        })
    }
}

/// The real user of /proc/PID/status.
fn uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// The name of a user, if it has one.
fn user(passwd: &[u8], uid: u32) -> Vec<u8> {
    let uid = uid.to_string();
    let mut lines =
        passwd.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b':'));
    let of_uid = lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid.as_bytes()).then_some(name)
    });
    let name = of_uid.unwrap_or_default();
    name.get(..name.len().min(MAX_USER)).unwrap_or_default().to_vec()
}

fn read(directory: &OwnedFd, name: &CStr) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        assert_eq!(busy("cpu  10 2 30 4000 50 6 7 8 9 9\ncpu0 1 1 1 1\n"), 10 + 2 + 30 + 6 + 7 + 8);
        let text = "MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   40 kB\n";
        assert_eq!(memory(text), (102_400, 40_960));
        let text = " 254 0 vda 1 0 8 0 2 0 16 0 0\n 254 1 vda1 1 0 8 0 2 0 16 0 0\n 7 0 loop0 1 0 8 0 2 0 16 0\n";
        assert_eq!(disks(text), (8 * 512, 16 * 512));
        assert_eq!(uptime("12.50 3.00\n"), 12_500_000);
        let stat = Stat::parse(b"7 (a) b) S 3 7 7 0 -1 64 0 0 0 0 5 6 0 0 20 0 1 0 9 4096 33 1")
            .expect("one");
        assert_eq!((stat.name, stat.state, stat.parent), (b"a) b".to_vec(), b'S', 3));
        assert_eq!((stat.flags, stat.ticks, stat.pages), (64, 11, 33));
        assert_eq!(uid(b"Name:\tx\nUid:\t12\t13\t14\t15\n"), Some(12));
        let passwd = b"root:x:0:0::/:/bin/sh\nweb:x:12:12::/:\nbad\n";
        assert_eq!((user(passwd, 12), user(passwd, 13)), (b"web".to_vec(), Vec::new()));
    }

    #[test]
    fn this_machine_answers() {
        let proc = directory().expect("opened");
        let mut bytes = Vec::new();
        perform(&proc, Inquiry::Usage, 7, &mut bytes).expect("answered");
        let usage: Usage = list::take(&mut &bytes[..]).expect("a value").expect("whole");
        assert!(usage.memory_total > usage.memory_available && usage.processes == 7, "{usage:?}");
        assert!(usage.up_us > 0 && usage.cpu_us > 0, "{usage:?}");
        let mut bytes = Vec::new();
        perform(&proc, Inquiry::Processes, 0, &mut bytes).expect("answered");
        let mut rest = &bytes[..];
        let own = std::process::id();
        let mut found = None;
        while let Some(process) = list::take::<ProcessEntry>(&mut rest).expect("a value") {
            found = if process.pid == own { Some(process) } else { found };
        }
        let found = found.expect("this process");
        assert!(found.memory > 0 && !found.command.is_empty(), "{found:?}");
    }

    proptest! {
        /// A program of the guest names itself, and may stand in the place of any of these files.
        #[test]
        fn any_text_is_survived(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            busy(&text);
            memory(&text);
            disks(&text);
            uptime(&text);
            Stat::parse(&bytes);
            uid(&bytes);
            prop_assert!(user(&bytes, 0).len() <= MAX_USER);
        }
    }
}
