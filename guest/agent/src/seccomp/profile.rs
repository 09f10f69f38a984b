//! What becomes of each system call.
//!
//! The breadth is that of Docker's default profile: calls that are not named here are refused with `EPERM`, and those
//! that are newer than this list do not exist (`ENOSYS`), so that C libraries fall back. Where we differ:
//!
//! - User namespaces and what is needed in them are allowed ([`NAMESPACES`]): agents bring sandboxes of their own
//!   (bubblewrap, Chromium). The kernel asks for capabilities outside of a namespace of one's own.
//! - The second and third interface of a processor (x32, i386) are refused.

use libc::c_long;
use matchlock_proto::{Confinement, Level};
use rustix::thread::CapabilitySet as Cap;

use super::Range;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Allow,
    /// It fails with this error.
    Refuse(i32),
    /// It depends on an argument, and fails with `EPERM` otherwise.
    If(Condition),
}

/// What is asked of an argument that the kernel takes 32 bits of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// Bits of it that count.
    pub mask: u32,
    /// Values to compare it with.
    pub values: &'static [u32],
    /// Whether these values are allowed or refused; all others are the other.
    pub allowed: bool,
}

/// Calls from this number on were not there when this was written.
const UNKNOWN: u32 = 467;

/// The x32 ABI shares its architecture with x86-64 and marks its calls with this bit.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// Flags of clone(2) that make namespaces. (`CLONE_NEWTIME` is none of clone's.)
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

const NO_NAMESPACE: Condition =
    Condition { argument: 0, mask: NAMESPACE_FLAGS, values: &[0], allowed: true };

/// The host's end of the control channel is for the agent only.
const NO_VSOCK: Condition =
    Condition { argument: 0, mask: u32::MAX, values: &[libc::AF_VSOCK as u32], allowed: false };

/// Families of sockets that a plain program needs; netlink is how C libraries ask for addresses.
const PLAIN_FAMILIES: Condition = Condition {
    argument: 0,
    mask: u32::MAX,
    values: &[
        libc::AF_UNIX as u32,
        libc::AF_INET as u32,
        libc::AF_INET6 as u32,
        libc::AF_NETLINK as u32,
    ],
    allowed: true,
};

/// Linux, with 32-bit addresses, with another name for its version, and the question which it is.
const PERSONALITIES: Condition = Condition {
    argument: 0,
    mask: u32::MAX,
    values: &[0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX],
    allowed: true,
};

const PLAIN_PERSONALITY: Condition =
    Condition { argument: 0, mask: u32::MAX, values: &[0, u32::MAX], allowed: true };

/// What any program may call.
const ALWAYS: &[c_long] = &[
    // Files.
    libc::SYS_chdir,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fanotify_mark,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getxattr,
    GETXATTRAT,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_ioctl,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    LISTMOUNT,
    libc::SYS_listxattr,
    LISTXATTRAT,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_removexattr,
    REMOVEXATTRAT,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_setxattr,
    SETXATTRAT,
    libc::SYS_splice,
    libc::SYS_statfs,
    STATMOUNT,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_tee,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting, events, asynchronous input and output.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_io_getevents,
    IO_PGETEVENTS,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_signalfd4,
    // Memory.
    libc::SYS_brk,
    CACHESTAT,
    libc::SYS_madvise,
    MAP_SHADOW_STACK,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    MSEAL,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_process_mrelease,
    libc::SYS_remap_file_pages,
    // Processes, threads, their users and limits.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    FUTEX_REQUEUE,
    FUTEX_WAIT,
    libc::SYS_futex_waitv,
    FUTEX_WAKE,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    // Of one's own children, or what else the kernel would let one trace.
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_setuid,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Time and chance.
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // Sockets, and what else processes talk through. socket(2) has a condition.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
];

/// Older forms of the same, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_ctl_old,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_wait_old,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_get_thread_area,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_set_thread_area,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    URETPROBE,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[c_long] = &[];

/// What is for who has one of these capabilities.
const WITH: &[(Cap, &[c_long])] = &[
    (Cap::DAC_READ_SEARCH, &[libc::SYS_open_by_handle_at]),
    (
        Cap::SYS_ADMIN,
        &[
            libc::SYS_bpf,
            libc::SYS_fanotify_init,
            libc::SYS_lookup_dcookie,
            libc::SYS_perf_event_open,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_syslog,
        ],
    ),
    (Cap::SYS_ADMIN, NAMESPACES),
    (Cap::SYS_BOOT, &[libc::SYS_reboot]),
    (Cap::SYS_CHROOT, &[libc::SYS_chroot]),
    (Cap::SYS_MODULE, &[libc::SYS_delete_module, libc::SYS_finit_module, libc::SYS_init_module]),
    (Cap::SYS_PACCT, &[libc::SYS_acct]),
    (
        Cap::SYS_PTRACE,
        &[
            libc::SYS_kcmp,
            libc::SYS_pidfd_getfd,
            libc::SYS_process_madvise,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_ptrace,
        ],
    ),
    #[cfg(target_arch = "x86_64")]
    (Cap::SYS_RAWIO, &[libc::SYS_ioperm, libc::SYS_iopl]),
    (Cap::SYS_TIME, &[libc::SYS_clock_settime, libc::SYS_settimeofday]),
    (Cap::SYS_TTY_CONFIG, &[libc::SYS_vhangup]),
    (
        Cap::SYS_NICE,
        &[
            libc::SYS_get_mempolicy,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_set_mempolicy_home_node,
        ],
    ),
    (Cap::SYSLOG, &[libc::SYS_syslog]),
    (Cap::BPF, &[libc::SYS_bpf]),
    (Cap::PERFMON, &[libc::SYS_perf_event_open]),
];

/// Making namespaces, and what is done in them. Unless they are allowed, clone(2) has a condition and clone3(2) does not
/// exist: a filter cannot see its flags.
const NAMESPACES: &[c_long] = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// What sandboxes in a namespace need beside [`NAMESPACES`], whatever the capabilities outside of it are.
const IN_NAMESPACES: &[c_long] = &[libc::SYS_chroot];

/// What a plain program does not need: debuggers, notification of all files, handles of files, times of the machine, and
/// memory that not even the kernel reads.
const NOT_PLAIN: &[c_long] = &[
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_fanotify_mark,
    LISTMOUNT,
    libc::SYS_memfd_secret,
    libc::SYS_name_to_handle_at,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_remap_file_pages,
    STATMOUNT,
    libc::SYS_vmsplice,
];

/// The verdicts on all numbers.
///
/// Hardened, what [`NOT_PLAIN`] names is for who has a capability for it; without user namespaces.
#[must_use]
pub fn profile(confinement: &Confinement) -> Vec<Range> {
    let capabilities = Cap::from_bits_retain(confinement.capabilities);
    let hardened = confinement.level == Level::Hardened;
    let mut verdicts = vec![Verdict::Refuse(libc::EPERM); UNKNOWN as usize];
    let mut set = |calls: &[c_long], verdict| {
        for &number in calls {
            let place = usize::try_from(number).ok().and_then(|at| verdicts.get_mut(at));
            if let Some(place) = place {
                *place = verdict;
            }
        }
    };
    set(ALWAYS, Verdict::Allow);
    set(OLDER, Verdict::Allow);
    let (families, personalities) = match hardened {
        true => (PLAIN_FAMILIES, PLAIN_PERSONALITY),
        false => (NO_VSOCK, PERSONALITIES),
    };
    set(&[libc::SYS_socket], Verdict::If(families));
    set(&[libc::SYS_personality], Verdict::If(personalities));
    if hardened {
        set(NOT_PLAIN, Verdict::Refuse(libc::EPERM));
        set(&[libc::SYS_clone], Verdict::If(NO_NAMESPACE));
        set(&[libc::SYS_clone3], Verdict::Refuse(libc::ENOSYS));
    } else {
        set(NAMESPACES, Verdict::Allow);
        set(IN_NAMESPACES, Verdict::Allow);
    }
    for (needed, calls) in WITH {
        if capabilities.contains(*needed) {
            set(calls, Verdict::Allow);
        }
    }
    ranges(&verdicts)
}

/// Neighbours with the same verdict together, and what is beyond the known numbers.
fn ranges(verdicts: &[Verdict]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let beyond = [(UNKNOWN, Verdict::Refuse(libc::ENOSYS))];
    #[cfg(target_arch = "x86_64")]
    let beyond = beyond.into_iter().chain([(X32_BIT, Verdict::Refuse(libc::EPERM))]);
    for (from, verdict) in (0..).zip(verdicts.iter().copied()).chain(beyond) {
        if ranges.last().is_none_or(|last| last.verdict != verdict) {
            ranges.push(Range { from, verdict });
        }
    }
    ranges
}

// Not in the C library's list. From 424 on the numbers are the same on every architecture.
const CACHESTAT: c_long = 451;
const FCHMODAT2: c_long = 452;
const MAP_SHADOW_STACK: c_long = 453;
const FUTEX_WAKE: c_long = 454;
const FUTEX_WAIT: c_long = 455;
const FUTEX_REQUEUE: c_long = 456;
const STATMOUNT: c_long = 457;
const LISTMOUNT: c_long = 458;
const MSEAL: c_long = 462;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;
const LISTXATTRAT: c_long = 465;
const REMOVEXATTRAT: c_long = 466;
#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: c_long = 333;
#[cfg(target_arch = "aarch64")]
const IO_PGETEVENTS: c_long = 292;
/// Of x86-64 only.
#[cfg(target_arch = "x86_64")]
const URETPROBE: c_long = 335;
