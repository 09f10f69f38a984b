//! The network of a sandbox, seen from both sides: programs in real guests, and the servers that they
//! reach or do not reach.
//!
//! The whole target runs in a network namespace of its own, in which every address of
//! [`lab::PUBLIC_NETWORKS`] is local. So servers have public addresses and the usual ports, and
//! nothing can leave for the real network.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libtest_mimic::Arguments;
use matchlock_e2e::trial;

/// The cases of a module: functions, each named by a sentence.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::Case] = &[$($crate::Case {
            module: module_path!(),
            name: stringify!($name),
            run: $name,
        }),*];
    };
}

mod audit;
mod builds;
mod clients;
mod fronting;
mod lab;
mod leaks;
mod machine;
mod names;
mod ports;
mod protocols;
mod public;
mod raw;
mod sealed;
mod secrets;
mod servers;
mod speech;
mod trust;
mod upstream;

/// Set in the process that runs in the namespace.
const INSIDE: &str = "MATCHLOCK_NETWORK_TESTS_INSIDE";

/// One test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    module: &'static str,
    name: &'static str,
    run: fn(),
}

const ALL: &[&[Case]] = &[
    audit::CASES,
    builds::CASES,
    clients::CASES,
    fronting::CASES,
    leaks::CASES,
    names::CASES,
    ports::CASES,
    protocols::CASES,
    public::CASES,
    raw::CASES,
    sealed::CASES,
    secrets::CASES,
    speech::CASES,
    trust::CASES,
    upstream::CASES,
];

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    lab::prepare_namespace();
    let arguments = Arguments::from_args();
    let cases = ALL.iter().copied().flatten();
    let trials = cases.map(|&Case { module, name, run }| trial(module, name, run)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    machine::end_all();
    conclusion.exit_code()
}

/// Runs this program once more, in a network namespace of its own.
fn enter() -> ExitCode {
    let own = std::env::current_exe().expect("known");
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !is_root {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(own).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    let error = command.exec();
    panic!("cannot run unshare: {error}");
}
