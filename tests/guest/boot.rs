//! The two ends of a machine's life.

use std::time::Duration;

use matchlock_core::{CoreError, DescribeChain, ExitStatus};
use matchlock_testkit::{PATIENCE, leaks, wait_until};

use crate::lab::{Lab, spec};
use crate::run::{Lock, sh};

cases![
    a_stop_lets_programs_end_by_themselves_and_ends_the_others,
    a_machine_whose_agent_does_not_serve_is_an_error_that_shows_its_console,
    the_report_of_the_boot_is_in_order,
];

const GRACE: Duration = Duration::from_secs(5);

async fn a_stop_lets_programs_end_by_themselves_and_ends_the_others(lab: &Lab) {
    let sandbox = lab.own(spec().into()).await.expect("a sandbox");
    let id = sandbox.id().to_string();
    let script = "trap 'echo ending; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let mut obeying = sh(script).start(&sandbox).await;
    obeying.wait_for("ready").await;
    let mut stubborn =
        Lock::new("stop").held_after("trap '' TERM", "exec sleep 600").start(&sandbox).await;
    stubborn.wait_for("held").await;
    let (ended, _) = tokio::join!(obeying.ended(), sandbox.stop(GRACE));
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(7), "ready\nending\n"));
    let status = stubborn.execution.wait().await;
    assert!(matches!(status, Ok(ExitStatus::Signal(9)) | Err(_)), "{status:?}");
    let home = lab.home();
    wait_until("nothing is left of the machine", PATIENCE, || {
        leaks(home).iter().all(|line| !line.contains(&id)).then_some(())
    });
}

async fn a_machine_whose_agent_does_not_serve_is_an_error_that_shows_its_console(lab: &Lab) {
    // An agent with this parameter answers on its console and ends the machine.
    let started = lab.own_with(spec().into(), "matchlock.probe=instead").await;
    let error = started.expect_err("no sandbox");
    assert!(matches!(*error, CoreError::Boot { .. }), "{error:?}");
    let text = DescribeChain(&error).to_string();
    assert!(text.contains("matchlock-probe-ok instead"), "{text}");
}

async fn the_report_of_the_boot_is_in_order(lab: &Lab) {
    let times = lab.plain().await.ready().await.expect("up");
    let guest = &times.guest;
    let moments = [guest.agent_start_us, guest.config_us, guest.root_us, guest.ready_us];
    assert!(moments.is_sorted() && guest.agent_start_us > 0, "{guest:?}");
    let host = [times.prepared, times.vmm_started, times.agent_reached, times.ready];
    assert!(host.is_sorted(), "{host:?}");
}
