//! `--cpus` against root of the guest.

use matchlock_core::SandboxHandle;

use crate::lab::Lab;
use crate::run::{Program, argv, python, sh};

cases![half_a_cpu_is_half_a_cpu_whatever_root_tries, programs_share_one_limit];

/// Computes for two seconds of the guest's clock and writes the share of CPU time it got, in
/// percent.
const BUSY: &str = "
import time
wall, cpu = time.monotonic(), time.process_time()
while time.monotonic() < wall + 2: pass
print(int(100 * (time.process_time() - cpu) / (time.monotonic() - wall)))
";

/// What a limit of 50 may look like from inside.
const AT_MOST: u32 = 70;

fn busy() -> Program {
    python(BUSY)
}

async fn share(program: Program, sandbox: &SandboxHandle) -> u32 {
    program.text(sandbox).await.parse().expect("a percentage")
}

async fn half_a_cpu_is_half_a_cpu_whatever_root_tries(lab: &Lab) {
    let sandbox = lab.half().await;
    // Each of them may fail; none may change anything.
    let attempts = "cd /sys/fs/cgroup
        for file in cpu.max ../cpu.max ../../cpu.max; do echo max 100000 >$file; done
        echo +cpu >cgroup.subtree_control
        mkdir escape; echo max 100000 >escape/cpu.max; echo $$ >escape/cgroup.procs
        echo $$ >/sys/fs/cgroup/../cgroup.procs
        mount -t cgroup2 none /mnt && echo max 100000 >/mnt/cpu.max
        unshare -UrCm sh -c 'mount -t cgroup2 none /mnt
            for file in /mnt/cpu.max /mnt/*/cpu.max; do echo max 100000 >$file; done'";
    let script = format!("({attempts}) >/dev/null 2>&1; exec python3 -ISc '{BUSY}'");
    let measured = share(sh(&script), sandbox).await;
    assert!(measured <= AT_MOST, "{measured} % of a CPU");
    let measured = share(busy(), sandbox).await;
    assert!(measured <= AT_MOST, "{measured} % of a CPU in the next program");
    let visible = argv(["cat", "/proc/self/cgroup"]).text(sandbox).await;
    assert_eq!(visible, "0::/", "no parent");
}

async fn programs_share_one_limit(lab: &Lab) {
    let sandbox = lab.half().await;
    let (first, second) = tokio::join!(share(busy(), sandbox), share(busy(), sandbox));
    assert!(first + second <= AT_MOST, "{first} and {second} % of a CPU");
}
