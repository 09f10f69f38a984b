//! A database that this program has not written.

use super::*;
use crate::classified::{Classified, ErrorKind};
use crate::text::DescribeChain;

fn told(error: &StateError) -> String {
    DescribeChain(error).to_string()
}

#[test]
fn one_of_a_newer_version_is_told_and_not_touched() {
    let lab = Lab::new();
    let (id, _directory) = lab.register();
    let newer = "INSERT INTO schema_migrations VALUES ('matchlock-core', 99, 'later', '')";
    lab.state.write(|transaction| Ok(transaction.execute(newer, [])?)).expect("write");
    let error = lab.elsewhere().list().expect_err("newer");
    let text = told(&error);
    assert!(
        text.starts_with("the state of the sandboxes cannot be opened: the database "),
        "{text}"
    );
    assert!(text.contains("has version 99") && error.kind() == ErrorKind::Conflict, "{text}");
    assert_eq!(lab.status(&id), SandboxStatus::Running);
}

#[test]
fn one_that_is_none_is_told_with_what_to_do() {
    let lab = Lab::new();
    let path = lab.home.path().join(".matchlock");
    std::fs::create_dir(&path).expect("mkdir");
    std::fs::write(path.join("state.db"), "no database at all ".repeat(99)).expect("write");
    let error = lab.state.sweep().expect_err("no database");
    assert!(told(&error).contains("state.db"), "{}", told(&error));
    assert!(error.hint().is_some());
    // It is not remembered: the next try opens it anew.
    std::fs::remove_file(path.join("state.db")).expect("remove");
    lab.state.sweep().expect("a new one");
}

#[test]
fn one_that_is_damaged_inside_is_an_error_and_no_panic() {
    let lab = Lab::new();
    let (id, _directory) = lab.register();
    lab.state
        .read(|d| Ok(d.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?))
        .expect("checkpoint");
    let path = lab.home.path().join(".matchlock/state.db");
    let whole = std::fs::read(&path).expect("read");
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..][..4096].fill(0xa5);
        let copy = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(copy.path().join(".matchlock")).expect("mkdir");
        std::fs::write(copy.path().join(".matchlock/state.db"), damaged).expect("write");
        let state = StateRoot::in_home(copy.path());
        let _ = state.sweep();
        let _ = state.find(id.as_str());
        let _ = state.history(&id);
        let _ = state.remove(&id);
    }
}

#[test]
fn values_that_cannot_be_are_errors_that_name_the_place() {
    let cases = [
        ("UPDATE vms SET id = '../../etc'", "an id"),
        ("UPDATE vms SET status = 'dreaming'", "a status"),
        ("UPDATE vms SET config_json = '{'", "config_json"),
        ("UPDATE vms SET owner_json = '[]'", "owner_json"),
        ("UPDATE vms SET ending_json = '7'", "ending_json"),
    ];
    for (change, place) in cases {
        let lab = Lab::new();
        let (id, directory) = lab.register();
        std::mem::forget(directory);
        lab.own(&id, &dead());
        let change = format!("PRAGMA foreign_keys = OFF; {change}");
        lab.state.read(|database| Ok(database.execute_batch(&change)?)).expect(place);
        let error = lab.state.list().expect_err(place);
        assert!(matches!(error, StateError::Entry(at) if at == place), "{}", told(&error));
        assert!(lab.state.directory_of(&id).exists(), "nothing was removed");
    }
}

#[test]
fn a_ledger_that_lies_has_nothing_else_killed_or_removed() {
    let cases = [
        "UPDATE resources SET kind = 'home' WHERE kind = 'directory'",
        "UPDATE resources SET json = '{\"pid\":1}' WHERE kind = 'monitor'",
        "UPDATE resources SET json = '{\"pid\":0,\"start_time\":0,\"boot_id\":\"\",\"pid_namespace\":\"\"}'",
    ];
    for change in cases {
        let lab = Lab::new();
        let (_, mut monitor) = lab.abandoned();
        lab.state.write(|transaction| Ok(transaction.execute(change, [])?)).expect("change");
        // Whether it is an error or nothing depends on what is wrong.
        let _ = lab.state.sweep();
        assert_eq!(monitor.try_wait().expect("wait"), None, "{change}");
        monitor.kill().expect("kill");
        monitor.wait().expect("wait");
        assert!(lab.home.path().exists());
    }
}
