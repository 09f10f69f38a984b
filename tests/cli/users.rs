//! Who the program runs as, and who runs the sandbox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use matchlock_testkit::{Lab, binary, skip};

use crate::support::sh;

const WHO: &str = "id -u; id -g; echo $HOME";

#[test]
fn a_name_is_looked_up_and_numbers_are_taken_as_they_are() {
    let lab = Lab::new();
    let passwd = fs::read_to_string("/etc/passwd").expect("read");
    let daemon = passwd.lines().find(|line| line.starts_with("daemon:")).expect("an old friend");
    let fields: Vec<&str> = daemon.split(':').collect();
    let by_name = format!("{}\n{}\n{}\n", fields[2], fields[3], fields[5]);
    for (user, expected) in [("daemon", &*by_name), ("4242:17", "4242\n17\n/\n")] {
        let finished = sh(&lab, &["-u", user], WHO).finish().expect(0);
        assert_eq!(finished.out(), expected, "{user}");
    }
}

#[test]
fn an_unknown_user_is_an_error_that_names_it() {
    let lab = Lab::new();
    let finished = sh(&lab, &["-u", "nobody-here"], WHO).finish().expect(125);
    let err = finished.err();
    assert_eq!(err.lines().filter(|line| line.starts_with("Error: ")).count(), 1, "{err}");
    assert!(err.contains("nobody-here"), "{err}");
    assert_eq!(finished.out(), "", "nothing ran");
}

#[test]
fn nobody_needs_to_be_root_to_run_a_sandbox() {
    const SOMEBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return skip("this user is not root: every other test shows it");
    }
    let lab = Lab::new();
    // Where that user may reach it, whatever the permissions of the build directory.
    let copy = lab.home().join("matchlock");
    fs::copy(binary(), &copy).expect("copy");
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("chmod");
    chown(lab.home(), Some(SOMEBODY), Some(SOMEBODY)).expect("chown");
    let id = SOMEBODY.to_string();
    let setpriv = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"];
    let script = "id -u; touch /etc/new && ls /etc/new";
    let finished = sh(&lab, &[], script).program(&copy).under(&setpriv).finish().expect(0);
    assert_eq!(finished.out(), "0\n/etc/new\n", "root inside, whoever is outside");
    assert!(!fs::exists("/etc/new").expect("stat"), "and only inside");
}
