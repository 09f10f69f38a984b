//! Images end to end: archives and registries on one side, the store on the disk in the middle, and
//! programs in real guests on the other.
//!
//! This is its own harness, because what the cases share must be gone after the last one.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Arguments;
use matchlock_e2e::trial;
use matchlock_testkit::wait_until;

use stock::Stock;

/// The cases of a module: functions over the [`Stock`], each named by a sentence.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::Case] = &[$($crate::Case {
            module: module_path!(),
            name: stringify!($name),
            run: $name,
        }),*];
    };
}

mod build;
mod buildkit;
mod contents;
mod crashes;
mod failures;
mod fixture;
mod images;
mod registries;
mod running;
mod stock;
mod store;
mod volumes;

/// How long the last case may keep what is shared.
const LIMIT: Duration = Duration::from_secs(10);

/// One test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    module: &'static str,
    name: &'static str,
    run: fn(&Stock),
}

/// The longest first: they run beside each other.
const ALL: &[&[Case]] = &[
    build::CASES,
    contents::CASES,
    buildkit::CASES,
    fixture::CASES,
    running::CASES,
    volumes::CASES,
    registries::CASES,
    store::CASES,
    crashes::CASES,
    failures::CASES,
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut stock = Arc::new(Stock::default());
    let cases = ALL.iter().copied().flatten();
    let trials = cases.map(|&Case { module, name, run }| {
        let stock = Arc::clone(&stock);
        trial(module, name, move || run(&stock))
    });
    let trials = trials.collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    wait_until("the last case has let go of the stock", LIMIT, || {
        Arc::get_mut(&mut stock).map(std::mem::take)
    });
    conclusion.exit_code()
}
