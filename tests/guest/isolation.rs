//! What programs see of the machine and of each other.

use std::collections::BTreeSet;

use crate::lab::Lab;
use crate::run::{argv, sh};

cases![
    each_program_has_process_ids_of_its_own,
    the_first_process_of_a_namespace_gives_nothing_away,
    a_mount_of_one_program_is_not_seen_by_another,
    each_program_has_a_control_group_of_its_own,
    nothing_of_the_first_root_is_left,
    programs_share_files_and_the_host_name,
    a_program_leads_a_session_and_has_no_descriptor_of_the_agent,
];

async fn each_program_has_process_ids_of_its_own(lab: &Lab) {
    let sandbox = lab.plain().await;
    let other = argv(["sleep", "600"]).start(sandbox).await;
    let processes = "cd /proc; for p in [0-9]*; do echo $p $(cat $p/comm); done";
    let text = sh(&format!("echo $$; {processes}")).text(sandbox).await;
    let mut lines = text.lines();
    let own: u32 = lines.next().and_then(|pid| pid.parse().ok()).expect("a process id");
    assert!(own < 10, "{text}");
    let seen: Vec<&str> = lines.collect();
    assert!(seen.len() <= 3, "the first process, the shell, perhaps a child: {text}");
    assert!(!text.contains("sleep"), "of another program: {text}");
    drop(other);
}

async fn the_first_process_of_a_namespace_gives_nothing_away(lab: &Lab) {
    let sandbox = lab.plain().await;
    // Its memory is a copy of the agent's.
    for file in ["mem", "maps", "environ", "exe", "root/etc/passwd", "cwd/.", "fd/.", "stack"] {
        let ended = argv(["head", "-c1", &format!("/proc/1/{file}")]).on(sandbox).await;
        assert!(ended.stdout.is_empty(), "{file}: {}", ended.out());
        assert_ne!(ended.err(), "", "{file}");
    }
}

async fn a_mount_of_one_program_is_not_seen_by_another(lab: &Lab) {
    let sandbox = lab.privileged().await;
    let script = "mount -t tmpfs none /mnt && touch /mnt/marker && echo mounted; read line";
    let mut mounter = sh(script).piped().start(sandbox).await;
    mounter.wait_for("mounted").await;
    let script = "ls -A /mnt; grep ' /mnt ' /proc/self/mountinfo; stat -fc %T /mnt";
    let seen = sh(script).text(sandbox).await;
    assert!(!seen.contains("marker") && !seen.contains("tmpfs"), "{seen}");
    drop(mounter);
}

async fn each_program_has_a_control_group_of_its_own(lab: &Lab) {
    let sandbox = lab.plain().await;
    let other = argv(["sleep", "600"]).start(sandbox).await;
    let script =
        "cat /proc/self/cgroup; stat -fc %T /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.procs";
    let text = sh(script).text(sandbox).await;
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("0::/"));
    assert_eq!(lines.next(), Some("cgroup2fs"));
    // A process of another namespace would be shown as 0.
    let processes: Vec<u32> = lines.map(|pid| pid.parse().expect("a process id")).collect();
    assert!(processes.iter().all(|pid| (1..10).contains(pid)), "{processes:?}");
    drop(other);
}

async fn nothing_of_the_first_root_is_left(lab: &Lab) {
    let mounts = "cat /proc/self/mountinfo";
    for sandbox in [lab.plain().await, lab.privileged().await] {
        let text = sh(mounts).text(sandbox).await;
        let field = |line: &str, n: usize| line.split(' ').nth(n).unwrap_or_default().to_owned();
        // Fields of proc_pid_mountinfo(5): the mounted directory, and where. The masks are parts of /proc, or null.
        let is_mask = |line: &&str| field(line, 4).starts_with("/proc/");
        let (masks, mounts): (Vec<&str>, Vec<&str>) = text.lines().partition(is_mask);
        for line in masks {
            let (root, point) = (field(line, 3), field(line, 4));
            assert!(["/", "/null", &point[5..]].contains(&&*root), "{line}");
        }
        for line in &mounts {
            assert_eq!(field(line, 3), "/", "a part of another file system: {line}");
        }
        let points: BTreeSet<String> = mounts.iter().map(|line| field(line, 4)).collect();
        let whole = mounts.iter().filter(|line| field(line, 4) == "/proc").count() - 1;
        assert!(whole <= 1, "the one without masks: {text}");
        assert_eq!(points.len() + whole, mounts.len(), "a mount over another: {text}");
        let expected = [
            "/",
            "/dev",
            "/dev/mqueue",
            "/dev/pts",
            "/dev/shm",
            "/proc",
            "/run",
            "/sys",
            "/sys/fs/bpf",
            "/sys/fs/cgroup",
        ];
        let unexpected: Vec<&String> =
            points.iter().filter(|point| !expected.contains(&point.as_str())).collect();
        assert!(unexpected.is_empty(), "{text}");
        let root = sh("ls -A /; ls -Ad /proc/1/root/* 2>/dev/null; ls -A /..").text(sandbox).await;
        for name in ["stage", "newroot", "init", ".old-root", "old_root"] {
            assert!(!root.split(['\n', '/']).any(|entry| entry == name), "{name}: {root}");
        }
    }
}

async fn programs_share_files_and_the_host_name(lab: &Lab) {
    let sandbox = lab.plain().await;
    sh("echo shared >/tmp/shared; echo memory >/dev/shm/shared").text(sandbox).await;
    let text = sh("cat /tmp/shared /dev/shm/shared").text(sandbox).await;
    assert_eq!(text, "shared\nmemory");
}

async fn a_program_leads_a_session_and_has_no_descriptor_of_the_agent(lab: &Lab) {
    let sandbox = lab.plain().await;
    let script = "read -r pid comm state parent group session terminal rest </proc/self/stat
        echo $((session == $$)) $((group == $$)) $terminal; umask; ls /proc/$$/fd | paste -sd,";
    let text = sh(script).text(sandbox).await;
    assert_eq!(text.lines().collect::<Vec<_>>(), ["1 1 0", "0022", "0,1,2"]);
    // Pending, blocked and ignored signals; handlers are the program's own.
    let masks = "^\\(SigPnd\\|ShdPnd\\|SigBlk\\|SigIgn\\):";
    let status = argv(["grep", masks, "/proc/self/status"]).text(sandbox).await;
    assert_eq!(status.lines().count(), 4, "{status}");
    for line in status.lines() {
        assert!(line.ends_with(":\t0000000000000000"), "{status}");
    }
}
