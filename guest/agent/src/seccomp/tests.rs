//! The filter is run for every number, as the kernel runs it.

use matchlock_proto::{Confinement, Level};
use rustix::thread::CapabilitySet as Cap;

use super::*;

const CHROOT: u64 = Cap::SYS_CHROOT.bits();

fn filter(level: Level, capabilities: Cap) -> Vec<Instruction> {
    let capabilities = capabilities.bits();
    let confinement = Confinement { level, capabilities, no_new_privs: true, seccomp: true };
    assemble(&profile(&confinement))
}

/// The instructions that the filter uses, as bpf(4) defines them.
fn run(filter: &[Instruction], arch: u32, number: u32, arguments: [u32; 2]) -> Result<(), i32> {
    let (mut pc, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, if_true, if_false, value } = filter[pc];
        pc += 1;
        let taken = match code {
            LOAD if value == NUMBER => {
                accumulator = number;
                continue;
            }
            LOAD if value == ARCHITECTURE => {
                accumulator = arch;
                continue;
            }
            LOAD => {
                accumulator = arguments[(value - ARGUMENTS) as usize / 8];
                continue;
            }
            AND => {
                accumulator &= value;
                continue;
            }
            JUMP => {
                pc += value as usize;
                continue;
            }
            RETURN if value == ALLOW => return Ok(()),
            RETURN => return Err((value & 0xffff) as i32),
            JUMP_EQUAL => accumulator == value,
            JUMP_AT_LEAST => accumulator >= value,
            other => panic!("instruction {other:#x}"),
        };
        pc += usize::from(if taken { if_true } else { if_false });
    }
}

fn call(filter: &[Instruction], number: libc::c_long, argument: u32) -> Result<(), i32> {
    run(filter, ARCH, u32::try_from(number).expect("a number"), [argument, 0])
}

#[test]
fn the_search_finds_what_the_list_says() {
    for level in [Level::Default, Level::Hardened] {
        for capabilities in [Cap::empty(), Cap::SYS_ADMIN, Cap::all()] {
            let confinement = Confinement {
                level,
                capabilities: capabilities.bits(),
                no_new_privs: true,
                seccomp: true,
            };
            let ranges = profile(&confinement);
            let filter = assemble(&ranges);
            assert!(filter.len() < 1000, "the kernel takes 4096: {}", filter.len());
            for number in 0..1000 {
                let range = ranges.iter().rev().find(|range| range.from <= number);
                let expected = match range.expect("the first begins at 0").verdict {
                    Verdict::Allow => Ok(()),
                    Verdict::Refuse(errno) => Err(errno),
                    Verdict::If(_) => continue,
                };
                assert_eq!(run(&filter, ARCH, number, [0, 0]), expected, "system call {number}");
            }
        }
    }
}

#[test]
fn every_call_of_a_foreign_architecture_is_refused() {
    const I386: u32 = 0x4000_0003;
    const X32_BIT: u32 = 0x4000_0000;
    let filter = filter(Level::Default, Cap::all());
    for number in 0..1000 {
        assert_eq!(run(&filter, I386, number, [0, 0]), Err(libc::EPERM));
        assert!(run(&filter, ARCH, number | X32_BIT, [0, 0]).is_err());
    }
    assert!(run(&filter, ARCH, u32::MAX, [0, 0]).is_err());
}

/// What a program in a container of Docker's may call by its default profile, with its default capabilities, as Docker's
/// documentation and the manual pages of the C library say: one call of each family at least.
const OF_DOCKER: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chroot,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fanotify_mark,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_flock,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_getcpu,
    libc::SYS_getdents64,
    libc::SYS_getrandom,
    libc::SYS_inotify_init1,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ioctl,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_linkat,
    libc::SYS_lsetxattr,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mknodat,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mprotect,
    libc::SYS_mq_open,
    libc::SYS_msgsnd,
    libc::SYS_name_to_handle_at,
    libc::SYS_newfstatat,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pkey_mprotect,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_preadv2,
    libc::SYS_prlimit64,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pselect6,
    libc::SYS_ptrace,
    libc::SYS_recvmmsg,
    libc::SYS_renameat2,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_setattr,
    libc::SYS_seccomp,
    libc::SYS_semtimedop,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_setgroups,
    libc::SYS_setitimer,
    libc::SYS_setresuid,
    libc::SYS_setsid,
    libc::SYS_shmat,
    libc::SYS_signalfd4,
    libc::SYS_socketpair,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync_file_range,
    libc::SYS_sysinfo,
    libc::SYS_timer_create,
    libc::SYS_timerfd_create,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // cachestat, fchmodat2, map_shadow_stack, the three calls of futex2, mseal.
    451,
    452,
    453,
    454,
    455,
    456,
    462,
];

/// What Docker refuses such a program.
const NOT_OF_DOCKER: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    // The C library's crate has no number for it on aarch64.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[test]
fn the_default_has_the_breadth_of_dockers() {
    let filter = filter(Level::Default, Cap::SYS_CHROOT);
    for &number in OF_DOCKER {
        assert_eq!(call(&filter, number, 0), Ok(()), "system call {number}");
    }
    for &number in NOT_OF_DOCKER {
        assert_eq!(call(&filter, number, 0), Err(libc::EPERM), "system call {number}");
    }
    assert_eq!(call(&filter, 467, 0), Err(libc::ENOSYS), "newer than the list");
    assert_eq!(call(&filter, libc::SYS_socket, libc::AF_PACKET as u32), Ok(()));
    assert_eq!(call(&filter, libc::SYS_socket, libc::AF_VSOCK as u32), Err(libc::EPERM));
    let personality = |value| call(&filter, libc::SYS_personality, value);
    for value in [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX] {
        assert_eq!(personality(value), Ok(()), "{value:#x}");
    }
    // Without address space randomisation.
    assert_eq!(personality(0x4_0000), Err(libc::EPERM));
}

#[test]
fn a_capability_brings_the_calls_that_it_is_for() {
    let cases = [
        (Cap::SYS_ADMIN, libc::SYS_bpf),
        (Cap::BPF, libc::SYS_bpf),
        (Cap::PERFMON, libc::SYS_perf_event_open),
        (Cap::DAC_READ_SEARCH, libc::SYS_open_by_handle_at),
        (Cap::SYS_TIME, libc::SYS_settimeofday),
        (Cap::SYS_NICE, libc::SYS_mbind),
        (Cap::SYS_MODULE, libc::SYS_init_module),
        (Cap::SYS_BOOT, libc::SYS_reboot),
        (Cap::SYSLOG, libc::SYS_syslog),
        (Cap::SYS_PTRACE, libc::SYS_pidfd_getfd),
    ];
    for (capability, number) in cases {
        let with = filter(Level::Default, capability);
        assert_eq!(call(&with, number, 0), Ok(()), "{capability:?}");
        let without = filter(Level::Default, Cap::all() - capability - Cap::SYS_ADMIN);
        let other = [Cap::BPF, Cap::PERFMON, Cap::SYSLOG].contains(&capability);
        assert!(other || capability == Cap::SYS_ADMIN || call(&without, number, 0).is_err());
    }
    let every = filter(Level::Default, Cap::all());
    for number in [libc::SYS_kexec_load, libc::SYS_userfaultfd, libc::SYS_add_key] {
        assert_eq!(call(&every, number, 0), Err(libc::EPERM), "no capability is for {number}");
    }
}

#[test]
fn namespaces_are_allowed_by_default_and_refused_when_hardened() {
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let none = Cap::from_bits_retain(CHROOT);
    let (default, hardened) = (filter(Level::Default, none), filter(Level::Hardened, none));
    let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_SETTLS;
    for flags in [0, libc::SIGCHLD, thread, libc::CLONE_VFORK | libc::CLONE_VM] {
        assert_eq!(call(&default, libc::SYS_clone, flags as u32), Ok(()));
        assert_eq!(call(&hardened, libc::SYS_clone, flags as u32), Ok(()));
    }
    for flag in namespaces {
        let flags = (flag | libc::SIGCHLD) as u32;
        assert_eq!(call(&default, libc::SYS_clone, flags), Ok(()));
        assert_eq!(call(&hardened, libc::SYS_clone, flags), Err(libc::EPERM), "{flag:#x}");
    }
    // Its flags are in memory: a C library that is told that it does not exist takes clone.
    assert_eq!(call(&default, libc::SYS_clone3, 0), Ok(()));
    assert_eq!(call(&hardened, libc::SYS_clone3, 0), Err(libc::ENOSYS));
    let calls = [
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_fsopen,
        libc::SYS_sethostname,
    ];
    for number in calls {
        assert_eq!(call(&default, number, 0), Ok(()), "{number}");
        assert_eq!(call(&hardened, number, 0), Err(libc::EPERM), "{number}");
    }
}

#[test]
fn hardened_a_plain_program_has_what_it_needs_and_a_debugger_has_not() {
    let hardened = filter(Level::Hardened, Cap::empty());
    let allowed = OF_DOCKER.iter().filter(|&&number| call(&hardened, number, 0).is_ok()).count();
    assert!(allowed + 10 > OF_DOCKER.len(), "{allowed} of {}", OF_DOCKER.len());
    for &number in NOT_OF_DOCKER {
        assert_eq!(call(&hardened, number, 0), Err(libc::EPERM), "system call {number}");
    }
    for number in
        [libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_chroot, libc::SYS_vmsplice]
    {
        assert_eq!(call(&hardened, number, 0), Err(libc::EPERM), "system call {number}");
    }
    let socket = |family| call(&hardened, libc::SYS_socket, family as u32);
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
        assert_eq!(socket(family), Ok(()), "{family}");
    }
    for family in [libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, libc::AF_KEY] {
        assert_eq!(socket(family), Err(libc::EPERM), "{family}");
    }
    assert_eq!(call(&hardened, libc::SYS_personality, 0x8), Err(libc::EPERM));
    assert_eq!(call(&hardened, libc::SYS_personality, u32::MAX), Ok(()));
}
