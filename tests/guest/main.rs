//! The guest, driven through the core library: a few VMs shared by all cases.
//!
//! This is its own harness, because the VMs must end after the last case and before the check that
//! nothing of them is left.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Arguments;
use matchlock_e2e::trial;
use matchlock_testkit::wait_until;

use lab::{Footprint, Lab};

/// The cases of a module: async functions over the [`Lab`], each named by a sentence.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::Case] = &[$($crate::Case {
            module: module_path!(),
            name: stringify!($name),
            run: |lab| lab.block_on(stringify!($name), $name(lab)),
        }),*];
    };
}

mod background;
mod boot;
mod cancel;
mod confinement;
mod cpu_limit;
mod disks;
mod docker;
mod environment;
mod exit_status;
mod export;
mod hardening;
mod host_image;
mod host_writes;
mod image;
mod images;
mod isolation;
mod lab;
mod lookup;
mod masks;
mod run;
mod streams;
mod system;
mod terminal;
mod users;
mod vsock;
mod working_directory;

/// How long a machine that has ended may leave anything.
const LEAK_LIMIT: Duration = Duration::from_secs(10);

/// One test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    module: &'static str,
    name: &'static str,
    run: fn(&Lab),
}

const ALL: &[&[Case]] = &[
    exit_status::CASES,
    streams::CASES,
    terminal::CASES,
    users::CASES,
    working_directory::CASES,
    environment::CASES,
    lookup::CASES,
    isolation::CASES,
    cancel::CASES,
    confinement::CASES,
    docker::CASES,
    background::CASES,
    hardening::CASES,
    cpu_limit::CASES,
    vsock::CASES,
    masks::CASES,
    host_image::CASES,
    host_writes::CASES,
    system::CASES,
    boot::CASES,
    images::CASES,
    disks::CASES,
    export::CASES,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // The first runtime of a process makes what all runtimes share and what stays (signals).
    drop(Lab::new());
    let before = Footprint::now();
    let mut lab = Arc::new(Lab::new());
    let cases = ALL.iter().copied().flatten();
    let trials = cases.map(|&Case { module, name, run }| {
        let lab = Arc::clone(&lab);
        trial(module, name, move || run(&lab))
    });
    let trials = trials.collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    wait_until("the last case has let go of the lab", LEAK_LIMIT, || {
        Arc::get_mut(&mut lab).map(|lab| lab.tear_down(&before, LEAK_LIMIT))
    });
    conclusion.exit_code()
}
