//! What programs of a sandbox may not do unless it is privileged.

use matchlock_core::SandboxHandle;

use crate::lab::Lab;
use crate::run::{argv, python, sh};

cases![
    a_program_has_the_capabilities_of_a_container_no_way_to_new_privileges_and_a_filter,
    a_privileged_program_has_every_capability_no_filter_and_no_mask,
    system_calls_for_the_kernel_as_a_whole_are_refused,
    system_calls_of_foreign_architectures_are_refused,
    a_set_user_id_program_gains_nothing,
    root_cannot_mount_or_reconfigure_the_kernel,
    root_can_do_the_ordinary_things,
    parts_of_proc_and_sys_are_masked_or_read_only,
    the_kernel_is_set_against_programs_without_privileges,
    a_program_traces_its_own_children,
    a_program_makes_namespaces_of_its_own,
    bubblewrap_makes_a_sandbox,
    a_browser_has_the_calls_that_its_sandbox_is_made_of,
];

/// The bits of Docker's fourteen.
const CAPABILITIES: &str = "00000000a80425fb";

/// A field of `/proc/self/status`.
async fn status(sandbox: &SandboxHandle, user: &str, field: &str) -> String {
    let field = format!("s/^{field}:\\t//p");
    argv(["sed", "-n", &field, "/proc/self/status"]).user(user).text(sandbox).await
}

async fn a_program_has_the_capabilities_of_a_container_no_way_to_new_privileges_and_a_filter(
    lab: &Lab,
) {
    const NONE: &str = "0000000000000000";
    let sandbox = lab.plain().await;
    for (user, own) in [("root", CAPABILITIES), ("nobody", NONE)] {
        let expected = [
            ("CapBnd", CAPABILITIES),
            ("CapPrm", own),
            ("CapEff", own),
            ("CapInh", NONE),
            ("CapAmb", NONE),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("Seccomp_filters", "1"),
        ];
        for (field, value) in expected {
            assert_eq!(status(sandbox, user, field).await, value, "{field} of {user}");
        }
    }
}

async fn a_privileged_program_has_every_capability_no_filter_and_no_mask(lab: &Lab) {
    let sandbox = lab.privileged().await;
    let last = argv(["cat", "/proc/sys/kernel/cap_last_cap"]).text(sandbox).await;
    let all = (1u64 << (last.parse::<u32>().expect("a number") + 1)) - 1;
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(status(sandbox, "root", set).await, format!("{all:016x}"), "{set}");
    }
    assert_eq!(status(sandbox, "root", "NoNewPrivs").await, "0");
    assert_eq!(status(sandbox, "root", "Seccomp").await, "0");
    let mounted = sh("mount -t tmpfs none /mnt && stat -fc %T /mnt").text(sandbox).await;
    assert_eq!(mounted, "tmpfs");
    let traced = "import ctypes; print(ctypes.CDLL(None).ptrace(0, 0, 0, 0))";
    assert_eq!(python(traced).text(sandbox).await, "0");
    let script = "grep -c . /proc/timer_list && echo 1000 >/proc/sys/vm/max_map_count
        grep -E ' (/proc|/sys)(/[^ ]*)? ' /proc/self/mountinfo | cut -d' ' -f5 | sort | paste -sd,
        touch -c /sys/kernel && echo writable";
    let text = sh(script).text(sandbox).await;
    let mounts = "/proc,/sys,/sys/fs/bpf,/sys/fs/cgroup\nwritable";
    assert!(text.ends_with(mounts) && !text.starts_with('0'), "{text}");
}

/// Makes system calls by number and writes the name of each error.
const CALLS: &str = "
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
for number in sys.argv[1:]:
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(int(number)), 0, 0, 0, 0, 0, 0)
    print('done' if result != -1 else errno.errorcode[ctypes.get_errno()])
";

/// Numbers of x86-64 with their names: a call of each kind that is refused.
const REFUSED: [(&str, &str); 26] = [
    ("acct", "163"),
    ("add_key", "248"),
    ("bpf", "321"),
    ("clock_settime", "227"),
    ("delete_module", "176"),
    ("fanotify_init", "300"),
    ("finit_module", "313"),
    ("init_module", "175"),
    ("io_uring_setup", "425"),
    ("ioperm", "173"),
    ("iopl", "172"),
    ("kcmp", "312"),
    ("kexec_file_load", "320"),
    ("kexec_load", "246"),
    ("keyctl", "250"),
    ("mbind", "237"),
    ("open_by_handle_at", "304"),
    ("perf_event_open", "298"),
    ("quotactl", "179"),
    ("reboot", "169"),
    ("request_key", "249"),
    ("settimeofday", "164"),
    ("swapon", "167"),
    ("syslog", "103"),
    ("userfaultfd", "323"),
    ("vhangup", "153"),
];

async fn system_calls_for_the_kernel_as_a_whole_are_refused(lab: &Lab) {
    let numbers = REFUSED.map(|(_, number)| number);
    for user in ["root", "nobody"] {
        // Newer than the list: a C library shall fall back.
        let program = argv(["python3", "-ISc", CALLS].iter().chain(&numbers).chain(&["999"]));
        let text = program.user(user).text(lab.plain().await).await;
        let mut lines = text.lines();
        for (name, _) in REFUSED {
            assert_eq!(lines.next(), Some("EPERM"), "{name} of {user}");
        }
        assert_eq!(lines.next(), Some("ENOSYS"), "{user}");
    }
}

async fn system_calls_of_foreign_architectures_are_refused(lab: &Lab) {
    let sandbox = lab.plain().await;
    // getpid of the x32 ABI.
    let number = (0x4000_0000_u32 | 39).to_string();
    let text = argv(["python3", "-ISc", CALLS, &number]).text(sandbox).await;
    assert!(["EPERM", "ENOSYS"].contains(&&*text), "{text}");
    // getpid of i386: mov eax, 20; int 0x80; ret.
    let i386 = r"
import ctypes, mmap
memory = mmap.mmap(-1, 4096, prot=7)
memory.write(b'\xb8\x14\0\0\0\xcd\x80\xc3')
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())
";
    let ended = python(i386).on(sandbox).await;
    // An error of the filter or the kernel, or the end of the process: no process id.
    let result = ended.out().trim().parse::<i32>();
    assert!(result.is_ok_and(|code| code < 0) || ended.stdout.is_empty(), "{ended:?}");
}

async fn a_set_user_id_program_gains_nothing(lab: &Lab) {
    let sandbox = lab.plain().await;
    sh("cp /usr/bin/id /tmp/set-user-id; chmod 4755 /tmp/set-user-id").text(sandbox).await;
    let text = argv(["/tmp/set-user-id", "-u"]).user("60123").text(sandbox).await;
    assert_eq!(text, "60123");
}

async fn root_cannot_mount_or_reconfigure_the_kernel(lab: &Lab) {
    let sandbox = lab.plain().await;
    let scripts = [
        "mount -t tmpfs none /mnt",
        "mount -t proc none /mnt",
        "mount -t cgroup2 none /mnt",
        "mount -o bind / /mnt",
        "mount -o remount,rw /sys/fs/cgroup",
        "mount -o remount,rw /sys",
        "mount -o remount,bind,rw /proc/sys",
        "umount /proc",
        "umount /proc/sys",
        "umount /sys/fs/cgroup",
        "unshare --mount true",
        "unshare --cgroup true",
        "chroot / mount -t tmpfs none /mnt",
        "nsenter --target 1 --mount true",
        "hostname other",
        "ip link set lo down",
        "ip link add dummy0 type dummy",
        "date -s @0",
        "chattr +i /etc/hosts",
        "dmesg",
        "echo 0 >/proc/sys/kernel/dmesg_restrict",
        "echo 'x' >/proc/sys/kernel/core_pattern",
        "echo 0 >/sys/kernel/mm/transparent_hugepage/use_zero_page",
        "dd if=/dev/mem of=/dev/null count=1",
        "cat /proc/kcore | head -c1 | grep -q .",
    ];
    for script in scripts {
        let ended = sh(script).on(sandbox).await;
        assert_ne!(ended.status.shell_code(), 0, "{script}: {}", ended.out());
    }
}

async fn root_can_do_the_ordinary_things(lab: &Lab) {
    let scripts = [
        "touch /tmp/owned && chown nobody /tmp/owned && chmod 4711 /tmp/owned",
        "setpriv --reuid 60123 --clear-groups true",
        "mkdir -p /srv/made /opt/made /var/lib/made /etc/made",
        "mknod /tmp/null c 1 3 && echo >/tmp/null",
        "(ulimit -n 100000)",
        "chroot / true",
        "echo 500 >/proc/self/oom_score_adj",
        "mkdir /sys/fs/cgroup/own && rmdir /sys/fs/cgroup/own",
    ];
    for script in scripts {
        sh(script).text(lab.plain().await).await;
    }
}

async fn parts_of_proc_and_sys_are_masked_or_read_only(lab: &Lab) {
    let sandbox = lab.plain().await;
    for user in ["root", "nobody"] {
        // Of the masked files these are what our kernel has.
        for file in ["keys", "timer_list", "interrupts"] {
            let ended = argv(["cat", &format!("/proc/{file}")]).user(user).on(sandbox).await;
            assert!(ended.stdout.is_empty(), "{file} of {user}: {}", ended.out());
        }
    }
    let script = "for path in /proc/bus /proc/fs /proc/irq /proc/sys /sys; do
            grep -E \" $path \" /proc/self/mountinfo | tail -n1 | cut -d' ' -f6 | cut -d, -f1
        done
        cat /proc/sys/kernel/ostype";
    assert_eq!(sh(script).text(sandbox).await, "ro\nro\nro\nro\nro\nLinux");
}

async fn the_kernel_is_set_against_programs_without_privileges(lab: &Lab) {
    let sandbox = lab.plain().await;
    let cases = [
        ("fs/protected_hardlinks", "1"),
        ("fs/protected_symlinks", "1"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/unprivileged_bpf_disabled", "2"),
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("vm/unprivileged_userfaultfd", "0"),
    ];
    for (name, value) in cases {
        let text = argv(["cat", &format!("/proc/sys/{name}")]).text(sandbox).await;
        assert_eq!(text, value, "{name}");
    }
    let low = "import socket; socket.create_server(('127.0.0.1', 80)); print('listens')";
    assert_eq!(python(low).user("nobody").text(sandbox).await, "listens");
}

async fn a_program_traces_its_own_children(lab: &Lab) {
    let sandbox = lab.plain().await;
    for user in ["root", "nobody"] {
        let script = "strace -f -e trace=execve sh -c 'exec echo traced' 2>&1";
        let text = sh(script).user(user).text(sandbox).await;
        assert!(text.contains("execve(") && text.contains("+++ exited with 0 +++"), "{text}");
    }
    // The first process of the namespace has more than the program.
    let first = "import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))";
    assert_eq!(python(first).text(sandbox).await, "-1");
}

async fn a_program_makes_namespaces_of_its_own(lab: &Lab) {
    let sandbox = lab.plain().await;
    let script = "unshare --user --map-root-user --mount --pid --fork --net --uts --ipc sh -c '
        mount -t tmpfs none /mnt && mount -t proc proc /proc && hostname inner
        echo $$ $(id -u) $(hostname) $(stat -fc %T /mnt) $(ls -d /proc/[0-9]* | wc -l)'";
    for user in ["root", "nobody"] {
        let text = sh(script).user(user).text(sandbox).await;
        assert!(text.starts_with("1 0 inner tmpfs "), "{user}: {text}");
    }
}

async fn bubblewrap_makes_a_sandbox(lab: &Lab) {
    let sandbox = lab.plain().await;
    let bwrap = "bwrap --unshare-all --die-with-parent --ro-bind / / --dev /dev --proc /proc \
                 --tmpfs /tmp -- sh -c 'echo $$ $(stat -fc %T /tmp); touch /etc/x 2>/dev/null || echo read-only'";
    for user in ["root", "nobody"] {
        let text = sh(bwrap).user(user).text(sandbox).await;
        let mut lines = text.lines();
        assert!(lines.next().is_some_and(|line| line.ends_with(" tmpfs")), "{user}: {text}");
        assert_eq!(lines.next(), Some("read-only"), "{user}");
    }
}

/// What Chromium's own sandbox does before it shows a page: a user namespace with namespaces of processes and of
/// the network in it, an empty root, no capability, and a filter of system calls.
const BROWSER: &str = r"
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
uid, gid = os.getuid(), os.getgid()
call('unshare', NEWUSER | NEWPID | NEWNET)
for file, text in (('setgroups', 'deny'), ('uid_map', f'{uid} {uid} 1'), ('gid_map', f'{gid} {gid} 1')):
    with open(f'/proc/self/{file}', 'w') as map:
        map.write(text)
child = os.fork()
if child == 0:
    assert os.getpid() == 1
    os.chroot('/proc/self/fdinfo')
    os.chdir('/')
    header, data = struct.pack('II', 0x20080522, 0), bytes(24)
    call('capset', header, data)
    call('prctl', 38, 1, 0, 0, 0)
    # seccomp: everything is allowed.
    allow = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
    program = struct.pack('HxxxxxxP', 1, ctypes.addressof(allow))
    call('prctl', 22, 2, program, 0, 0)
    os.write(1, b'confined')
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
";

async fn a_browser_has_the_calls_that_its_sandbox_is_made_of(lab: &Lab) {
    for user in ["root", "nobody"] {
        let text = python(BROWSER).user(user).text(lab.plain().await).await;
        assert_eq!(text, "confined", "{user}");
    }
}
