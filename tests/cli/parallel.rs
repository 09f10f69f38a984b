//! Sandboxes beside each other.

use std::collections::BTreeSet;

use matchlock_testkit::{Lab, Running};
use std::time::Duration;

use crate::support::{sandboxes, sh};

/// Twelve emulated boots on two CPUs take as long as twelve in a row.
const LONG: Duration = Duration::from_secs(500);

#[test]
fn twelve_sandboxes_of_one_user_run_at_once_and_do_not_see_each_other() {
    const MANY: usize = 12;
    let lab = Lab::new();
    let flags = ["-i", "--cpus", "1", "--memory", "128", "--timeout", "0"];
    // Each holds its file until all of them run.
    let script = "uname -n | tee /etc/mine; read -r go; cat /etc/mine; ls /etc/mine* | wc -l";
    let start = |_| sh(&lab, &flags, script).piped().spawn();
    let mut running: Vec<Running> = (0..MANY).map(start).collect();
    for one in &mut running {
        one.wait_for("vm-", LONG);
    }
    assert_eq!(sandboxes(&lab).len(), MANY, "all at once");
    let mut names = BTreeSet::new();
    for mut one in running {
        one.write(b"go\n");
        let out = one.finish(LONG).expect(0).out();
        let lines: Vec<&str> = out.lines().collect();
        let [name, mine, "1"] = *lines else { panic!("three lines: {out}") };
        assert_eq!(name, mine, "its own file");
        names.insert(name.to_owned());
    }
    assert_eq!(names.len(), MANY, "{names:?}");
}
