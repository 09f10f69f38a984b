//! Whom programs run as.

use matchlock_core::{ExecFailure, SandboxHandle};

use crate::lab::Lab;
use crate::run::sh;

cases![
    a_program_runs_as_the_user_and_the_groups_that_were_named,
    an_unknown_user_or_group_is_refused,
    a_program_of_another_user_owns_its_streams,
];

/// Adds an account and its groups, once.
async fn accounts(sandbox: &SandboxHandle) {
    let script = "grep -q ^mltester: /etc/passwd && exit
        echo mltester:x:4321:4320::/tmp/home-of-tester:/bin/sh >>/etc/passwd
        printf 'mlprimary:x:4320:\nmlone:x:5001:mltester\nmltwo:x:5002:root,mltester\n' >>/etc/group
        echo mlother:x:5003:nobody >>/etc/group";
    sh(script).text(sandbox).await;
}

async fn a_program_runs_as_the_user_and_the_groups_that_were_named(lab: &Lab) {
    let sandbox = lab.plain().await;
    accounts(sandbox).await;
    // User, group, all groups, home.
    let cases = [
        ("mltester", "4321 4320 4320,5001,5002 /tmp/home-of-tester"),
        ("4321", "4321 4320 4320,5001,5002 /tmp/home-of-tester"),
        ("mltester:mlother", "4321 5003 5003 /tmp/home-of-tester"),
        ("mltester:77", "4321 77 77 /tmp/home-of-tester"),
        ("4321:mlone", "4321 5001 5001 /tmp/home-of-tester"),
        ("4321:4321", "4321 4321 4321 /tmp/home-of-tester"),
        ("60123", "60123 60123 60123 /"),
        ("60123:60124", "60123 60124 60124 /"),
        (":mlone", "0 5001 5001 /root"),
        ("root", "0 0 0,5002 /root"),
        ("", "0 0 0,5002 /root"),
    ];
    for (user, expected) in cases {
        let script = "echo $(id -u) $(id -g) $(id -G | tr ' ' '\n' | sort -n | paste -sd,) $HOME";
        assert_eq!(sh(script).user(user).text(sandbox).await, expected, "{user:?}");
    }
}

async fn an_unknown_user_or_group_is_refused(lab: &Lab) {
    let sandbox = lab.plain().await;
    for user in ["nosuchuser", "root:nosuchgroup", "4294967295", "-1", "root:", "0:0:0", "0 "] {
        let failure = sh(":").user(user).refusal(sandbox).await;
        assert!(matches!(failure, ExecFailure::User(_)), "{user:?}: {failure:?}");
    }
}

async fn a_program_of_another_user_owns_its_streams(lab: &Lab) {
    let script = "echo out >/dev/stdout; echo err >/dev/stderr; echo >/dev/null; cat /dev/stdin";
    let ended = sh(script).user("nobody").input("in\n").on(lab.plain().await).await;
    assert_eq!((&*ended.out(), &*ended.err()), ("out\nin\n", "err\n"));
}
