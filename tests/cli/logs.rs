//! `log`: what a sandbox has written, while it runs and after that.

use matchlock_testkit::{Finished, Lab, PATIENCE, wait_until};
use serde_json::Value;

use crate::support::{sandboxes, sh};

const SECRET: &str = "canary-31d7";

/// Bytes that are no text, on both streams, and then nothing until it is told to go on.
const SCRIPT: &str = "printf 'out \\377\\0\\n'; printf 'err\\n' >&2; echo $API_KEY; \
    while ! test -e /tmp/go; do sleep 0.1; done; echo last; exit 3";

fn matchlock(lab: &Lab, line: &str) -> Finished {
    lab.matchlock(&line.split(' ').collect::<Vec<_>>()).finish()
}

/// A sandbox in the background that was given a secret.
fn detached(lab: &Lab) -> String {
    let secret = format!("API_KEY={SECRET}@api.example.com");
    let flags = ["-d", "--name", "web", "--secret", &secret];
    sh(lab, &flags, SCRIPT).finish().expect(0).out().trim().to_owned()
}

#[test]
fn the_output_of_a_command_in_the_background_is_read_followed_and_kept() {
    let lab = Lab::new();
    let id = detached(&lab);
    let wanted = |placeholder: &str| format!("{placeholder}\n").into_bytes();
    let first = wait_until("the first output", PATIENCE, || {
        let read = matchlock(&lab, "log --source command web").expect(0);
        read.stdout.ends_with(b"\n").then_some(()).filter(|()| read.stdout.len() > 7)?;
        read.err().contains("err").then_some(read)
    });
    let placeholder = String::from_utf8(first.stdout[7..].to_vec()).expect("text");
    let placeholder = placeholder.trim_end();
    assert!(placeholder.starts_with("SANDBOX_SECRET_"), "{placeholder}");
    assert_eq!(first.stdout, [b"out \xff\0\n", &wanted(placeholder)[..]].concat());
    assert_eq!(first.err(), "err\n");
    let last = matchlock(&lab, "logs --tail 1 --source command web").expect(0);
    assert!(last.out().lines().count() + last.err().lines().count() == 1, "{}", last.out());
    assert_eq!(matchlock(&lab, "log --since 2999-01-01T00:00:00Z web").expect(0).out(), "");

    let following = lab.matchlock(&["logs", "-f", "--source", "command", "web"]).spawn();
    matchlock(&lab, "exec web touch /tmp/go").expect(0);
    wait_until("the last line", PATIENCE, || {
        matchlock(&lab, "log web").expect(0).out().ends_with("last\n").then_some(())
    });
    assert_eq!(matchlock(&lab, "stop web").expect(0).out(), format!("Stopped {id}\n"));
    let followed = following.finish(PATIENCE).expect(0);
    assert_eq!(followed.stdout, [&first.stdout[..], b"last\n"].concat(), "it ends by itself");
    assert_eq!(followed.err(), "err\n");

    // After the end, too, and as JSON.
    let kept = matchlock(&lab, "log -f --source command web").expect(0);
    assert_eq!(kept.stdout, followed.stdout);
    let json = matchlock(&lab, "log --json --source command web").expect(0).out();
    let records: Vec<Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |source: &str| {
        let of = records.iter().filter(|record| record["source"] == source);
        of.filter_map(|record| record["text"].as_str()).collect::<String>()
    };
    assert_eq!(of("stderr"), "err\n");
    assert!(of("stdout").ends_with("last\n"), "{json}");
    let directory = lab.home().join(".matchlock/vms").join(&id);
    // The disk is the guest's, which has none.
    let files = std::fs::read_dir(&directory).expect("list").flatten();
    for entry in files.filter(|entry| entry.file_name() != "upper.ext4") {
        let bytes = std::fs::read(entry.path()).expect("read");
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the value of the secret is in {}", entry.path().display());
    }
    matchlock(&lab, "rm web").expect(0);
    let gone = matchlock(&lab, "log web").expect(1);
    assert_eq!(gone.err().lines().next(), Some("Error: VM not found web: VM web not found"));
    assert_eq!(sandboxes(&lab), Vec::<String>::new());
}

#[test]
fn a_start_that_failed_in_the_background_left_its_log_and_a_missing_log_is_empty() {
    let lab = Lab::new();
    let failed = lab.run(&["-d", "--name", "web"], &["no-such-program"]).finish().expect(1);
    assert!(failed.err().contains("program not found in the guest"), "{}", failed.err());
    assert_eq!(matchlock(&lab, "log --source command web").expect(0).out(), "");
    let id = sandboxes(&lab).pop().expect("a directory");
    let log = lab.home().join(".matchlock/vms").join(&id).join("log.jsonl");
    let _ = std::fs::remove_file(log);
    let none = matchlock(&lab, "log web").expect(0);
    assert_eq!((none.out(), none.err()), (String::new(), String::new()));
    assert_eq!(matchlock(&lab, "prune").expect(0).out(), format!("Pruned {id}\nPruned 1 VMs\n"));
}
