//! CPU time, memory, disk and privileges are what the flags say.

use std::fs;

use matchlock_testkit::Lab;

use crate::support::{number, sh};

/// CPU time that a busy loop got, per time on the guest's clock. The guest measures, because on a
/// busy host its clock and its CPUs slow down together.
fn share_of_a_busy_loop(cpus: &str) -> f64 {
    let lab = Lab::new();
    let script = "
        look() { read -r up _ </proc/uptime; read -r stat </proc/$$/stat; echo $up ${stat##*) }; }
        look
        end=$((${up%.*} + 5))
        while read -r up _ </proc/uptime; [ ${up%.*} -lt $end ]; do :; done
        look";
    let finished = sh(&lab, &["--cpus", cpus], script).finish().expect(0);
    let looks: Vec<(f64, f64)> = finished.out().lines().map(look).collect();
    let [(from, used_before), (to, used_after)] = looks.as_slice() else {
        panic!("two looks: {}", finished.out());
    };
    (used_after - used_before) / (to - from)
}

/// Uptime and CPU time in seconds. The fields are those of proc_pid_stat(5) from the third on;
/// 14 and 15 are user and system time in ticks of 10 ms.
fn look(line: &str) -> (f64, f64) {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let at = |index: usize| fields[index].parse::<f64>().expect("a number");
    (at(0), (at(1 + 14 - 3) + at(1 + 15 - 3)) / 100.0)
}

#[test]
fn half_a_cpu_gets_half_the_time_of_a_whole_one() {
    let whole = share_of_a_busy_loop("1");
    assert!((0.7..1.2).contains(&whole), "a whole CPU gave {whole:.2}");
    let half = share_of_a_busy_loop("0.5");
    assert!((0.3..0.7).contains(&half), "half a CPU gave {half:.2}");
}

#[test]
fn too_few_open_files_are_an_error_that_says_what_raises_the_limit() {
    let lab = Lab::new();
    let wrapper = ["sh", "-c", "ulimit -n 64 && exec \"$0\" \"$@\""];
    let finished = sh(&lab, &["--no-network"], "echo it ran").under(&wrapper).finish();
    assert_ne!(finished.code(), 0);
    assert_eq!(finished.out(), "");
    let told = finished.err();
    assert!(told.contains("may have 64 files open") && told.contains("ulimit -n"), "{told}");
}

/// Issue 9: QEMU's default stops the machine, and the program hung until `--timeout`.
#[test]
fn a_full_file_system_of_the_host_is_an_error_in_the_guest_and_is_told() {
    let lab = Lab::new();
    let home = lab.home().to_str().expect("UTF-8").to_owned();
    let script = "head -c 60000000 /dev/urandom >/file; sync -f /file || echo failed; echo went on";
    let mount = format!("mount -t tmpfs -o size=20m none {home} && exec \"$0\" \"$@\"");
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount];
    let finished = sh(&lab, &["--no-network"], script).under(&wrapper).finish().expect(0);
    assert_eq!(finished.out(), "failed\nwent on\n");
    let told = "the host could not write a disk of the sandbox: No space left on device";
    assert!(finished.err().contains(told), "{}", finished.err());
}

#[test]
fn the_disk_is_larger_than_the_memory_and_both_are_as_asked() {
    let lab = Lab::new();
    let script = "
        nproc
        grep MemTotal /proc/meminfo
        df -m --output=size / | tail -n1
        dd if=/dev/zero of=/big bs=1M count=300 2>/dev/null && sync
        stat -c %s /big
        df -m --output=used / | tail -n1";
    let flags = ["--cpus", "1", "--memory", "256", "--disk-size", "4096"];
    let finished = sh(&lab, &flags, script).finish().expect(0);
    let numbers: Vec<u64> = finished.out().lines().map(number).collect();
    let [cpus, memory, disk, written, used] = *numbers else {
        panic!("five answers: {}", finished.out());
    };
    assert_eq!(cpus, 1);
    assert!((180..=256).contains(&(memory / 1024)), "{memory} kB");
    assert!((3800..=4096).contains(&disk), "{disk} MB");
    assert_eq!(written, 300 << 20);
    assert!((300..600).contains(&used), "{used} MB used: it is on this disk");
}

#[test]
fn a_privileged_program_may_mount() {
    let lab = Lab::new();
    let script = "mount -t tmpfs none /mnt && touch /mnt/file && grep ' /mnt ' /proc/mounts";
    let finished = sh(&lab, &["--privileged"], script).finish().expect(0);
    assert!(finished.out().contains("tmpfs"), "{}", finished.out());
    assert!(!fs::exists("/mnt/file").expect("stat"), "on the guest's own /mnt");
}

#[test]
fn the_default_fits_a_machine_with_one_cpu() {
    let lab = Lab::new();
    let status = fs::read_to_string("/proc/self/status").expect("read");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    // As `0-3,8`.
    let first = allowed.and_then(|list| list.trim().split(['-', ',']).next()).expect("a CPU");
    let finished = sh(&lab, &[], "nproc").under(&["taskset", "-c", first]).finish().expect(0);
    assert_eq!(finished.out(), "1\n");
}

/// Its kernel ends the program that takes too much, and nothing else.
#[test]
fn a_program_that_takes_more_memory_than_there_is_is_killed_and_the_sandbox_goes_on() {
    let lab = Lab::new();
    let finished = lab.run(&["--memory", "128"], &["tail", "/dev/zero"]).finish().expect(137);
    assert_eq!(finished.out(), "");
    let script = "tail /dev/zero; echo $?; echo goes on";
    let finished = sh(&lab, &["--memory", "128"], script).finish().expect(0);
    assert_eq!(finished.out(), "137\ngoes on\n");
}
