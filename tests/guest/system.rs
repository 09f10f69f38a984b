//! The machine as its programs find it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::lab::{HOSTNAME, Lab, SANDBOX_VARIABLE};
use crate::run::{argv, sh};

cases![
    the_machine_has_the_name_and_the_files_of_the_contract,
    the_usual_file_systems_are_mounted,
    temporary_files_are_on_disk_and_for_everybody,
    devices_are_there_and_work,
    the_clock_is_that_of_the_host,
    random_numbers_do_not_block_and_do_not_repeat,
    the_kernel_command_line_holds_no_configuration,
    the_kernel_has_no_modules,
    without_a_network_the_loopback_interface_is_up_and_the_only_one,
    the_network_device_has_the_addresses_of_the_sandbox,
    the_disk_has_the_size_that_was_asked_for,
    unix_sockets_and_shared_memory_work,
];

async fn the_machine_has_the_name_and_the_files_of_the_contract(lab: &Lab) {
    let hosts = format!(
        "127.0.0.1 localhost localhost.localdomain {HOSTNAME}\n\
         ::1 localhost ip6-localhost ip6-loopback\n\
         ff02::1 ip6-allnodes\n\
         ff02::2 ip6-allrouters"
    );
    let cases = [
        ("hostname", HOSTNAME),
        ("uname -n", HOSTNAME),
        ("cat /etc/hostname", HOSTNAME),
        ("cat /etc/hosts", &hosts),
        (
            "stat -c '%F %a %u:%g' /etc/hosts /etc/hostname",
            "regular file 644 0:0\nregular file 644 0:0",
        ),
        ("cat /proc/sys/kernel/ostype", "Linux"),
        ("uname -s", "Linux"),
        ("uname -m", std::env::consts::ARCH),
        ("nproc", "1"),
        ("id -u", "0"),
        ("getent hosts localhost | cut -d' ' -f1", "::1"),
    ];
    let sandbox = lab.plain().await;
    for (script, expected) in cases {
        assert_eq!(sh(script).text(sandbox).await, expected, "{script}");
    }
    let release = argv(["uname", "-r"]).text(sandbox).await;
    assert_eq!(release, sandbox.ready().await.expect("up").guest.kernel);
}

async fn the_usual_file_systems_are_mounted(lab: &Lab) {
    let cases = [
        ("/", "overlay", "rw"),
        ("/proc", "proc", "nosuid,nodev,noexec"),
        ("/sys", "sysfs", "nosuid,nodev,noexec"),
        ("/sys/fs/cgroup", "cgroup2", "nosuid,nodev,noexec"),
        ("/dev", "devtmpfs", "nosuid"),
        ("/dev/pts", "devpts", "nosuid,noexec"),
        ("/dev/shm", "tmpfs", "nosuid,nodev"),
        ("/run", "tmpfs", "nosuid,nodev"),
    ];
    let text = argv(["cat", "/proc/mounts"]).text(lab.plain().await).await;
    for (target, kind, options) in cases {
        let mut lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = lines.find(|fields| fields[1] == target).unwrap_or_default();
        assert_eq!(mount.get(2), Some(&kind), "{target}: {text}");
        let set: Vec<&str> = mount[3].split(',').collect();
        assert!(options.split(',').all(|option| set.contains(&option)), "{target}: {set:?}");
    }
}

async fn temporary_files_are_on_disk_and_for_everybody(lab: &Lab) {
    let sandbox = lab.plain().await;
    let text = sh("stat -c %a /tmp /var/tmp /dev/shm; stat -fc %T /tmp").text(sandbox).await;
    assert_eq!(text.lines().collect::<Vec<_>>(), ["1777", "1777", "1777", "overlayfs"]);
    let script = "f=$(mktemp) && echo x >$f && cat $f && rm $f";
    assert_eq!(sh(script).user("nobody").text(sandbox).await, "x");
}

async fn devices_are_there_and_work(lab: &Lab) {
    let script = "cd /dev; ls -d null zero full random urandom tty ptmx fd stdin stdout stderr shm
        head -c3 zero | od -An -tx1; echo x 2>&1 >full || echo full; readlink fd";
    let ended = sh(script).user("nobody").on(lab.plain().await).await;
    let text = ended.out();
    assert!(text.contains("00 00 00") && text.contains("full\n/proc/self/fd"), "{ended:?}");
}

async fn the_clock_is_that_of_the_host(lab: &Lab) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let sandbox = lab.plain().await;
    let before = now();
    let guest: u64 = argv(["date", "+%s"]).text(sandbox).await.parse().expect("seconds");
    let (earliest, latest) = (before.saturating_sub(5), now() + 5);
    assert!((earliest..=latest).contains(&guest), "{earliest} <= {guest} <= {latest}");
}

async fn random_numbers_do_not_block_and_do_not_repeat(lab: &Lab) {
    let script = "od -An -tx1 -N16 /dev/random";
    let mut seen = Vec::new();
    for sandbox in [lab.plain().await, lab.plain().await, lab.privileged().await] {
        let bytes = sh(script).text(sandbox).await;
        assert!(bytes.len() >= 47 && !seen.contains(&bytes), "{bytes}");
        seen.push(bytes);
    }
}

async fn the_kernel_command_line_holds_no_configuration(lab: &Lab) {
    let text = argv(["cat", "/proc/cmdline"]).text(lab.plain().await).await;
    let (name, value) = SANDBOX_VARIABLE;
    let words = [name, value, HOSTNAME.as_bytes(), b"matchlock"];
    for word in words.map(String::from_utf8_lossy) {
        assert!(!text.contains(&*word), "{word}: {text}");
    }
}

async fn the_kernel_has_no_modules(lab: &Lab) {
    let script =
        "test -e /proc/modules || echo none; test -e /proc/sys/kernel/modprobe || echo none";
    assert_eq!(sh(script).text(lab.plain().await).await.lines().next(), Some("none"));
}

async fn without_a_network_the_loopback_interface_is_up_and_the_only_one(lab: &Lab) {
    let script = "ls /sys/class/net; cat /sys/class/net/lo/flags /etc/resolv.conf";
    assert_eq!(sh(script).text(lab.offline().await).await, "lo\n0x9");
}

async fn the_network_device_has_the_addresses_of_the_sandbox(lab: &Lab) {
    let script = "ls /sys/class/net; cat /sys/class/net/eth0/mtu /etc/resolv.conf
        python3 -c 'import socket
for family, to in ((socket.AF_INET, \"192.0.2.1\"), (socket.AF_INET6, \"2001:db8::1\")):
    s = socket.socket(family, socket.SOCK_DGRAM); s.connect((to, 9)); print(s.getsockname()[0])'";
    let text = sh(script).text(lab.plain().await).await;
    let expected = "eth0\nlo\n1500\nnameserver 198.18.0.1\nnameserver fd6d:6c6b::1\n\
                    198.18.0.2\nfd6d:6c6b::2";
    assert_eq!(text, expected);
}

async fn the_disk_has_the_size_that_was_asked_for(lab: &Lab) {
    let text = sh("stat -fc '%S %b' /").text(lab.plain().await).await;
    let mut numbers = text.split(' ').map(|n| n.parse::<u64>().expect("a number"));
    let size = numbers.by_ref().product::<u64>() >> 20;
    assert!((900..=1024).contains(&size), "{size} MiB of 1024");
}

async fn unix_sockets_and_shared_memory_work(lab: &Lab) {
    let script = "
import mmap, os, socket
server = socket.socket(socket.AF_UNIX)
server.bind('/tmp/unix-socket'); server.listen()
client = socket.socket(socket.AF_UNIX); client.connect('/tmp/unix-socket')
peer, _ = server.accept(); client.sendall(b'through'); print(peer.recv(9).decode())
tcp = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(tcp.getsockname())
peer, _ = tcp.accept(); client.sendall(b'loop'); print(peer.recv(9).decode())
fd = os.open('/dev/shm/memory', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 4096)
first, second = mmap.mmap(fd, 4096), mmap.mmap(fd, 4096); first[0] = 65; print(chr(second[0]))
";
    let text = crate::run::python(script).text(lab.plain().await).await;
    assert_eq!(text, "through\nloop\nA");
}
