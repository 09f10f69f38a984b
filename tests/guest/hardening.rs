//! What programs of a sandbox may not do unless it is privileged.

use matchlock_core::SandboxHandle;

use crate::lab::Lab;
use crate::run::{argv, python, sh};

cases![
    a_program_has_no_capability_over_the_kernel_no_way_to_new_privileges_and_a_filter,
    a_privileged_program_has_every_capability_and_no_filter,
    system_calls_into_other_processes_and_for_other_kernels_are_refused,
    system_calls_of_foreign_architectures_are_refused,
    a_set_user_id_program_gains_nothing,
    root_cannot_mount_or_reconfigure_the_kernel,
    root_can_do_the_ordinary_things,
];

/// Numbers of capabilities(7) that are dropped.
const DROPPED: [(&str, u32); 5] = [
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_RAWIO", 17),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_BOOT", 22),
];

/// A field of `/proc/self/status`.
async fn status(sandbox: &SandboxHandle, user: &str, field: &str) -> String {
    let field = format!("s/^{field}:\\t//p");
    argv(["sed", "-n", &field, "/proc/self/status"]).user(user).text(sandbox).await
}

async fn a_program_has_no_capability_over_the_kernel_no_way_to_new_privileges_and_a_filter(
    lab: &Lab,
) {
    let sandbox = lab.plain().await;
    for user in ["root", "nobody"] {
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            let bits = u64::from_str_radix(&status(sandbox, user, set).await, 16).expect("a mask");
            for (name, number) in DROPPED {
                assert_eq!(bits >> number & 1, 0, "{name} in {set} of {user}");
            }
            assert!(user == "root" || set == "CapBnd" || bits == 0, "{set} of {user}: {bits:x}");
        }
        assert_eq!(status(sandbox, user, "NoNewPrivs").await, "1");
        assert_eq!(status(sandbox, user, "Seccomp").await, "2");
    }
}

async fn a_privileged_program_has_every_capability_and_no_filter(lab: &Lab) {
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

async fn system_calls_into_other_processes_and_for_other_kernels_are_refused(lab: &Lab) {
    // x86-64 numbers: ptrace, kexec_load, open_by_handle_at, process_vm_readv, process_vm_writev,
    // kexec_file_load.
    let numbers = ["101", "246", "304", "310", "311", "320"];
    for user in ["root", "nobody"] {
        let program = argv(["python3", "-ISc", CALLS].iter().chain(&numbers)).user(user);
        let text = program.text(lab.plain().await).await;
        assert_eq!(text.lines().collect::<Vec<_>>(), ["EPERM"; 6], "{user}");
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
        "umount /proc",
        "umount /sys/fs/cgroup",
        "unshare --mount true",
        "unshare --cgroup true",
        "chroot / mount -t tmpfs none /mnt",
        "nsenter --target 1 --mount true",
        "hostname other",
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
        "nice -n -5 true",
        "(ulimit -n 100000)",
        "chroot / true",
    ];
    for script in scripts {
        sh(script).text(lab.plain().await).await;
    }
}
