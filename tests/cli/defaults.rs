//! A sandbox without any flag: one boot, looked at from several sides.

use std::sync::LazyLock;

use matchlock_testkit::{Finished, Lab};

use crate::support::number;

/// Prints a heading before each answer.
const SCRIPT: &str = "
    echo '== name'; uname -n
    echo '== hostname file'; cat /etc/hostname
    echo '== hosts'; cat /etc/hosts
    echo '== cpus'; nproc
    echo '== memory'; grep MemTotal /proc/meminfo
    echo '== disk'; df -m --output=size / | tail -n1
    echo '== place'; pwd; id -u; id -g
    echo '== mount'; mount -t tmpfs none /mnt 2>&1; echo status $?
    echo '== shadow'; cat /etc/shadow /etc/gshadow 2>/dev/null; ls /etc | grep -c shadow
    echo '== homes'; ls -A /root /home
    echo '== end'";

static RUN: LazyLock<Finished> = LazyLock::new(|| {
    let lab = Lab::new();
    // The image comes from the environment: no flag at all.
    let run = lab.matchlock(&["run", "--", "sh", "-c", SCRIPT]).env("MATCHLOCK_RUN_IMAGE", "host");
    run.finish().expect(0)
});

/// The answer beneath a heading.
#[track_caller]
fn answer(heading: &str) -> String {
    let out = RUN.out();
    let (_, rest) = out.split_once(&format!("== {heading}\n")).expect("the heading");
    let (answer, _) = rest.split_once("== ").expect("the next heading");
    answer.to_owned()
}

#[test]
fn the_host_name_is_the_id_of_the_sandbox() {
    let name = answer("name").trim_end().to_owned();
    let random = name.strip_prefix("vm-").expect("vm-…");
    assert!(random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    assert_eq!(answer("hostname file"), format!("{name}\n"));
    let hosts = format!(
        "127.0.0.1 localhost localhost.localdomain {name}\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
    );
    assert_eq!(answer("hosts"), hosts);
}

#[test]
fn it_has_2_cpus_512_mb_of_memory_and_2048_mb_of_disk() {
    let host = std::thread::available_parallelism().expect("cpus").get() as u64;
    assert_eq!(number(&answer("cpus")), host.min(2));
    let memory = number(&answer("memory")) / 1024;
    assert!((400..=512).contains(&memory), "{memory} MB");
    let disk = number(&answer("disk"));
    assert!((1900..=2048).contains(&disk), "{disk} MB");
}

#[test]
fn the_program_is_root_in_the_root_directory_and_cannot_mount() {
    assert_eq!(answer("place"), "/\n0\n0\n");
    let mount = answer("mount");
    assert!(!mount.contains("status 0\n"), "{mount}");
}

#[test]
fn password_hashes_and_homes_of_the_host_are_absent() {
    assert_eq!(answer("shadow"), "0\n");
    assert_eq!(answer("homes"), "/home:\n\n/root:\n");
}

#[test]
fn the_notice_of_emulation_comes_once_and_only_on_standard_error() {
    let notice = "using software emulation";
    let err = String::from_utf8_lossy(&RUN.stderr);
    assert_eq!(err.matches(notice).count(), 1, "{err}");
    assert_eq!(RUN.err(), "", "nothing else is said");
    assert!(!RUN.out().contains(notice));
}
