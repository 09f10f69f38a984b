//! The system calls that have no safe wrapper in rustix: the only unsafe code of the agent.
//!
//! Everything else (mounts, epoll, sockets, credentials) goes through rustix, which is safe to call
//! because the agent has exactly one thread.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::seccomp::Instruction;

/// Namespaces and behaviour of a new process; the flags of clone(2).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clone {
    /// A PID and a mount namespace of its own.
    Namespaces,
    /// As fork(2).
    Plain,
    /// The caller sleeps until the child has executed a program or ended.
    UntilExec,
}

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number in the caller's PID namespace.
    pub(crate) pid: i32,
    /// A handle on it, closed on exec.
    pub(crate) pidfd: OwnedFd,
}

/// Starts a process that runs `child` and exits with its result, in the control group `cgroup` when one is given (clone3(2)).
///
/// The memory is copied as by fork(2). The agent is single-threaded, so the copy may allocate.
pub(crate) fn clone_process(
    mode: Clone,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let namespaces = match mode {
        Clone::Namespaces => libc::CLONE_NEWPID | libc::CLONE_NEWNS,
        Clone::Plain => 0,
        Clone::UntilExec => libc::CLONE_VFORK,
    };
    let mut pidfd: RawFd = -1;
    // CLONE_INTO_CGROUP is bit 33: beyond the `int` that libc has for these flags.
    let into_cgroup = if cgroup.is_some() { 1u64 << 33 } else { 0 };
    let mut args = CloneArgs {
        flags: (namespaces | libc::CLONE_PIDFD) as u64 | into_cgroup,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    let size = size_of::<CloneArgs>();
    // SAFETY: `args` is the structure that clone3 reads, of the size passed, and `pidfd` outlives
    // the call. Without CLONE_VM the child has its own copy of the memory, and of the only thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    match pid {
        0 => exit(child()),
        pid if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as i32, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct clone_args` of linux/sched.h, version 2.
#[derive(Default)]
#[repr(C, align(8))]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Ends the process without running destructors.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Replaces the program (execve(2)); returns only the error.
pub(crate) fn exec(path: &CStr, argv: &[&CStr], envp: &[&CStr]) -> io::Error {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: all strings end with a zero byte, both arrays with a null pointer, and they are
    // borrowed for the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[&CStr]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Makes `target` a copy of `fd`, closed on exec when asked (dup3(2)).
///
/// Only for a process that was just cloned and owns its descriptors by number.
pub(crate) fn dup_to(fd: BorrowedFd<'_>, target: RawFd, cloexec: bool) -> io::Result<()> {
    let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: integers only; the caller has no owner of `target` that it uses again.
    check(unsafe { libc::dup3(fd.as_raw_fd(), target, flags) }.into()).map(drop)
}

/// Where the report channel is in the processes of an execution.
pub(crate) const REPORT_FD: RawFd = 3;

/// The report channel, in a process of an execution.
pub(crate) fn report_channel() -> BorrowedFd<'static> {
    // SAFETY: these processes put the channel there first of all and never close it.
    unsafe { BorrowedFd::borrow_raw(REPORT_FD) }
}

/// Closes the descriptors `first..=last` (close_range(2)).
///
/// Only for a process that was just cloned and never drops the owners that it inherited.
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: integers only; owners of these descriptors are never used again in this process.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Occupies the descriptors up to [`REPORT_FD`], so that no later one has a number that an
/// execution gives a meaning.
pub(crate) fn occupy_low_descriptors() -> io::Result<()> {
    loop {
        // SAFETY: integers only; a copy of descriptor 2 is nobody's but ours.
        let fd = check(unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 0) }.into())?;
        if fd as RawFd > REPORT_FD {
            // SAFETY: just made, and owned by nobody else.
            drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
            return Ok(());
        }
    }
}

/// Enters a new control group namespace, rooted at the caller's group (cgroup_namespaces(7)).
pub(crate) fn unshare_cgroup_namespace() -> io::Result<()> {
    // SAFETY: this flag changes what the process sees and nothing of its memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

/// Lets the kernel reap every child, orphans that become ours included (wait(2), `SIG_IGN`).
///
/// How a child ends is told by its pidfd and its report channel.
pub(crate) fn ignore_children() {
    // SAFETY: no handler of ours runs for an ignored signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Undoes what the agent and the Rust runtime changed of the signal state.
pub(crate) fn reset_signals() {
    for signal in [libc::SIGCHLD, libc::SIGPIPE] {
        // SAFETY: the default disposition runs no handler of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Signals the process group that the process of `pidfd` leads (pidfd_send_signal(2), Linux 6.9).
pub(crate) fn signal_group_of(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;
    let info = ptr::null::<libc::siginfo_t>();
    let (fd, flags) = (pidfd.as_raw_fd(), PIDFD_SIGNAL_PROCESS_GROUP);
    // SAFETY: a null `info` is allowed and means that of kill(2).
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, flags) }).map(drop)
}

/// kill(2) with any signal number: a process, or with a negative number a process group.
///
/// Refuses 0, -1 and 1, which mean the caller's group, everybody and the agent.
pub(crate) fn kill(target: i32, signal: i32) -> io::Result<()> {
    if (-1..=1).contains(&target) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: integers only.
    check(unsafe { libc::kill(target, signal) }.into()).map(drop)
}

/// Installs a seccomp filter for the calling thread (seccomp(2)); needs `no_new_privs` or `CAP_SYS_ADMIN`.
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Instruction,
    }
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { len, filter: program.as_ptr() };
    // SAFETY: `program` describes a slice of `sock_filter` that lives during the call.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })
    .map(drop)
}

/// A listening, non-blocking vsock stream socket on `port` of any local address (vsock(7)).
pub(crate) fn vsock_listen(port: u32) -> io::Result<OwnedFd> {
    let socket = vsock_socket()?;
    let mut address = vsock_address();
    address.svm_cid = libc::VMADDR_CID_ANY;
    address.svm_port = port;
    let (raw, length) = (socket.as_raw_fd(), size_of::<libc::sockaddr_vm>() as libc::socklen_t);
    // SAFETY: `address` is a sockaddr_vm of the length passed.
    check(unsafe { libc::bind(raw, (&raw const address).cast(), length) }.into())?;
    // SAFETY: integers only.
    check(unsafe { libc::listen(raw, libc::SOMAXCONN) }.into())?;
    Ok(socket)
}

/// Asks the host for a connection to `port`, which it never grants, and does not wait for its no:
/// that somebody asks tells it that somebody is there.
pub(crate) fn vsock_ring(port: u32) -> io::Result<()> {
    let socket = vsock_socket()?;
    let mut address = vsock_address();
    address.svm_cid = libc::VMADDR_CID_HOST;
    address.svm_port = port;
    let (raw, length) = (socket.as_raw_fd(), size_of::<libc::sockaddr_vm>() as libc::socklen_t);
    // SAFETY: `address` is a sockaddr_vm of the length passed.
    match check(unsafe { libc::connect(raw, (&raw const address).cast(), length) }.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Accepts a non-blocking connection; the second value is the peer's context id.
pub(crate) fn vsock_accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, u32)> {
    let mut peer = vsock_address();
    let mut length = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (raw, address) = (listener.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: `peer` has room for `length` bytes, and both live during the call.
    let fd = check(unsafe { libc::accept4(raw, address, &raw mut length, flags) }.into())?;
    // SAFETY: a new descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let is_vsock = i32::from(peer.svm_family) == libc::AF_VSOCK;
    Ok((socket, if is_vsock { peer.svm_cid } else { libc::VMADDR_CID_ANY }))
}

fn vsock_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: integers only.
    let fd = check(unsafe { libc::socket(libc::AF_VSOCK, kind, 0) }.into())?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn vsock_address() -> libc::sockaddr_vm {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address
}

/// Adds random bytes to the kernel's pool and counts all their bits (`RNDADDENTROPY`, random(4)).
pub(crate) fn add_entropy(random: impl AsFd, bytes: &[u8; 32]) -> io::Result<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: libc::c_int,
        size: libc::c_int,
        bytes: [u8; 32],
    }
    let info = PoolInfo { entropy_bits: 256, size: 32, bytes: *bytes };
    let fd = random.as_fd().as_raw_fd();
    // SAFETY: `info` is a rand_pool_info followed by the `size` bytes that it announces.
    check(unsafe { libc::ioctl(fd, RNDADDENTROPY as _, &raw const info) }.into()).map(drop)
}

/// Grows the mounted ext4 file system of `directory` to so many blocks (`EXT4_IOC_RESIZE_FS`).
pub(crate) fn resize_ext4(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;
    let fd = directory.as_fd().as_raw_fd();
    // SAFETY: the request reads one u64.
    check(unsafe { libc::ioctl(fd, EXT4_IOC_RESIZE_FS as _, &raw const blocks) }.into()).map(drop)
}

/// Makes a part of a block device its partition `number`, as bytes (`BLKPG_ADD_PARTITION`,
/// linux/blkpg.h). Nothing is written to the device.
pub(crate) fn add_partition(
    device: impl AsFd,
    number: u8,
    start: u64,
    length: u64,
) -> io::Result<()> {
    const BLKPG: libc::c_ulong = 0x1269;
    const BLKPG_ADD_PARTITION: libc::c_int = 1;
    #[repr(C)]
    struct Partition {
        start: libc::c_longlong,
        length: libc::c_longlong,
        number: libc::c_int,
        names: [u8; 128],
    }
    #[repr(C)]
    struct Argument {
        operation: libc::c_int,
        flags: libc::c_int,
        length: libc::c_int,
        data: *const Partition,
    }
    let bytes = |count: u64| i64::try_from(count).map_err(|_| io::ErrorKind::InvalidInput);
    let (start, length) = (bytes(start)?, bytes(length)?);
    let data = Partition { start, length, number: number.into(), names: [0; 128] };
    let size = size_of::<Partition>() as libc::c_int;
    let argument =
        Argument { operation: BLKPG_ADD_PARTITION, flags: 0, length: size, data: &raw const data };
    let fd = device.as_fd().as_raw_fd();
    // SAFETY: `argument` is a blkpg_ioctl_arg that points to a blkpg_partition; both live during the call.
    check(unsafe { libc::ioctl(fd, BLKPG as _, &raw const argument) }.into()).map(drop)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
